"""Entries in Redis, which any number of sidecars may share.

Only single-key commands are used: the same works on a Cluster, and an ACL can be narrow (`deploy/redis/users.acl`).
"""

from __future__ import annotations

import math
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

from ai_cache_extproc.clients.redis.address import Login, Server, Tls
from ai_cache_extproc.clients.redis.client import RedisClient
from ai_cache_extproc.clients.redis.link import ReplyError
from ai_cache_extproc.clients.redis.node import NodeOptions
from ai_cache_extproc.clients.redis.topology import ClusterSlots, OneServer, SentinelMaster, Topology
from ai_cache_extproc.config.stores import REDIS_PORT, SENTINEL_PORT, Sentinel
from ai_cache_extproc.config.stores import RedisStore as Settings
from ai_cache_extproc.errors import BackendRejected
from ai_cache_extproc.model import BreakerState
from ai_cache_extproc.stores.base import ChangeListener, Claim, StoreStats

_IDENTITY_KEY = "identity-key"
_IDENTITY_KEY_BYTES = 32
_REFUSED = b"refused"
_SILENCE_S = 3.0
_REPLY_BYTES_MAX = 64 * 1024 * 1024


class RedisStore:
    """A Store, KeyKeeper, LeaseKeeper and ChangeFeed. `tend` must run beside whoever asks."""

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
        options = NodeOptions(
            login=_login(settings.login_name, settings),
            tls=_tls(settings),
            database=settings.database,
            prefixes=(heard or (prefix,)) if settings.tracking else (),
            timeout_s=settings.timeout_ms / 1000,
            write_timeout_s=settings.write_timeout_ms / 1000,
            connect_timeout_s=settings.connect_timeout_ms / 1000,
            probe_s=settings.probe_ms / 1000,
            silence_s=_SILENCE_S,
            reply_bytes_max=_REPLY_BYTES_MAX,
            failures_max=settings.failures_max,
        )
        yield cls(
            RedisClient(_topology(settings), options, breaker_changed=partial(breaker_watch, cls.name)), prefix=prefix
        )

    async def tend(self) -> None:
        """Keep the connections up until cancelled."""
        await self._client.tend()

    async def get(self, key: str) -> bytes | None:
        """The value, or None when it is absent or past its lifetime. What is no string is given as b""."""
        try:
            value = await self._client.read(key, "GET", key)
        except BackendRejected as error:
            if isinstance(error.__cause__, ReplyError) and error.__cause__.code == "WRONGTYPE":
                # Not an entry: whoever reads it deletes it, as any other value that does not check.
                return b""
            raise
        if value is None or isinstance(value, bytes):
            return value
        raise _odd("get", value)

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

    async def identity_key(self, proposed: bytes | None = None) -> bytes:
        """The key that all who share the prefix use; put there by the first (`SET NX`)."""
        name = self._prefix + _IDENTITY_KEY
        await self._client.read(name, "SET", name, proposed or os.urandom(_IDENTITY_KEY_BYTES), "NX")
        kept = await self._client.read(name, "GET", name)
        if isinstance(kept, bytes) and len(kept) == _IDENTITY_KEY_BYTES:
            return kept
        raise BackendRejected(self.name, "identity_key", f"{name} is not {_IDENTITY_KEY_BYTES} bytes; delete it")

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


def _topology(settings: Settings) -> Topology:
    tls, timeout_s, sentinel = _tls(settings), settings.connect_timeout_ms / 1000, settings.sentinel
    port = REDIS_PORT if sentinel is None else SENTINEL_PORT
    servers = [
        Server(path=parts.path) if parts.scheme == "unix" else Server(parts.hostname or "", parts.port or port)
        for parts in settings.parts
    ]
    if sentinel is not None:
        login = _login(sentinel.username, sentinel)
        return SentinelMaster(servers, sentinel.master, login=login, tls=tls, timeout_s=timeout_s)
    if settings.cluster:
        login = _login(settings.login_name, settings)
        return ClusterSlots(servers, login=login, tls=tls, timeout_s=timeout_s)
    return OneServer(servers[0])


def _tls(settings: Settings) -> Tls | None:
    if settings.parts[0].scheme != "rediss":
        return None
    tls = settings.tls
    return Tls(tls.ca_file, tls.certificate_file, tls.key_file, check_hostname=tls.check_hostname, verify=tls.verify)


def _login(username: str | None, holder: Settings | Sentinel) -> Login:
    password = holder.password
    return Login(username, None if password is None else password.get_secret_value(), holder.password_file)


def _ms(seconds: float) -> int:
    return max(1, int(seconds * 1000))


def _facts(text: object) -> dict[str, int]:
    """The whole numbers of an INFO reply."""
    if not isinstance(text, bytes):
        raise _odd("stats", text)
    pairs = (line.partition(":") for line in text.decode("utf-8", "replace").splitlines())
    return {name: int(value) for name, _, value in pairs if value.isdigit()}


def _odd(operation: str, reply: object) -> BackendRejected:
    return BackendRejected("redis", operation, f"an odd reply ({type(reply).__name__})")
