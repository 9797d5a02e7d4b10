"""A store that keeps each entry in a file of its own: for a folder that several machines mount, or one in memory.

It shows what a store of your own must do: bytes under a key with a lifetime, and one identity key for all who share it.
"""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import math
import os
import re
import struct
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import Field

from ai_cache_extproc.config.stores import PluginStore
from ai_cache_extproc.errors import BackendUnavailable
from ai_cache_extproc.plugins import StorePlugin
from ai_cache_extproc.stores.base import Scan, StoreStats

_HEAD = struct.Struct("!dI")
"""When the entry expires, in seconds since the epoch, and how long its key is. The key follows, then the value."""
_SUFFIX = ".entry"
_NAME = re.compile(r"[0-9a-f]{64}\.entry")

Result = TypeVar("Result")


class FilesStore(PluginStore):
    """What may stand beside `type: files`. An unknown key is refused with the line where it stands."""

    type: Literal["files"]
    folder: Path
    """Made with mode 0700 if it is not there."""
    sweep_s: float = Field(60, gt=0)
    """How often expired entries are looked for and removed."""


class Files:
    """A Store and KeyKeeper, Tended and Scanning. Nothing here blocks the event loop: each call runs in a thread."""

    name = "files"

    def __init__(self, settings: FilesStore, *, clock: Callable[[], float]) -> None:
        """clock: seconds since the epoch."""
        self._folder = settings.folder
        self._sweep_s = settings.sweep_s
        self._clock = clock

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        settings: FilesStore,
        *,
        prefix: str,  # noqa: ARG003 - for names of its own in what it shares with others; this folder is nobody else's
        clock: Callable[[], float],
    ) -> AsyncIterator[Files]:
        """Yield the store. Raises BackendUnavailable."""
        store = cls(settings, clock=clock)
        await store._do("open", lambda: settings.folder.mkdir(mode=0o700, parents=True, exist_ok=True))
        yield store

    async def get(self, key: str) -> bytes | None:
        """The value, or None when it is absent or past its lifetime."""
        return await self._do("get", lambda: self._read(key))

    async def set(self, key: str, value: bytes, *, ttl_s: float) -> None:
        """Put a value in place of any other. A folder has no bound, so nothing makes room."""
        expires_s = self._clock() + ttl_s
        await self._do("set", lambda: self._write(key, value, expires_s))

    async def delete(self, key: str) -> bool:
        """Remove a value; true if there was one."""
        return await self._do("delete", lambda: self._forget(key))

    async def check(self) -> None:
        """Return if the folder can be read and written."""
        await self._do("check", self._try)

    async def stats(self) -> StoreStats:
        """Count what has not expired."""
        return await self._do("stats", self._count)

    async def identity_key(self, proposed: bytes | None = None) -> bytes:
        """The key of whoever came first; all who share the folder get that one."""
        return await self._do("identity_key", lambda: self._agree(proposed or os.urandom(32)))

    async def scan(self, prefix: str, *, cursor: str, count: int) -> Scan:
        """The keys of `count` files in the order of their names; cursor: the name of the last one."""
        if cursor and not _NAME.fullmatch(cursor):
            raise ValueError(f"no place to go on from: {cursor!r}")
        return await self._do("scan", lambda: self._walk(prefix, cursor, count))

    async def heads(self, keys: Sequence[str], *, bytes_max: int) -> list[bytes]:
        """The first bytes of the values, the rest of which is not read."""
        return await self._do("heads", lambda: [self._read(key, bytes_max=bytes_max) or b"" for key in keys])

    async def tend(self) -> None:
        """Remove what has expired, until cancelled. Beside KeyKeeper this is what `Tended` asks for."""
        while True:
            await asyncio.sleep(self._sweep_s)
            with suppress(BackendUnavailable):
                await self._do("sweep", self._sweep)

    async def _do(self, operation: str, work: Callable[[], Result]) -> Result:
        """Do it in a thread, with its errors as those that the cache knows: any other would be taken for a bug."""
        with _as_ours(operation):
            return await asyncio.to_thread(work)

    # In a thread from here on.

    def _path(self, key: str) -> Path:
        # A key may hold any ASCII character; a name of a file may not.
        return self._folder / (hashlib.sha256(key.encode()).hexdigest() + _SUFFIX)

    def _read(self, key: str, *, bytes_max: int | None = None) -> bytes | None:
        size = -1 if bytes_max is None else _HEAD.size + len(key.encode()) + bytes_max
        try:
            with self._path(key).open("rb") as file:
                kept = file.read(size)
        except FileNotFoundError:
            return None
        head = self._head_of(kept)
        if head is None or head[0] <= self._clock():
            return None
        begin = _HEAD.size + head[1]
        return kept[begin:] if kept[_HEAD.size : begin] == key.encode() else None

    def _walk(self, prefix: str, cursor: str, count: int) -> Scan:
        names = heapq.nsmallest(count, (each.name for each in self._folder.glob(f"*{_SUFFIX}") if each.name > cursor))
        keys = (key for name in names if (key := self._key_in(name)) is not None and key.startswith(prefix))
        return Scan(tuple(keys), names[-1] if len(names) == count else "")

    def _key_in(self, name: str) -> str | None:
        """The key of the entry in this file, unless it has expired or gone."""
        try:
            with (self._folder / name).open("rb") as file:
                head = self._head_of(file.read(_HEAD.size))
                return None if head is None or head[0] <= self._clock() else file.read(head[1]).decode()
        except FileNotFoundError:
            return None

    def _forget(self, key: str) -> bool:
        was_there = self._read(key) is not None
        self._remove(self._path(key))
        return was_there

    def _write(self, key: str, value: bytes, expires_s: float) -> None:
        name = key.encode()
        # Whole or not at all, also for those who read at this moment.
        with tempfile.NamedTemporaryFile(dir=self._folder, delete=False) as file:
            try:
                file.write(_HEAD.pack(expires_s, len(name)) + name + value)
                file.close()
                Path(file.name).replace(self._path(key))
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise

    def _try(self) -> None:
        with tempfile.NamedTemporaryFile(dir=self._folder):
            pass

    def _count(self) -> StoreStats:
        living = [size for _, size, expires_s in self._entries() if expires_s > self._clock()]
        return StoreStats(entries=len(living), bytes=sum(living), bytes_max=0)

    def _sweep(self) -> None:
        for path, _, expires_s in self._entries():
            if expires_s <= self._clock():
                self._remove(path)

    def _entries(self) -> Iterator[tuple[Path, int, float]]:
        """Each file with its size and when it expires; at once, where it is no entry."""
        for path in self._folder.glob(f"*{_SUFFIX}"):
            with suppress(FileNotFoundError), path.open("rb") as file:
                head = self._head_of(file.read(_HEAD.size))
                yield path, path.stat().st_size, -math.inf if head is None else head[0]

    def _agree(self, proposed: bytes) -> bytes:
        path = self._folder / "identity.key"
        descriptor, written = tempfile.mkstemp(dir=self._folder)
        with os.fdopen(descriptor, "wb") as file:
            file.write(proposed)
        try:
            # A link is made by one alone, and holds the whole key at once. The file has mode 0600.
            with suppress(FileExistsError):
                path.hardlink_to(written)
        finally:
            Path(written).unlink()
        return path.read_bytes()

    @staticmethod
    def _remove(path: Path) -> None:
        path.unlink(missing_ok=True)

    @staticmethod
    def _head_of(kept: bytes) -> tuple[float, int] | None:
        if len(kept) < _HEAD.size:
            return None
        expires_s, name_bytes = _HEAD.unpack_from(kept)
        return float(expires_s), int(name_bytes)


@contextmanager
def _as_ours(operation: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BackendUnavailable("files", operation, error.strerror or str(error)) from error


PLUGIN = StorePlugin(settings=FilesStore, open=Files.open)
