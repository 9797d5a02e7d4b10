"""Entries in Redis, which any number of sidecars may share.

Only single-key commands are used: the same works on a Cluster, and an ACL can be narrow (`deploy/redis/users.acl`).
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

from ai_cache_extproc.clients.redis.client import RedisClient
from ai_cache_extproc.clients.redis.link import ReplyError
from ai_cache_extproc.clients.redis.opening import client_of
from ai_cache_extproc.config.stores import RedisStore as Settings
from ai_cache_extproc.errors import BackendRejected
from ai_cache_extproc.model import BreakerState
from ai_cache_extproc.stores.base import ChangeListener, Claim, Scan, StoreStats

_IDENTITY_KEY = "identity-key"
_IDENTITY_KEY_BYTES = 32
_REFUSED = b"refused"


class RedisStore:
    """A Store, KeyKeeper, LeaseKeeper, MarkKeeper, Scanning and ChangeFeed. `tend` must run beside whoever asks."""

    name = "redis"

    def __init__(self, client: RedisClient, *, prefix: str) -> None:
        """prefix: before the names of everything that this store makes up itself; entries come with theirs."""
        self._client = client
        self._prefix = prefix

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        settings: Settings,
        *,
        prefix: str,
        breaker_watch: Callable[[str, str, BreakerState | None], None],
        heard: tuple[str, ...] = (),
    ) -> AsyncIterator[RedisStore]:
        """Yield a store that connects once it is tended: a server that is not there delays nobody's start.

        heard: prefixes of the keys whose changes are to be told, `prefix` without any.
        """
        client = client_of(
            settings,
            heard=(heard or (prefix,)) if settings.tracking else (),
            breaker_changed=partial(breaker_watch, cls.name),
        )
        yield cls(client, prefix=prefix)

    async def tend(self) -> None:
        """Keep the connections up until cancelled."""
        await self._client.tend()

    async def get(self, key: str) -> bytes | None:
        """The value, or None when it is absent or past its lifetime. What is no string is given as b""."""
        try:
            return _value("get", await self._client.read(key, "GET", key))
        except BackendRejected as error:
            if _is_no_string(error):
                # Not an entry: whoever reads it deletes it, as any other value that does not check.
                return b""
            raise

    async def set(self, key: str, value: bytes, *, ttl_s: float) -> None:
        """Put a value in place of any other. What Redis has no memory for raises BackendRejected."""
        lifetime: tuple[str | int, ...] = () if math.isinf(ttl_s) else ("PX", _ms(ttl_s))
        await self._client.write(key, "SET", key, value, *lifetime)

    async def delete(self, key: str) -> bool:
        """Remove a value; true if there was one."""
        return await self._client.write(key, "DEL", key) == 1

    async def check(self) -> None:
        """Return if every server answers."""
        await self._client.of_every_server("PING")

    async def stats(self) -> StoreStats:
        """All keys of the database, of others too, and the servers' whole memory: Redis keeps no count by prefix."""
        entries = 0
        for size in await self._client.of_every_server("DBSIZE"):
            if not isinstance(size, int):
                raise _odd("stats", size)
            entries += size
        used_bytes = bytes_max = 0
        for text in await self._client.of_every_server("INFO", "memory"):
            facts = _facts(text)
            used_bytes += facts.get("used_memory", 0)
            bytes_max += facts.get("maxmemory", 0)
        return StoreStats(entries=entries, bytes=used_bytes, bytes_max=bytes_max)

    async def facts(self) -> list[dict[str, str]]:
        """What each server says of itself (INFO): version, clock, memory and how it makes room. For `doctor`."""
        server = await self._client.of_every_server("INFO", "server")
        memory = await self._client.of_every_server("INFO", "memory")
        return [_fields(one) | _fields(other) for one, other in zip(server, memory, strict=True)]

    async def identity_key(self, proposed: bytes | None = None) -> bytes:
        """The key that all who share the prefix use; put there by the first (`SET NX`)."""
        name = self._prefix + _IDENTITY_KEY
        await self._client.read(name, "SET", name, proposed or os.urandom(_IDENTITY_KEY_BYTES), "NX")
        kept = await self._client.read(name, "GET", name)
        if isinstance(kept, bytes) and len(kept) == _IDENTITY_KEY_BYTES:
            return kept
        raise BackendRejected(self.name, "identity_key", f"{name} is not {_IDENTITY_KEY_BYTES} bytes; delete it")

    async def get_with_mark(self, key: str, mark: str) -> tuple[bytes | None, bytes | None]:
        """Both in one write; on a Cluster they are on two servers, and the mark may be asked for a moment earlier."""
        try:
            value, found = await self._client.read_together("GET", key, mark)
        except BackendRejected as error:
            if not _is_no_string(error):
                raise
            return await self.get(key), await self.mark(mark)
        return _value("get", value), _value("mark", found)

    async def mark(self, mark: str) -> bytes | None:
        """The mark of that name."""
        return _value("mark", await self._client.read(mark, "GET", mark))

    async def change_mark(self, mark: str, old: bytes | None, new: bytes) -> bool:
        """Under WATCH."""
        return await self._client.compare_and_do("change_mark", mark, old, "SET", mark, new)

    async def scan(self, prefix: str, *, cursor: str, count: int) -> Scan:
        """Server by server. One that is gone since, as after a failover, makes the walk begin again."""
        servers = self._client.servers()
        server, _, place = cursor.rpartition("|")
        if not (place.isascii() and place.isdigit()) if cursor else False:
            raise ValueError(f"{cursor!r} is no cursor of a walk")
        if server not in servers:
            server, place = servers[0], "0"
        pattern = "".join(f"\\{each}" if each in "*?[]\\^" else each for each in prefix) + "*"
        reply = await self._client.of_server(server, "SCAN", place, "MATCH", pattern, "COUNT", count)
        if not (isinstance(reply, list) and len(reply) == 2 and isinstance(reply[0], bytes)):
            raise _odd("scan", reply)
        # No key of ours is anything but text.
        keys = tuple(key.decode() for key in reply[1] if _is_text(key))
        if reply[0] != b"0":
            return Scan(keys, f"{server}|{reply[0].decode()}")
        following = servers[servers.index(server) + 1 :]
        return Scan(keys, f"{following[0]}|0" if following else "")

    async def heads(self, keys: Sequence[str], *, bytes_max: int) -> list[bytes]:
        """The first bytes of the values; what is no string has none."""
        asked = (self._client.write(key, "GETRANGE", key, 0, bytes_max - 1) for key in keys)
        heads = []
        for reply in await asyncio.gather(*asked, return_exceptions=True):
            if isinstance(reply, BaseException):
                if not (isinstance(reply, BackendRejected) and _is_no_string(reply)):
                    raise reply
                heads.append(b"")
            else:
                heads.append(_value("heads", reply) or b"")
        return heads

    async def claim_lease(self, key: str, holder: bytes, *, ttl_s: float) -> Claim:
        """SET NX; where that fails, who has it."""
        if await self._client.read(key, "SET", key, holder, "NX", "PX", _ms(ttl_s)) is not None:
            return Claim.TAKEN
        found = await self._client.read(key, "GET", key)
        if found == holder:
            return Claim.TAKEN
        return Claim.REFUSED if found == _REFUSED else Claim.HELD

    async def release_lease(self, key: str, holder: bytes) -> None:
        """Delete the lease under WATCH: by then it may have expired and be another's."""
        await self._client.compare_and_delete(key, holder)

    async def refuse_lease(self, key: str, *, ttl_s: float) -> None:
        """Put a mark in the lease's place."""
        await self._client.write(key, "SET", key, _REFUSED, "PX", _ms(ttl_s))

    def follow(self, listener: ChangeListener) -> None:
        """Tell this listener of every change under the prefix."""
        self._client.on_change = listener.changed
        self._client.on_hearing = listener.hearing
        listener.hearing(self._client.hearing)


def _ms(seconds: float) -> int:
    return max(1, int(seconds * 1000))


def _facts(text: object) -> dict[str, int]:
    """The whole numbers of an INFO reply."""
    return {name: int(value) for name, value in _fields(text).items() if value.isdigit()}


def _fields(text: object) -> dict[str, str]:
    """An INFO reply, line by line."""
    if not isinstance(text, bytes):
        raise _odd("stats", text)
    pairs = (line.partition(":") for line in text.decode("utf-8", "replace").splitlines())
    return {name: value for name, _, value in pairs}


def _value(operation: str, reply: object) -> bytes | None:
    if reply is None or isinstance(reply, bytes):
        return reply
    raise _odd(operation, reply)


def _is_text(key: bytes) -> bool:
    try:
        key.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_no_string(error: BackendRejected) -> bool:
    return isinstance(error.__cause__, ReplyError) and error.__cause__.code == "WRONGTYPE"


def _odd(operation: str, reply: object) -> BackendRejected:
    return BackendRejected("redis", operation, f"an odd reply ({type(reply).__name__})")
