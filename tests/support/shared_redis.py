"""Redis for tests that need one but do not break it: stores that are connected, time that passes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager

from ai_cache_extproc.clients.redis.address import Server
from ai_cache_extproc.clients.redis.topology import Layout
from ai_cache_extproc.config.model import RedisStore as Settings
from ai_cache_extproc.errors import BackendError
from ai_cache_extproc.model import BreakerState, Hearing
from ai_cache_extproc.stores.redis import RedisStore
from tests.support.acl import PASSWORD, USER
from tests.support.redis_server import RedisServer

PREFIX = "aicache:"
PATIENT_MS = 10_000
"""For tests that are not about time: a busy machine must not look like a slow server."""


def settings_for(*urls: str, **settings: object) -> Settings:
    """Settings for these servers, without haste; the shipped user where nothing else is said."""
    document: dict[str, object] = {
        "type": "redis",
        "url": urls,
        "username": USER,
        "password": PASSWORD,
        "timeout_ms": PATIENT_MS,
        "write_timeout_ms": PATIENT_MS,
        "connect_timeout_ms": PATIENT_MS,
        "probe_ms": 20,
    }
    return Settings.model_validate(document | settings)


def url_of(server: RedisServer) -> str:
    """Where the server listens."""
    return f"redis://127.0.0.1:{server.port}"


async def until(holds: Callable[[], bool] | Callable[[], Awaitable[bool]]) -> None:
    """Wait for something to become true; the test's own timeout ends a wait in vain."""
    while True:
        held = holds()
        if held if isinstance(held, bool) else await held:
            return
        await asyncio.sleep(0.002)


async def answers(store: RedisStore) -> bool:
    """Whether every server is connected and answers, and whatever can be heard of changes is."""
    try:
        await store.check()
    except BackendError:
        return False
    return store._client.hearing is not Hearing.LOST


class Breakers:
    """What is told of circuit breakers: each change, and how each stands."""

    def __init__(self) -> None:
        self.told: list[BreakerState | None] = []
        self.now: dict[tuple[str, str], BreakerState] = {}

    def __call__(self, backend: str, server: str, state: BreakerState | None) -> None:
        self.told.append(state)
        if state is None:
            self.now.pop((backend, server), None)
        else:
            self.now[backend, server] = state


class Looks:
    """Counts a client's looks at its layout. One that is cancelled leaves redis-py's sockets to the garbage collector."""

    def __init__(self, store: RedisStore) -> None:
        self.open = 0
        self._topology = store._client._topology
        store._client._topology = self

    @property
    def look_every_s(self) -> float | None:
        return self._topology.look_every_s

    @look_every_s.setter
    def look_every_s(self, seconds: float | None) -> None:
        self._topology.look_every_s = seconds

    async def discover(self, known: Iterable[Server]) -> Layout:
        self.open += 1
        try:
            return await self._topology.discover(known)
        finally:
            self.open -= 1


@asynccontextmanager
async def tended(
    settings: Settings, *, prefix: str = PREFIX, watch: Breakers | None = None, connected: bool = True
) -> AsyncIterator[RedisStore]:
    """A store whose connections are kept up, by default already there."""
    async with RedisStore.open(settings, prefix=prefix, breaker_watch=watch or Breakers()) as store:
        looks = Looks(store)
        tending = asyncio.create_task(store.tend())
        try:
            if connected:
                await until(lambda: answers(store))
            yield store
        finally:
            await until(lambda: not looks.open)
            still_tending = tending.cancel()
            (ended,) = await asyncio.gather(tending, return_exceptions=True)
            if not still_tending and isinstance(ended, BaseException):
                raise ended


def elapse(servers: Sequence[RedisServer], seconds: float) -> None:
    """Let time pass for every key, as far as its lifetime goes."""
    for server in servers:
        with server.client() as client:
            for key in client.scan_iter(count=1000):
                left_ms = client.pttl(key)
                if left_ms >= 0:
                    client.pexpire(key, left_ms - round(seconds * 1000))
