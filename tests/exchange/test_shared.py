"""Replicas that share a store: of all that ask the same, one asks the upstream, whichever of them leaves or dies."""

from __future__ import annotations

import asyncio

import pytest

from ai_cache_extproc.errors import BackendRejected
from ai_cache_extproc.extproc.events import Continue, ExtendTimeout, Immediate, Part, Pending
from ai_cache_extproc.extproc.exchange import Exchange
from tests.exchange.conversation import (
    ANSWER_BODY,
    STREAM,
    Core,
    answer_json,
    answer_stream,
    ask,
    miss_then_store,
    replies_to,
    request_body,
    request_headers,
    response_headers,
)
from tests.exchange.replicas import LEASE_S, Shared, asking, first_of, hits
from tests.support.shared_redis import until

FORWARDED = Continue(Part.REQUEST_BODY)
UNFIT = ANSWER_BODY.replace(b'"finish_reason": "stop"', b'"finish_reason": "length"')


async def waits(parts: Core, exchange: Exchange | None = None) -> bool:
    """Whether a question that comes now is told to wait for another."""
    asked = exchange or parts.exchange()
    asked.handle(request_headers())
    replies = await replies_to(asked, request_body())
    return isinstance(replies[0], ExtendTimeout)


async def waiting_in(parts: Core) -> None:
    """Return once somebody in this process waits for another one."""
    await until(lambda: bool(parts.pipeline._changes.waiting))


async def test_of_many_over_two_replicas_one_asks(shared: Shared) -> None:
    """Fifty identical questions cost one request; everyone else gets its answer, wherever they asked."""
    async with shared.replicas() as replicas:
        asked = [asking(replicas[number % 2]) for number in range(50)]
        leader = await first_of(asked)
        answer_json(leader)
        others = [(exchange, task) for exchange, task in asked if exchange is not leader]
        assert [ANSWER_BODY] * 49 == await hits(others)
        await asyncio.gather(*(parts.writeback.drain(5) for parts in replicas))
        assert [0, 0] == [len(parts.flights) for parts in replicas]
        assert [{}, {}] == [parts.pipeline._changes.waiting for parts in replicas]


async def test_who_comes_later_finds_the_answer_everywhere(shared: Shared) -> None:
    """What one replica stored is a hit in the other, in both modes."""
    async with shared.replicas() as (one, other):
        await miss_then_store(one)
        for stream in (False, True):
            assert isinstance(await ask(other.exchange(), stream=stream), Immediate)


async def test_another_replica_takes_over_from_a_leader_that_left(shared: Shared) -> None:
    """A client that hangs up before its answer frees those who wait elsewhere, and one of them leads."""
    async with shared.replicas() as (one, other):
        leader = one.exchange()
        assert FORWARDED == await ask(leader)
        followers = [asking(other) for _ in range(3)]
        await waiting_in(other)
        leader.close()
        heir = await first_of(followers)
        answer_json(heir)
        await hits([(exchange, task) for exchange, task in followers if exchange is not heir])


async def test_a_cut_answer_frees_those_who_wait_elsewhere(shared: Shared) -> None:
    """An answer that did not come to its end is given to nobody, and the next one asks."""
    async with shared.replicas() as (one, other):
        leader = one.exchange()
        await ask(leader, stream=True)
        followers = [asking(other, stream=True)]
        await waiting_in(other)
        answer_stream(leader, STREAM[:2])
        leader.close()
        answer_stream(await first_of(followers))


@pytest.mark.parametrize("status", [500, 429, 404])
async def test_a_failed_leader_is_followed_by_the_next(shared: Shared, status: int) -> None:
    """Nobody elsewhere gets the error or waits for the next one's end: it may be gone with the next answer."""
    async with shared.replicas() as (one, other):
        leader = one.exchange()
        await ask(leader)
        followers = [asking(other)]
        await waiting_in(other)
        leader.handle(response_headers(status))
        answer_json(await first_of(followers))
        await other.writeback.drain(5)
        assert isinstance(await ask(one.exchange()), Immediate)


async def test_an_answer_that_is_not_kept_frees_everyone_and_is_remembered(shared: Shared) -> None:
    """Whoever waits elsewhere goes upstream at once, and for a while nobody waits again, not even in a third replica."""
    async with shared.replicas(3) as (one, other, third):
        leader = one.exchange()
        await ask(leader)
        followers = [asking(other) for _ in range(3)]
        await waiting_in(other)
        answer_json(leader, UNFIT)
        assert [FORWARDED] * 3 == [await task for _, task in followers]
        assert [False] * 3 == [await waits(parts) for parts in (one, other, third)]
        shared.elapse(11)
        assert 1 == one.counted("aicache_store_total", result="refused", reason="finish_reason")


async def test_an_answer_that_did_not_reach_the_store_frees_those_who_wait_elsewhere(shared: Shared) -> None:
    """One of them asks the upstream at once, long before the lease would have expired."""
    async with shared.replicas(2) as (one, other):
        leader = one.exchange()
        await ask(leader)
        exchange, task = asking(other)
        await waiting_in(other)

        async def full(key: str, value: bytes, *, ttl_s: float) -> None:
            raise BackendRejected("store", "set", f"no room for {len(value)} bytes under {key} for {ttl_s} s")

        one.store.set = full  # type: ignore[method-assign]  # what a full store does
        answer_json(leader)
        assert FORWARDED == await task
        assert 1 == one.counted("aicache_store_total", result="failed", reason="store_error")
        answer_json(exchange)


async def test_a_leader_that_died_is_waited_for_no_longer_than_its_lease(shared: Shared) -> None:
    """A process that ends without a word holds the others up until its lease is over, and one of them leads then."""
    async with shared.replicas(1) as (survivor,):
        async with shared.replica() as victim:
            await ask(victim.exchange())
            victim.cache.leases._held.clear()
        assert 1 == len(shared.leases())
        followers = [asking(survivor) for _ in range(3)]
        await waiting_in(survivor)
        shared.elapse(LEASE_S)
        heir = await first_of(followers)
        answer_json(heir)
        await hits([(exchange, task) for exchange, task in followers if exchange is not heir])


async def test_a_wait_for_another_replica_ends_with_its_time(shared: Shared) -> None:
    """Whoever waited long enough goes upstream, and its answer is kept all the same."""
    lookup = {"deadline_ms": 10_000, "flight_wait_ms": 20}
    async with shared.replicas(1) as (one,), shared.replica(lookup=lookup) as other:
        await ask(one.exchange())
        exchange, task = asking(other)
        assert FORWARDED == await task
        assert 1 == other.counted("aicache_flights_total", result="timed_out")
        answer_json(exchange)
        await other.writeback.drain(5)
        async with shared.replica() as third:
            assert isinstance(await ask(third.exchange()), Immediate)


async def test_news_that_bring_nothing_do_not_prolong_a_wait(shared: Shared) -> None:
    """However often somebody who waits is woken to look again, its time ends the wait."""
    lookup = {"deadline_ms": 10_000, "flight_wait_ms": 20}
    async with shared.replicas(1) as (one,), shared.replica(lookup=lookup) as other:
        await ask(one.exchange())
        get = other.store.get

        async def disturbed(key: str) -> bytes | None:
            await asyncio.sleep(0.03)
            other.pipeline._changes.changed(None)
            return await get(key)

        other.store.get = disturbed  # type: ignore[method-assign]  # what a busy store does
        assert FORWARDED == await asking(other)[1]
        assert 1 == other.counted("aicache_flights_total", result="timed_out")


async def test_a_follower_in_the_other_mode_asks_for_itself(shared: Shared) -> None:
    """An answer that cannot be given in the mode that somebody elsewhere waits for is no reason to wait on."""
    async with shared.replicas() as (one, other):
        leader = one.exchange()
        await ask(leader, stream=True)
        exchange, task = asking(other)
        await waiting_in(other)
        answer_stream(leader)
        assert FORWARDED == await task
        answer_json(exchange)
        await other.writeback.drain(5)
        for parts in (one, other):
            parts.near.clear()
            for stream in (False, True):
                assert isinstance(await ask(parts.exchange(), stream=stream), Immediate)


async def test_without_a_flight_wait_there_are_no_leases(shared: Shared) -> None:
    """Who does not want to wait does not ask the store for leave either."""
    lookup = {"deadline_ms": 10_000, "flight_wait_ms": 0}
    async with shared.replicas(lookup=lookup) as (one, other):
        leaders = [one.exchange(), other.exchange()]
        assert [FORWARDED, FORWARDED] == [await ask(leader) for leader in leaders]
        assert [] == shared.leases()
        answer_json(leaders[0], UNFIT)
        answer_json(leaders[1])
        for parts in (one, other):
            await parts.writeback.drain(5)
        assert [] == shared.leases()


async def test_a_follower_that_leaves_holds_nothing(shared: Shared) -> None:
    """Its seat in its own process passes on, and the next one goes on waiting for the other replica."""
    async with shared.replicas() as (one, other):
        leader = one.exchange()
        await ask(leader)
        gone, waiting = asking(other)
        await waiting_in(other)
        behind = asking(other)
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        gone.close()
        await waiting_in(other)
        answer_json(leader)
        assert [ANSWER_BODY] == await hits([behind])
        assert 0 == len(other.flights)
        assert {} == other.pipeline._changes.waiting


async def test_a_follower_that_leaves_between_its_waits_holds_nothing(shared: Shared) -> None:
    """Told to wait for another process, but gone before the wait began: its place is given back."""
    async with shared.replicas() as (one, other):
        await ask(one.exchange())
        exchange = other.exchange()
        exchange.handle(request_headers())
        looking = exchange.handle(request_body())
        assert isinstance(looking, Pending)
        held = await looking.finish()
        assert isinstance(held, Pending)
        assert isinstance(held.first, ExtendTimeout)
        assert 1 == len(other.flights)
        exchange.close()
        assert 0 == len(other.flights)


async def test_envoy_is_asked_for_time_once(shared: Shared) -> None:
    """It ignores a second extension: one covers the wait here and the wait for another process."""
    async with shared.replicas() as (one, other):
        leader = one.exchange()
        await ask(leader)
        exchange = other.exchange()
        exchange.handle(request_headers())
        asked = asyncio.create_task(replies_to(exchange, request_body()))
        await waiting_in(other)
        answer_json(leader)
        extension, reply = await asked
        assert isinstance(extension, ExtendTimeout)
        assert isinstance(reply, Immediate)


async def test_a_claim_that_was_given_up_frees_the_others(shared: Shared) -> None:
    """A client that hangs up while its lease is being asked for leaves no lease behind."""
    async with shared.replicas() as (one, other):
        exchange, task = asking(one)
        claimed = asyncio.Event()
        keeper, claim = one.cache.leases._keeper, one.cache.leases._keeper.claim_lease  # type: ignore[union-attr]  # there is one

        async def slow(*arguments: object, **options: object) -> object:
            await claim(*arguments, **options)  # type: ignore[arg-type]  # as they came
            claimed.set()
            return await asyncio.Event().wait()

        keeper.claim_lease = slow  # type: ignore[union-attr,method-assign]  # what a slow network does
        await claimed.wait()
        assert 1 == len(shared.leases())
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        exchange.close()
        await until(lambda: not shared.leases())
        assert FORWARDED == await ask(other.exchange())
