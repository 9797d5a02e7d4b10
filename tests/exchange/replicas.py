"""Several sidecar cores over one store that they share: replicas over a Redis, or workers over one SQLite file."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from ai_cache_extproc.config.model import Config, SqliteStore
from ai_cache_extproc.config.model import RedisStore as RedisSettings
from ai_cache_extproc.extproc.events import Continue, Immediate, Reply
from ai_cache_extproc.extproc.exchange import Exchange
from ai_cache_extproc.keys.identity import Keyring
from ai_cache_extproc.stores.sqlite import SqliteStore as SqliteFile
from tests.exchange.conversation import Clock, Core, ask, running
from tests.support.redis_server import RedisServer
from tests.support.shared_redis import elapse, settings_for, tended, url_of

PATIENT: dict[str, Any] = {
    "envoy": {"message_timeout_ms": 20_000, "max_message_timeout_ms": 100_000},
    "lookup": {"deadline_ms": 10_000, "flight_wait_ms": 30_000, "flight_wait_stream_ms": 30_000},
}
"""Waits that only news end: a busy machine must not look like a slow store."""
LEASE_S = 30.0
"""As long as the flight wait."""
RULE: dict[str, Any] = {"early_refresh": 0, "ttl_jitter": 0}


class Shared:
    """The store, for as many as open it; all of them see the same time."""

    def __init__(self, where: RedisServer | Path) -> None:
        self.where = where
        self.clock = Clock()

    @asynccontextmanager
    async def replicas(self, count: int = 2, *, store: object = None, **settings: Any) -> AsyncIterator[list[Core]]:
        """So many cores. settings: of the document; store: of the Redis section."""
        async with AsyncExitStack() as stack:
            yield [await stack.enter_async_context(self.replica(store=store, **settings)) for _ in range(count)]

    @asynccontextmanager
    async def replica(
        self, *, store: object = None, connected: bool = True, keyed: bool = True, **settings: Any
    ) -> AsyncIterator[Core]:
        """One core."""
        document = {**PATIENT, "workers": 2, "rules": [RULE], **settings}
        if isinstance(self.where, Path):
            config = Config.model_validate({**document, "store": SqliteStore(path=self.where)})
            opened: Any = SqliteFile.open(self.where, bytes_max=2**24, clock=self.clock)
        else:
            redis = self._redis(store)
            config = Config.model_validate({**document, "store": redis})
            opened = tended(redis, connected=connected)
        async with opened as shared:
            keyring = Keyring(b"k" * 32, config.key_prefix, 0) if keyed else None
            async with running(Core(config, shared, keyring=keyring, clock=self.clock, store_timeout_s=10)) as parts:
                yield parts

    def _redis(self, store: object) -> RedisSettings:
        assert isinstance(self.where, RedisServer)
        given = store if isinstance(store, dict) else {}
        login = {} if self.where.acl else {"username": None, "password": None}
        return settings_for(url_of(self.where), **login, **given)

    def elapse(self, seconds: float) -> None:
        """Let time pass for everyone."""
        self.clock.now_s += seconds
        if isinstance(self.where, RedisServer):
            elapse([self.where], seconds)

    def leases(self) -> list[bytes]:
        """The names of all leases that anyone holds or that are refused."""
        if isinstance(self.where, RedisServer):
            return [key for key in self.where.cli("KEYS", "*") if b":lease" in key]
        with sqlite3.connect(self.where) as connection:
            rows = connection.execute("SELECT key FROM leases WHERE expires_s > ?", (self.clock(),)).fetchall()
        connection.close()
        return [key.encode() for (key,) in rows]


Asked = tuple[Exchange, asyncio.Task[Reply]]


def asking(parts: Core, **members: Any) -> Asked:
    """A question on its way."""
    exchange = parts.exchange()
    return exchange, asyncio.create_task(ask(exchange, **members))


async def first_of(asked: Sequence[Asked]) -> Exchange:
    """The exchange that is told first to go upstream; the others still wait."""
    by_task = {task: exchange for exchange, task in asked}
    done, waiting = await asyncio.wait(by_task, return_when=asyncio.FIRST_COMPLETED)
    assert (1, len(asked) - 1) == (len(done), len(waiting))
    (task,) = done
    assert isinstance(task.result(), Continue), task.result()
    return by_task[task]


async def hits(asked: Sequence[Asked]) -> list[bytes]:
    """The bodies of the answers that all the others get from the cache."""
    replies = await asyncio.gather(*(task for _, task in asked))
    assert all(isinstance(reply, Immediate) for reply in replies), replies
    return [reply.body for reply in replies if isinstance(reply, Immediate)]
