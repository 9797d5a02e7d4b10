"""Early refresh: ahead of an entry's expiry one request goes upstream, and everyone else still hits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from ai_cache_extproc.config.model import Config, Rule
from ai_cache_extproc.errors import BackendUnavailable
from ai_cache_extproc.extproc.events import Continue, Immediate, Part, Pending
from tests.exchange.conversation import (
    ANSWER_BODY,
    Core,
    answer_json,
    ask,
    core,
    header,
    reply_to,
    request_body,
    request_headers,
    response_headers,
)
from tests.exchange.faulty_store import FaultyStore
from tests.exchange.replicas import Shared
from tests.support.shared_redis import until

FORWARDED = Continue(Part.REQUEST_BODY)
TTL_S = 3600
RULE = {"ttl_s": TTL_S, "ttl_jitter": 0, "early_refresh": 1}
NEWER = ANSWER_BODY.replace(b"A ball of gas.", b"A newer ball.")
GOES, STAYS = 0.0, 1.0
"""Chances: the one goes ahead as early as anyone does, the other never."""


async def keep(parts: Core) -> None:
    """Store an entry whose upstream took a second, by its own account."""
    exchange = parts.exchange()
    await ask(exchange)
    exchange._situation.since_s -= 1  # type: ignore[union-attr]  # it was forwarded
    answer_json(exchange)
    await parts.writeback.drain(5)


@asynccontextmanager
async def near_expiry(*, near: bool = True, **settings: object) -> AsyncIterator[Core]:
    """A process with an entry that ends in a second, in its store and, if `near`, in its near copies."""
    near_settings = {} if near else {"bytes_max": 0}
    config = Config.model_validate({"rules": [RULE], "near": near_settings} | settings)
    async with core(config) as parts:
        parts.chance = STAYS
        await keep(parts)
        parts.clock.now_s += TTL_S - 1
        yield parts


@pytest.mark.parametrize("near", [True, False], ids=["near", "store"])
async def test_of_all_who_would_go_ahead_one_does(near: bool) -> None:
    """While it is on its way everyone else hits; its answer takes the place of the old one."""
    async with near_expiry(near=near) as parts:
        parts.chance = GOES
        ahead = parts.exchange()
        assert FORWARDED == await ask(ahead)
        replies = await asyncio.gather(*(ask(parts.exchange()) for _ in range(20)))
        assert [ANSWER_BODY] * 20 == [reply.body for reply in replies if isinstance(reply, Immediate)]
        reply = answer_json(ahead, NEWER)
        assert "MISS" == header(reply, "x-ai-cache-status")
        await parts.writeback.drain(5)
        assert 0 == len(parts.flights)
        parts.chance = STAYS
        parts.clock.now_s += TTL_S - 1
        fresh = await ask(parts.exchange())
        assert isinstance(fresh, Immediate)
        assert NEWER == fresh.body


@pytest.mark.parametrize("near", [True, False], ids=["near", "store"])
async def test_who_draws_otherwise_hits(near: bool) -> None:
    """It is a matter of chance near the expiry, and long before it nobody goes ahead at all."""
    async with near_expiry(near=near) as parts:
        assert isinstance(await ask(parts.exchange()), Immediate)
        parts.chance = GOES
        parts.clock.now_s -= TTL_S / 2
        parts.near.clear()
        assert isinstance(await ask(parts.exchange()), Immediate)


async def test_it_can_be_turned_off() -> None:
    """A factor of 0 leaves entries to expire."""
    async with near_expiry(rules=[RULE | {"early_refresh": 0}]) as parts:
        parts.chance = GOES
        assert isinstance(await ask(parts.exchange()), Immediate)


async def test_followers_of_a_read_do_not_all_go_ahead() -> None:
    """Those who waited for one read of the store and find the entry due go ahead once, together with it."""
    lookup = {"flight_wait_ms": 5000}
    envoy = {"message_timeout_ms": 500, "max_message_timeout_ms": 10_000}
    async with near_expiry(near=False, lookup=lookup, envoy=envoy) as parts:
        parts.chance = GOES
        replies = await asyncio.gather(*(ask(parts.exchange()) for _ in range(20)))
        assert 1 == sum(isinstance(reply, Continue) for reply in replies)


@pytest.mark.parametrize("status", [500, 503, 429])
async def test_an_upstream_that_fails_is_answered_from_the_entry(status: int) -> None:
    """Whoever went ahead gets what everyone else got; the next one may try again."""
    async with near_expiry() as parts:
        parts.chance = GOES
        ahead = parts.exchange()
        await ask(ahead)
        reply = await reply_to(ahead, response_headers(status))
        assert isinstance(reply, Immediate)
        assert (200, ANSWER_BODY, True) == (reply.status, reply.body, ahead.answered)
        assert (header(reply, "cache-status") or "").endswith("detail=exact")
        assert 1 == parts.counted("aicache_upstream_errors_answered_total")
        assert FORWARDED == await ask(parts.exchange())


async def test_an_error_that_is_the_clients_own_passes() -> None:
    """A 404 is what the upstream has to say by now."""
    async with near_expiry() as parts:
        parts.chance = GOES
        ahead = parts.exchange()
        await ask(ahead)
        assert isinstance(ahead.handle(response_headers(404)), Continue)
        assert 0 == parts.counted("aicache_upstream_errors_answered_total")


@pytest.mark.parametrize("leaves", ["before its answer", "in the middle of it"])
async def test_a_refresh_that_is_given_up_lets_the_next_one_try(leaves: str) -> None:
    """A client that hangs up keeps nobody from going ahead."""
    async with near_expiry() as parts:
        parts.chance = GOES
        ahead = parts.exchange()
        await ask(ahead)
        if leaves != "before its answer":
            ahead.handle(response_headers())
        ahead.close()
        assert 0 == len(parts.flights)
        assert FORWARDED == await ask(parts.exchange())


async def test_a_refresh_cancelled_while_it_asks_for_leave_holds_nothing(shared: Shared) -> None:
    """Nor does one that never began; whatever was granted meanwhile is given back."""
    async with shared.replica(rules=[RULE]) as parts:
        parts.chance = STAYS
        await keep(parts)
        assert isinstance(await ask(parts.exchange()), Immediate)
        shared.elapse(TTL_S - 1)
        parts.chance = GOES
        for turns in range(4):
            exchange = parts.exchange()
            exchange.handle(request_headers())
            pending = exchange.handle(request_body())
            assert isinstance(pending, Pending)
            if turns:
                waiting = asyncio.ensure_future(pending.finish())
                for _ in range(turns):
                    await asyncio.sleep(0)
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)
            exchange.close()
            assert 0 == len(parts.flights)
        await until(lambda: not any(b"refresh" in lease for lease in shared.leases()))


async def test_a_refresh_of_an_entry_that_was_purged_passes_the_error() -> None:
    """There is nothing any more that could be given in its place."""
    async with near_expiry() as parts:
        parts.chance = GOES
        ahead = parts.exchange()
        await ask(ahead)
        (key,) = parts.near._copies
        parts.near.clear()
        assert await parts.store.delete(key)
        assert isinstance(await reply_to(ahead, response_headers(500)), Continue)


async def test_one_replica_goes_ahead_for_all(shared: Shared) -> None:
    """The others hit on, near and from the store; once its answer is in, everyone finds it."""
    async with shared.replicas(3, rules=[RULE]) as (one, other, third):
        for parts in (one, other, third):
            parts.chance = STAYS
        await keep(one)
        assert isinstance(await ask(other.exchange()), Immediate)
        shared.elapse(TTL_S - 1)
        for parts in (one, other, third):
            parts.chance = GOES
        ahead = one.exchange()
        assert FORWARDED == await ask(ahead)
        for parts in (one, other, third):
            for _ in range(3):
                assert isinstance(await ask(parts.exchange()), Immediate)
        answer_json(ahead, NEWER)
        await one.writeback.drain(5)
        for parts in (other, third):
            parts.near.clear()
            reply = await ask(parts.exchange())
            assert isinstance(reply, Immediate)
            assert NEWER == reply.body


async def test_a_replica_that_gave_up_its_refresh_frees_the_others(shared: Shared) -> None:
    """Its lease is given back, and the next replica goes ahead."""
    async with shared.replicas(rules=[RULE]) as (one, other):
        one.chance = other.chance = STAYS
        await keep(one)
        shared.elapse(TTL_S - 1)
        one.chance = other.chance = GOES
        ahead = one.exchange()
        assert FORWARDED == await ask(ahead)
        ahead.close()
        await until(lambda: not any(b"refresh" in lease for lease in shared.leases()))
        assert FORWARDED == await ask(other.exchange())


async def test_a_store_that_fails_costs_no_hit(over_redis: Shared) -> None:
    """Where nobody can say who goes ahead nobody does, and the near copy answers."""
    async with over_redis.replica(rules=[RULE]) as parts:
        parts.chance = STAYS
        await keep(parts)
        assert isinstance(await ask(parts.exchange()), Immediate)
        over_redis.clock.now_s += TTL_S - 1

        async def refuse(*_arguments: object, **_options: object) -> None:
            raise BackendUnavailable("redis", "SET", "gone")

        parts.cache.leases._keeper.claim_lease = refuse  # type: ignore[union-attr,method-assign]  # what an outage does
        parts.chance = GOES
        assert isinstance(await ask(parts.exchange()), Immediate)
        assert 0 == len(parts.flights)


async def test_a_store_without_leases_refreshes_alone() -> None:
    """One process is all that must agree then."""
    async with core(Config(rules=(Rule.model_validate(RULE),)), store=FaultyStore()) as parts:
        parts.chance = STAYS
        await keep(parts)
        parts.clock.now_s += TTL_S - 1
        parts.chance = GOES
        assert FORWARDED == await ask(parts.exchange())
        assert isinstance(await ask(parts.exchange()), Immediate)
