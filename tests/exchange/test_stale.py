"""Stale-if-error: where the upstream fails, an entry past its lifetime answers in its place, and says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from ai_cache_extproc.config.model import Config
from ai_cache_extproc.errors import BackendUnavailable
from ai_cache_extproc.extproc.events import Continue, Immediate, Part, Pending
from ai_cache_extproc.extproc.phases import Phase
from tests.exchange.conversation import (
    ANSWER_BODY,
    Core,
    answer_json,
    ask,
    core,
    header,
    miss_then_store,
    reply_to,
    request_body,
    request_headers,
    response_headers,
)
from tests.exchange.faulty_store import FaultyStore
from tests.exchange.replicas import RULE, Shared, asking
from tests.support.shared_redis import until

FORWARDED = Continue(Part.REQUEST_BODY)
TTL_S, STALE_S = 60, 600
STALE = RULE | {"ttl_s": TTL_S, "stale_if_error_s": STALE_S}


@asynccontextmanager
async def expired(past_s: float = 10.5, **settings: object) -> AsyncIterator[Core]:
    """A process whose one entry has expired so long ago."""
    async with core(Config.model_validate({"rules": [STALE]} | settings)) as parts:
        await miss_then_store(parts)
        parts.clock.now_s += TTL_S + past_s
        yield parts


async def failed(parts: Core, status: int = 503, **asked: object) -> Immediate | Continue:
    """What the client gets where the upstream answers its question with this status."""
    exchange = parts.exchange()
    assert FORWARDED == await ask(exchange, **asked)  # type: ignore[arg-type]  # members of the question
    reply = await reply_to(exchange, response_headers(status))
    exchange.close()
    assert isinstance(reply, Immediate | Continue)
    return reply


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 599])
async def test_an_expired_answer_stands_in_for_a_failing_upstream(status: int) -> None:
    """The client gets 200 and the whole answer, and can see in `Cache-Status` and `Age` what it is."""
    async with expired() as parts:
        exchange = parts.exchange()
        assert FORWARDED == await ask(exchange)
        reply = await reply_to(exchange, response_headers(status))
        assert isinstance(reply, Immediate)
        assert (200, ANSWER_BODY, "ai-cache.hit") == (reply.status, reply.body, reply.details)
        key = header(reply, "x-ai-cache-key")
        assert f'aicache; hit; ttl=-11; key="{key}"; detail=stale' == header(reply, "cache-status")
        assert ("70", "70", "HIT") == tuple(
            header(reply, name) for name in ("age", "x-ai-cache-age", "x-ai-cache-status")
        )
        assert reply.metadata is not None
        assert 11 == reply.metadata["stale_s"]
        assert Phase.ANSWERED is exchange.phase
        assert 1 == parts.counted("aicache_upstream_errors_answered_total")
        labels = {"dialect": "openai_chat", "rule": "default"}
        assert 0 == parts.counted("aicache_requests_total", result="hit", **labels)
        assert 2 == parts.counted("aicache_requests_total", result="miss", **labels)


@pytest.mark.parametrize("status", [200, 204, 301, 400, 401, 404, 499])
async def test_what_is_no_failure_of_the_upstream_passes(status: int) -> None:
    """Also an error that is the client's own: the old answer would hide it."""
    async with expired() as parts:
        assert isinstance(await failed(parts, status), Continue)
        assert 0 == parts.counted("aicache_upstream_errors_answered_total")


async def test_in_the_other_mode_it_stands_in_as_well() -> None:
    """A stream is made of an old JSON answer as of a fresh one."""
    async with expired() as parts:
        reply = await failed(parts, stream=True)
        assert isinstance(reply, Immediate)
        assert reply.body.endswith(b"data: [DONE]\n\n")


async def test_where_the_mode_cannot_be_made_the_error_passes() -> None:
    """A stream that lacks what a JSON answer always has is no answer, however old."""
    async with core(Config.model_validate({"rules": [STALE]})) as parts:
        await miss_then_store(parts, stream=True)
        parts.clock.now_s += TTL_S + 1
        assert isinstance(await failed(parts), Continue)


async def test_by_default_it_is_off() -> None:
    """Nobody gets an old answer whose operator did not say so, and nothing is kept for it."""
    async with expired(rules=[RULE | {"ttl_s": TTL_S}]) as parts:
        assert isinstance(await failed(parts), Continue)
        assert 0 == await parts.stored()


async def test_a_client_that_asks_for_a_fresh_answer_gets_the_error() -> None:
    """`no-cache` means it (RFC 9111, 5.2.1.4)."""
    async with expired() as parts:
        exchange = parts.exchange()
        exchange.handle(request_headers(cache_control="no-cache"))
        assert FORWARDED == await reply_to(exchange, request_body())
        assert isinstance(await reply_to(exchange, response_headers(503)), Continue)


@pytest.mark.parametrize(("past_s", "saved"), [(STALE_S - 0.5, True), (STALE_S, False), (STALE_S + 1000, False)])
async def test_beyond_the_limit_it_is_gone(past_s: float, saved: bool) -> None:
    """To the moment, and from the store too."""
    async with expired(past_s) as parts:
        assert saved is isinstance(await failed(parts), Immediate)
        assert int(saved) == await parts.stored()


async def test_what_was_purged_meanwhile_is_not_served() -> None:
    """It is asked of the store at the failure, not remembered from the question."""
    async with expired() as parts:
        exchange = parts.exchange()
        await ask(exchange)
        for key in keys_of(parts):
            assert await parts.store.delete(key)
        assert isinstance(await reply_to(exchange, response_headers(503)), Continue)
        assert 0 == len(parts.flights)


def keys_of(parts: Core) -> list[str]:
    """The keys in the memory store of a core."""
    return list(parts.store._kept)  # type: ignore[attr-defined]  # a MemoryStore


async def test_a_fresh_answer_that_came_meanwhile_is_served_instead() -> None:
    """Whoever asked at the same time and was luckier: the client gets that one, and it is not stale."""
    async with expired() as parts:
        unlucky, lucky = parts.exchange(), parts.exchange()
        await ask(unlucky)
        await ask(lucky)
        answer_json(lucky)
        await parts.writeback.drain(5)
        reply = await reply_to(unlucky, response_headers(503))
        assert isinstance(reply, Immediate)
        assert (header(reply, "cache-status") or "").endswith("detail=exact")


@pytest.mark.parametrize("saved", [True, False])
async def test_the_lease_is_given_back_either_way(saved: bool) -> None:
    """Those who wait for the one that failed are not kept, and the next one asks anew."""
    lookup = {"flight_wait_ms": 5000}
    envoy = {"message_timeout_ms": 500, "max_message_timeout_ms": 10_000}
    async with expired(10 if saved else STALE_S, lookup=lookup, envoy=envoy) as parts:
        leader, follower = parts.exchange(), parts.exchange()
        await ask(leader)
        asked = asyncio.create_task(ask(follower))
        await asyncio.sleep(0)
        reply = await reply_to(leader, response_headers(503))
        assert saved is isinstance(reply, Immediate)
        assert FORWARDED == await asked
        assert 0 == len(parts.flights)
        assert FORWARDED == await ask(parts.exchange())


async def test_everyone_who_fails_is_saved() -> None:
    """Followers that went upstream after it, too."""
    async with expired() as parts:
        for _ in range(3):
            assert isinstance(await failed(parts), Immediate)
        assert 3 == parts.counted("aicache_upstream_errors_answered_total")


async def test_a_store_that_fails_at_that_moment_lets_the_error_pass() -> None:
    """The client is no worse off than without the cache."""
    store = FaultyStore()
    async with core(Config.model_validate({"rules": [STALE]}), store=store) as parts:
        await miss_then_store(parts)
        parts.clock.now_s += TTL_S + 1
        for fault in (BackendUnavailable("redis", "GET", "gone"), None):
            exchange = parts.exchange()
            await ask(exchange)
            store.fault, store.hanging = fault, None if fault else asyncio.Event()
            reply = await reply_to(exchange, response_headers(503))
            assert isinstance(reply, Continue)
            assert "MISS" == header(reply, "x-ai-cache-status")
            store.fault = store.hanging = None
            exchange.close()
        assert isinstance(await failed(parts), Immediate)


async def test_a_stream_that_ends_while_the_store_is_asked_holds_nothing() -> None:
    """A client that hangs up at that moment leaves no lease behind."""
    async with expired() as parts:
        exchange = parts.exchange()
        await ask(exchange)
        pending = exchange.handle(response_headers(503))
        assert isinstance(pending, Pending)
        waiting = asyncio.ensure_future(pending.finish())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        exchange.close()
        assert 0 == len(parts.flights)


async def test_a_stale_entry_is_not_served_while_the_upstream_works() -> None:
    """Its fresh answer takes the place of the old one."""
    async with expired() as parts:
        exchange = parts.exchange()
        assert FORWARDED == await ask(exchange)
        reply = answer_json(exchange, ANSWER_BODY.replace(b"A ball of gas.", b"A newer ball."))
        assert "MISS" == header(reply, "x-ai-cache-status")
        await parts.writeback.drain(5)
        fresh = await ask(parts.exchange())
        assert isinstance(fresh, Immediate)
        assert b"A newer ball." in fresh.body


async def test_over_a_shared_store_every_replica_is_saved(shared: Shared) -> None:
    """An entry outlives its lifetime there as well, for as long as the rule says and no longer."""
    lookup = {"deadline_ms": 10_000, "flight_wait_ms": 0}
    async with shared.replicas(rules=[STALE], lookup=lookup) as (one, other):
        await miss_then_store(one)
        shared.elapse(TTL_S + 10)
        for parts in (one, other):
            assert isinstance(await failed(parts), Immediate)
        shared.elapse(STALE_S)
        for parts in (one, other):
            assert isinstance(await failed(parts), Continue)


async def test_over_a_shared_store_one_replica_asks_for_what_has_expired(shared: Shared) -> None:
    """The others wait for it as for anything else; where it takes too long, the old answer may still save them."""
    async with shared.replicas(1, rules=[STALE]) as (one,):
        await miss_then_store(one)
        shared.elapse(TTL_S + 10)
        lookup = {"deadline_ms": 10_000, "flight_wait_ms": 20}
        async with shared.replica(rules=[STALE]) as other, shared.replica(rules=[STALE], lookup=lookup) as hasty:
            leader = one.exchange()
            assert FORWARDED == await ask(leader)
            assert isinstance(await failed(hasty), Immediate)
            assert 1 == hasty.counted("aicache_flights_total", result="timed_out")
            _, task = asking(other)
            await until(lambda: bool(other.pipeline._changes.waiting))
            answer_json(leader)
            assert isinstance(await task, Immediate)
            assert 1 == other.counted("aicache_flights_total", result="followed")
