"""The stores that the contract is checked on. A store joins with a function that opens it and an entry in `STORES`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from redis.crc import key_slot

from ai_cache_extproc.config.model import RedisStore as RedisSettings
from ai_cache_extproc.stores.base import ChangeListener, Claim, LeaseKeeper, MarkKeeper, Scan, Store, StoreStats
from ai_cache_extproc.stores.memory import MemoryStore
from ai_cache_extproc.stores.redis import RedisStore
from ai_cache_extproc.stores.sqlite import SqliteStore
from examples.custom_backend.aicache_files import Files, FilesStore
from tests.support.redis_fleet import ClusterFleet
from tests.support.redis_server import RedisServer
from tests.support.shared_redis import PREFIX, elapse, settings_for, tended, url_of

BYTES_MAX = 1024 * 1024


class Clock:
    """Seconds since the epoch, as a test sets them; servers with a clock of their own are made to agree."""

    def __init__(self) -> None:
        self.now_s = 1_800_000_000.0
        self.servers: Sequence[RedisServer] = ()

    def __call__(self) -> float:
        return self.now_s

    def elapse(self, seconds: float) -> None:
        """Let time pass."""
        self.now_s += seconds
        elapse(self.servers, seconds)


class Prefixed:
    """A Redis store whose tests choose any key: the shipped ACL allows those under the prefix."""

    def __init__(self, store: RedisStore) -> None:
        self.name = store.name
        self._store = store

    async def get(self, key: str) -> bytes | None:
        return await self._store.get(PREFIX + key)

    async def set(self, key: str, value: bytes, *, ttl_s: float) -> None:
        await self._store.set(PREFIX + key, value, ttl_s=ttl_s)

    async def delete(self, key: str) -> bool:
        return await self._store.delete(PREFIX + key)

    async def check(self) -> None:
        await self._store.check()

    async def stats(self) -> StoreStats:
        return await self._store.stats()

    async def identity_key(self, proposed: bytes | None = None) -> bytes:
        return await self._store.identity_key(proposed)

    async def claim_lease(self, key: str, holder: bytes, *, ttl_s: float) -> Claim:
        return await self._store.claim_lease(PREFIX + key, holder, ttl_s=ttl_s)

    async def release_lease(self, key: str, holder: bytes) -> None:
        await self._store.release_lease(PREFIX + key, holder)

    async def refuse_lease(self, key: str, *, ttl_s: float) -> None:
        await self._store.refuse_lease(PREFIX + key, ttl_s=ttl_s)

    async def get_with_mark(self, key: str, mark: str) -> tuple[bytes | None, bytes | None]:
        return await self._store.get_with_mark(PREFIX + key, PREFIX + mark)

    async def mark(self, mark: str) -> bytes | None:
        return await self._store.mark(PREFIX + mark)

    async def change_mark(self, mark: str, old: bytes | None, new: bytes) -> bool:
        return await self._store.change_mark(PREFIX + mark, old, new)

    async def scan(self, prefix: str, *, cursor: str, count: int) -> Scan:
        scan = await self._store.scan(PREFIX + prefix, cursor=cursor, count=count)
        return Scan(tuple(key.removeprefix(PREFIX) for key in scan.keys), scan.cursor)

    async def heads(self, keys: Sequence[str], *, bytes_max: int) -> list[bytes]:
        return await self._store.heads([PREFIX + key for key in keys], bytes_max=bytes_max)

    def follow(self, listener: ChangeListener) -> None:
        self._store.follow(listener)


class Outsider:
    """Somebody else at the same Redis, who may do anything."""

    def __init__(self, masters: Sequence[RedisServer]) -> None:
        self._masters = masters

    def do(self, command: str, key: str, *arguments: bytes | str | float) -> object:
        """One command for one key, named as the tests of the store name it."""
        name = PREFIX + key
        # A third of the slots each, as `ClusterFleet` gives them.
        at = key_slot(name.encode()) * len(self._masters) // 16_384
        return self._masters[at].cli(command, name, *arguments)

    def flush(self) -> None:
        """Remove everything."""
        for master in self._masters:
            master.cli("FLUSHALL")

    def cut(self) -> None:
        """End the connections of everybody else."""
        for master in self._masters:
            master.cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


def masters_of(name: str, request: pytest.FixtureRequest) -> Sequence[RedisServer]:
    """The servers behind a store."""
    if name == "redis":
        server: RedisServer = request.getfixturevalue("shared_redis")
        return (server,)
    if name == "cluster":
        fleet: ClusterFleet = request.getfixturevalue("shared_cluster")
        return fleet.nodes[:3]
    return ()


StoreFactory = Callable[[Path, Clock], AbstractAsyncContextManager[Store]]


def open_memory(_: Path, clock: Clock) -> AbstractAsyncContextManager[Store]:
    """A store in memory of 1 MiB."""
    return MemoryStore.open(bytes_max=BYTES_MAX, clock=clock)


def open_sqlite(directory: Path, clock: Clock) -> AbstractAsyncContextManager[SqliteStore]:
    """A store in a file of 1 MiB."""
    return SqliteStore.open(directory / "cache.db", bytes_max=BYTES_MAX, clock=clock)


def open_redis(_: Path, clock: Clock) -> AbstractAsyncContextManager[Prefixed]:
    """A store in the session's Redis, as the user of the shipped ACL."""
    return _prefixed(settings_for(url_of(clock.servers[0])))


def open_cluster(_: Path, clock: Clock) -> AbstractAsyncContextManager[Prefixed]:
    """A store in the session's Redis Cluster, found through one of its nodes, as the same user."""
    return _prefixed(settings_for(url_of(clock.servers[0]), cluster=True))


def open_files(directory: Path, clock: Clock) -> AbstractAsyncContextManager[Store]:
    """The example of a store of one's own."""
    return Files.open(FilesStore(type="files", folder=directory / "entries"), prefix="aicache:", clock=clock)


@asynccontextmanager
async def _prefixed(settings: RedisSettings) -> AsyncIterator[Prefixed]:
    async with tended(settings) as store:
        yield Prefixed(store)


STORES: dict[str, StoreFactory] = {
    "memory": open_memory,
    "sqlite": open_sqlite,
    "redis": open_redis,
    "cluster": open_cluster,
    "files": open_files,
}
BOUNDED = ("memory", "sqlite")
KEEPERS: dict[str, Callable[[Path, Clock], AbstractAsyncContextManager[LeaseKeeper]]] = {
    "sqlite": open_sqlite,
    "redis": open_redis,
    "cluster": open_cluster,
}
FEEDS: dict[str, Callable[[Path, Clock], AbstractAsyncContextManager[Prefixed]]] = {
    "redis": open_redis,
    "cluster": open_cluster,
}


@pytest.fixture
def clock() -> Clock:
    """The clock that the store under test reads."""
    return Clock()


@pytest.fixture(params=STORES)
async def store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> AsyncIterator[Store]:
    """Each store in turn, empty and open."""
    clock.servers = masters_of(request.param, request)
    async with STORES[request.param](tmp_path, clock) as opened:
        yield opened


@pytest.fixture(params=BOUNDED)
async def bounded_store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> AsyncIterator[Store]:
    """Each store that keeps its own bound of bytes."""
    async with STORES[request.param](tmp_path, clock) as opened:
        yield opened


@pytest.fixture(params=KEEPERS)
async def keepers(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> AsyncIterator[Sequence[LeaseKeeper]]:
    """Each store through which processes agree, as two processes have it open."""
    clock.servers = masters_of(request.param, request)
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(KEEPERS[request.param](tmp_path, clock)) for _ in range(2)]


@pytest.fixture(params=KEEPERS)
async def mark_keepers(
    request: pytest.FixtureRequest, tmp_path: Path, clock: Clock
) -> AsyncIterator[Sequence[MarkKeeper]]:
    """Each store that keeps marks, as two processes have it open."""
    clock.servers = masters_of(request.param, request)
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(KEEPERS[request.param](tmp_path, clock)) for _ in range(2)]
        assert all(isinstance(each, MarkKeeper) for each in opened)
        yield opened  # type: ignore[misc]  # as it was just seen


@pytest.fixture(params=FEEDS)
async def feed(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> AsyncIterator[Prefixed]:
    """Each store that tells of changes."""
    clock.servers = masters_of(request.param, request)
    async with FEEDS[request.param](tmp_path, clock) as opened:
        yield opened


@pytest.fixture
def outsider(clock: Clock) -> Outsider:
    """Somebody else at the Redis of `feed`, to be asked for after it."""
    return Outsider(clock.servers)
