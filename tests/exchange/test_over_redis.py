"""Replicas over one Redis: their near copies follow it, their key is one, and it may be away, full or flushed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from ai_cache_extproc.cache.keysource import KeySource
from ai_cache_extproc.extproc.events import Continue, Immediate, Part
from ai_cache_extproc.model import Hearing
from ai_cache_extproc.stores.redis import RedisStore
from tests.exchange.conversation import (
    ANSWER_BODY,
    Core,
    answer_json,
    ask,
    header,
    miss_then_store,
    request_body,
    request_headers,
    response_headers,
)
from tests.exchange.replicas import RULE, Shared
from tests.support.redis_server import RedisServer, server_port
from tests.support.shared_redis import answers, until

FORWARDED = Continue(Part.REQUEST_BODY)
ALONE = {"deadline_ms": 10_000, "flight_wait_ms": 0}
"""A lookup without waits for others, and so without leases."""


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of one test, to be broken."""
    with RedisServer(tmp_path) as server:
        yield server


def server_of(shared: Shared) -> RedisServer:
    """The Redis itself."""
    assert isinstance(shared.where, RedisServer)
    return shared.where


def store_of(parts: Core) -> RedisStore:
    """What a replica asks."""
    assert isinstance(parts.store, RedisStore)
    return parts.store


def is_near(parts: Core) -> bool:
    """Whether this process holds a copy."""
    return parts.near.entries == 1


async def both_near(one: Core, other: Core) -> bytes:
    """Let both hold a copy of one entry; its key."""
    await miss_then_store(one)
    for parts in (one, other):
        # News of our own write may come late, and take the copy with it.
        await store_of(parts).check()
        assert isinstance(await ask(parts.exchange()), Immediate)
        assert is_near(parts)
    (key,) = {key.encode() for parts in (one, other) for key in parts.near._copies}
    return key


async def test_a_deleted_entry_is_forgotten_by_every_replica(over_redis: Shared) -> None:
    """A purge by anyone reaches the near copies of all; the next question is a miss everywhere."""
    async with over_redis.replicas(lookup=ALONE) as (one, other):
        key = await both_near(one, other)
        assert 1 == server_of(over_redis).cli("DEL", key)
        await until(lambda: not is_near(one) and not is_near(other))
        assert [FORWARDED, FORWARDED] == [await ask(parts.exchange()) for parts in (one, other)]


async def test_a_flush_is_forgotten_by_every_replica(over_redis: Shared) -> None:
    """Everything goes at once."""
    async with over_redis.replicas(lookup=ALONE) as (one, other):
        await both_near(one, other)
        server_of(over_redis).cli("FLUSHALL")
        await until(lambda: not is_near(one) and not is_near(other))


async def test_an_entry_that_another_replica_wrote_anew_is_read_anew(over_redis: Shared) -> None:
    """Nobody goes on serving the former answer from a copy."""
    async with over_redis.replicas(lookup=ALONE) as (one, other):
        await both_near(one, other)
        await miss_then_refresh(one)
        await until(lambda: not is_near(other))
        reply = await ask(other.exchange())
        assert isinstance(reply, Immediate)
        assert b"A newer ball." in reply.body


async def miss_then_refresh(parts: Core) -> None:
    """One whole exchange that asks past the cache, and whose answer is another."""
    exchange = parts.exchange()
    exchange.handle(request_headers(cache_control="no-cache"))
    exchange.handle(request_body())
    answer_json(exchange, ANSWER_BODY.replace(b"A ball of gas.", b"A newer ball."))
    await parts.writeback.drain(5)


async def test_a_read_during_which_the_entry_changed_is_answered_and_not_kept(over_redis: Shared) -> None:
    """What was read is as old as the question; a copy of it would be older than the next one."""
    async with over_redis.replicas(lookup=ALONE) as (one, other):
        await miss_then_store(one)
        get, read, go_on = store_of(other).get, asyncio.Event(), asyncio.Event()

        async def slow(key: str) -> bytes | None:
            value = await get(key)
            read.set()
            await go_on.wait()
            return value

        store_of(other).get = slow  # type: ignore[method-assign]  # what a slow network does
        asked = asyncio.create_task(ask(other.exchange()))
        await read.wait()
        server_of(over_redis).cli("FLUSHALL")
        await until(lambda: not is_near(one))
        await store_of(other).check()
        go_on.set()
        assert isinstance(await asked, Immediate)
        assert not is_near(other)


async def test_without_tracking_copies_live_for_their_time(over_redis: Shared) -> None:
    """A purge by another is not heard of then; after `near.ttl_s_max` it is seen."""
    async with over_redis.replicas(store={"tracking": False}, lookup=ALONE) as (one, other):
        key = await both_near(one, other)
        assert Hearing.NONE is one.near.hearing
        server_of(over_redis).cli("DEL", key)
        await store_of(one).check()
        assert isinstance(await ask(one.exchange()), Immediate)
        over_redis.elapse(60)
        assert FORWARDED == await ask(one.exchange())


async def test_whether_changes_are_heard_is_a_metric(own_server: RedisServer) -> None:
    """And whether a server is asked at all."""
    shared = Shared(own_server)
    async with shared.replica(lookup=ALONE) as parts:
        assert 1 == parts.counted("aicache_near_hears_changes")
        await both_near(parts, parts)
        own_server.kill()
        await until(lambda: parts.counted("aicache_near_hears_changes") == 0)
        assert not is_near(parts)
        assert isinstance(await ask(parts.exchange()), Continue)
        assert 1 == parts.counted("aicache_bypass_total", reason="store_error")
        own_server.start()
        await until(lambda: parts.counted("aicache_near_hears_changes") == 1)
        assert FORWARDED == await ask(parts.exchange(), seed=1)


async def test_a_full_redis_costs_the_agreement_and_not_the_lookup(own_server: RedisServer) -> None:
    """Where no lease can be taken everyone asks for themselves, and what is stored already still hits."""
    shared = Shared(own_server)
    async with shared.replicas() as (one, other):
        await miss_then_store(one)
        own_server.cli("CONFIG", "SET", "maxmemory", 1)
        assert isinstance(await ask(other.exchange()), Immediate)
        for parts in (one, other):
            exchange = parts.exchange()
            assert FORWARDED == await ask(exchange, seed=1)
            answer_json(exchange)
            await parts.writeback.drain(5)
            errors = {"backend": "redis", "operation": "SET", "kind": "rejected"}
            assert 2 == parts.counted("aicache_backend_errors_total", **errors)
            assert 1 == parts.counted("aicache_store_total", result="failed", reason="store_error")


def keysource_of(parts: Core) -> KeySource:
    """Let a replica take its key from the store; where from it is read."""
    source = KeySource(store_of(parts), configured=None, prefix="aicache:", metrics=parts.metrics)
    parts.pipeline._keys = source
    return source


async def test_replicas_agree_on_a_key_by_themselves(over_redis: Shared) -> None:
    """Whoever comes first puts it there; what one stored under it the other finds."""
    async with over_redis.replicas() as (one, other):
        sources = [keysource_of(parts) for parts in (one, other)]
        assert [True, True] == list(await asyncio.gather(*(source.read() for source in sources)))
        assert sources[0].current == sources[1].current
        await miss_then_store(one)
        assert isinstance(await ask(other.exchange()), Immediate)


async def test_a_flushed_key_is_put_back(over_redis: Shared) -> None:
    """Whichever replica looks first, it is the same as before, and so are the names of what is cached later."""
    async with over_redis.replicas() as (one, other):
        sources = [keysource_of(parts) for parts in (one, other)]
        for source in sources:
            await source.read()
        before = sources[0].current
        server_of(over_redis).cli("FLUSHALL")
        async with over_redis.replica() as third:
            await sources[1].read()
            newcomer = keysource_of(third)
            await newcomer.read()
            assert before == newcomer.current
        await sources[0].read()
        assert [before, before] == [source.current for source in sources]


async def test_without_a_key_every_request_passes_until_there_is_one(tmp_path: Path) -> None:
    """A start without Redis serves at once, and heals."""
    server = RedisServer(tmp_path, port=server_port())
    shared = Shared(server)
    async with shared.replica(connected=False, lookup=ALONE) as parts:
        source = keysource_of(parts)
        assert not await source.read()
        assert source.problem.startswith("redis SET: ")
        exchange = parts.exchange()
        assert isinstance(await ask(exchange), Continue)
        reply = exchange.handle(response_headers())
        assert isinstance(reply, Continue)
        assert ("BYPASS", "no_key") == (header(reply, "x-ai-cache-status"), header(reply, "x-ai-cache-reason"))
        with server:
            await until(lambda: answers(store_of(parts)))
            assert await source.read()
            await miss_then_store(parts)
            assert isinstance(await ask(parts.exchange()), Immediate)
            assert 1 == parts.counted("aicache_bypass_total", reason="no_key")


async def test_no_question_stands_in_a_key(over_redis: Shared) -> None:
    """Keys of entries and leases are digests: neither what was asked nor by whom can be read from them."""
    async with over_redis.replica(rules=[RULE]) as parts:
        exchange = parts.exchange()
        await ask(exchange, key="canary-credential", user="canary-user")
        leases = over_redis.leases()
        answer_json(exchange)
        await parts.writeback.drain(5)
        keys = server_of(over_redis).cli("KEYS", "*")
        assert (1, 2) == (len(leases), len(keys))
        assert all(key.startswith(b"aicache:0:") for key in keys)
        assert b"canary" not in b"".join(keys)
