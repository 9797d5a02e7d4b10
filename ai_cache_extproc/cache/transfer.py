"""Entries on their way out of a store and into another, under the names that both give them.

The name of an entry is made with the identity key, so that it means something only where that key is the same. What comes
in is judged by the purges of this store and by its own time: its numbers are those of the store it came from.
"""

from __future__ import annotations

import asyncio
import hmac
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

from ai_cache_extproc.cache.formats.base import Format
from ai_cache_extproc.cache.marks import Marks
from ai_cache_extproc.cache.purges import Purges
from ai_cache_extproc.config.rules import TTL_S_MAX
from ai_cache_extproc.errors import BackendRejected, BackendTimeout, BackendUnavailable
from ai_cache_extproc.keys.identity import Keyring, key_of
from ai_cache_extproc.model import Alias, Entry, Identity
from ai_cache_extproc.stores.base import Store

PAGE_BYTES_MAX = 8 * 1024 * 1024
"""Of values that are given at once, unless one alone is longer."""
VALUE_BYTES_MAX = 11 * 1024 * 1024
"""A longer value is not given: in Base64 it is more than one worker hands to another."""

LEARNING_S_MAX = 2.0
"""How long a call waits for what is learned beside it: less than a worker is waited for."""

_INLINE_BYTES = 64 * 1024
"""Reading a larger value takes longer than others may wait; it moves to a thread."""
_MARK_VERSION = b"aicache identity mark 1"
_NAME = re.compile(r"\d{1,19}:(?P<scope>[0-9a-f]{16}):(?P<digest>[0-9a-f]{64})", re.ASCII)


class Kept(StrEnum):
    """What became of one entry, on its way in or out."""

    ALIAS = "alias"
    DONE = "done"
    GONE = "gone"
    KNOWN = "known"
    EXPIRED = "expired"
    PURGED = "purged"
    TOO_LARGE = "too_large"
    UNREADABLE = "unreadable"
    LATER = "later"


@dataclass(frozen=True, slots=True)
class Packed:
    """A stored value, as it stands under its key."""

    key: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose names entries have. mark: of the identity key, which it does not tell. sealed: whether values are encrypted."""

    mark: str
    prefix: str
    sealed: bool


class Learning(Protocol):
    """What else is to know of entries that come in, as an index."""

    def offer(self, identity: Identity, entry: Entry) -> None:
        """Take one, if there is room in its queue."""
        ...

    async def drain(self) -> None:
        """Wait until the queue is empty."""
        ...


class Transfer:
    """Gives and takes entries of our own layout. Every method raises BackendError."""

    def __init__(
        self,
        store: Store,
        purges: Purges,
        *,
        prefix: str,
        native: Format,
        sealed: bool,
        clock: Callable[[], float],
        write_timeout_s: float,
        beside: Learning | None = None,
    ) -> None:
        """native: of our own layout; sealed: whether it encrypts. clock: seconds since the epoch.

        beside: told of what came in, as of every other entry.
        """
        self._store = store
        self._purges = purges
        self._prefix = prefix
        self._native = native
        self._sealed = sealed
        self._clock = clock
        self._write_timeout_s = write_timeout_s
        self._beside = beside

    def origin(self) -> Origin:
        """Whose names the entries here have. Raises BackendUnavailable as long as there is no identity key."""
        secret = self._keyring().secret
        return Origin(hmac.digest(secret, _MARK_VERSION, "sha256").hex()[:32], self._prefix, self._sealed)

    # Out.

    async def give(self, keys: Sequence[str]) -> tuple[list[Packed], dict[str, Kept]]:
        """Those of the entries that a lookup would find at this moment; of all others, why they are left out."""
        await self._look()
        packed: list[Packed] = []
        left_out: dict[str, Kept] = {}
        room = PAGE_BYTES_MAX
        for key in dict.fromkeys(keys):
            # Whatever else runs here comes first.
            await asyncio.sleep(0)
            if room <= 0:
                left_out[key] = Kept.LATER
                continue
            found = await self._found(key)
            if isinstance(found, Kept):
                left_out[key] = found
            elif packed and len(found) > room:
                left_out[key] = Kept.LATER
            else:
                packed.append(Packed(key, found))
                room -= len(found)
        return packed, left_out

    async def _found(self, key: str) -> bytes | Kept:
        identity = self._named(key)
        if identity is None or identity.key != key:
            # Nothing else under this prefix is given away: the identity key stands there too.
            return Kept.GONE
        value = await self._store.get(key)
        if value is None:
            return Kept.GONE
        if len(value) > VALUE_BYTES_MAX:
            return Kept.TOO_LARGE
        entry = await self._read(value, identity)
        if not isinstance(entry, Entry):
            return Kept.UNREADABLE if entry is None else Kept.ALIAS
        if not entry.fresh(self._clock()):
            return Kept.EXPIRED
        return Kept.PURGED if self._purges.forbid(identity, entry) else value

    # In.

    async def take(self, packed: Sequence[Packed]) -> list[Kept]:
        """Keep what is whole, alive and not purged here, unless something as new is kept already."""
        marks = await self._look()
        outcomes = []
        for each in packed:
            await asyncio.sleep(0)
            outcomes.append(await self._taken(each, marks))
        if self._beside is not None:
            # Whoever sends the next ones waits, so that the queue has room for them.
            with suppress(TimeoutError):
                async with asyncio.timeout(LEARNING_S_MAX):
                    await self._beside.drain()
        return outcomes

    async def _taken(self, packed: Packed, marks: Marks) -> Kept:
        here = self._named(packed.key)
        if here is None:
            return Kept.UNREADABLE
        entry = await self._read(packed.value, replace(here, key=packed.key))
        if not isinstance(entry, Entry):
            return Kept.UNREADABLE
        now_s = self._clock()
        captures = entry.fresh(now_s)
        if not captures:
            return Kept.EXPIRED
        if marks.reach(here, entry):
            return Kept.PURGED
        # A purge that is made from here on holds for it, as it does for an answer that is on its way.
        entry = replace(entry, captures=captures, purges=marks.number)
        if await self._knows(here, entry):
            return Kept.KNOWN
        ttl_s = min(entry.expires_s - now_s, TTL_S_MAX)
        try:
            async with asyncio.timeout(self._write_timeout_s):
                await self._store.set(here.key, await self._written(entry, here), ttl_s=ttl_s)
        except TimeoutError as error:
            raise BackendTimeout("store", "set", f"no answer in {self._write_timeout_s} s") from error
        if self._beside is not None:
            self._beside.offer(here, entry)
        return Kept.DONE

    async def _knows(self, identity: Identity, entry: Entry) -> bool:
        value = await self._store.get(identity.key)
        known = None if value is None else await self._read(value, identity)
        if not isinstance(known, Entry) or self._purges.forbid(identity, known):
            return False
        return _newest_s(known) >= _newest_s(entry)

    # Both.

    def _named(self, key: str) -> Identity | None:
        """Where the entry of this name is kept here at this moment; None for a name that we never give."""
        name = _NAME.fullmatch(key, len(self._prefix)) if key.startswith(self._prefix) else None
        if name is None:
            return None
        own = key_of(self._keyring(), name["scope"], name["digest"])
        return Identity(own, bytes.fromhex(name["digest"]), "")

    async def _read(self, value: bytes, identity: Identity) -> Entry | Alias | None:
        """The entry, or what only points to one; None for what does not check."""
        try:
            if len(value) > _INLINE_BYTES:
                return await asyncio.to_thread(self._native.decode, value, identity)
            return self._native.decode(value, identity)
        except BackendRejected:
            return None

    async def _written(self, entry: Entry, identity: Identity) -> bytes:
        if entry.size_bytes > _INLINE_BYTES:
            return await asyncio.to_thread(self._native.encode, entry, identity)
        return self._native.encode(entry, identity)

    async def _look(self) -> Marks:
        """The purges as they are now."""
        if not await self._purges.look():
            raise BackendUnavailable("store", "mark", "the record of purges cannot be read; try again")
        return self._purges.marks

    def _keyring(self) -> Keyring:
        ring = self._purges.current
        if ring is None:
            raise BackendUnavailable("store", "identity_key", "there is no identity key yet; try again")
        return ring


def _newest_s(entry: Entry) -> float:
    return max(captured.created_s for captured in entry.captures)
