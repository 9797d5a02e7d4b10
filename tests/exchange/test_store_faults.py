"""A store that is down, slow or lying: the client gets the upstream's answer, inside the budget."""

from __future__ import annotations

import asyncio

import pytest

from ai_cache_extproc.config.model import Config, Envoy, Lookup, WriteQueue
from ai_cache_extproc.errors import BackendError, BackendRejected, BackendTimeout, BackendUnavailable
from ai_cache_extproc.extproc.events import Continue, Immediate
from tests.exchange.conversation import answer_json, ask, core, header, response_headers
from tests.exchange.faulty_store import FaultyStore

FAULTS = [
    (BackendUnavailable("faulty", "get", "gone"), "unavailable"),
    (BackendTimeout("faulty", "get", "late"), "timeout"),
    (BackendRejected("faulty", "get", "rubbish"), "rejected"),
]


@pytest.mark.parametrize(("fault", "kind"), FAULTS, ids=["unavailable", "timeout", "rejected"])
async def test_a_broken_store_is_a_bypass(fault: BackendError, kind: str) -> None:
    """A store that fails is bypassed with the reason, counted once, and holds nobody up."""
    store = FaultyStore(fault=fault)
    async with core(store=store) as parts:
        exchange = parts.exchange()
        assert isinstance(await ask(exchange), Continue)
        reply = exchange.handle(response_headers())
        assert "store_error" == header(reply, "x-ai-cache-reason")  # type: ignore[arg-type]
        assert 1 == parts.counted("aicache_backend_errors_total", backend="faulty", operation="get", kind=kind)
        assert 0 == len(parts.flights)


async def test_a_slow_store_costs_the_deadline_and_no_more() -> None:
    """A store that does not answer in time makes a miss, whose answer is kept all the same."""
    store = FaultyStore(hanging=asyncio.Event())
    async with core(Config(lookup=Lookup(deadline_ms=1)), store=store) as parts:
        exchange = parts.exchange()
        assert isinstance(await ask(exchange), Continue)
        reply = answer_json(exchange)
        assert ("MISS", "store_timeout") == (header(reply, "x-ai-cache-status"), header(reply, "x-ai-cache-reason"))
        assert store.hanging is not None
        store.hanging.set()
        assert 1 == await parts.stored()
        assert isinstance(await ask(parts.exchange()), Immediate)


async def test_followers_still_follow_while_the_store_is_slow() -> None:
    """One caller asks the upstream even when the store is too slow to be asked."""
    store = FaultyStore(hanging=asyncio.Event())
    config = Config(
        envoy=Envoy(message_timeout_ms=500, max_message_timeout_ms=10_000),
        lookup=Lookup(deadline_ms=1, flight_wait_ms=5000),
    )
    async with core(config, store=store) as parts:
        leader = parts.exchange()
        await ask(leader)
        asked = [asyncio.create_task(ask(parts.exchange())) for _ in range(5)]
        await asyncio.sleep(0)
        answer_json(leader)
        for reply in await asyncio.gather(*asked):
            assert isinstance(reply, Immediate)


async def test_a_value_that_does_not_check_is_a_miss_and_is_deleted() -> None:
    """A foreign or damaged value under our key is never served, and makes room for a good one."""
    store = FaultyStore()
    async with core(store=store) as parts:
        first = parts.exchange()
        await ask(first)
        answer_json(first)
        await parts.writeback.drain(5)
        (key,) = store.values
        store.values[key] = store.values[key][:-1]
        parts.near.clear()
        assert isinstance(await ask(parts.exchange()), Continue)
        assert {} == store.values


async def test_an_answer_that_cannot_be_stored_is_still_known_near() -> None:
    """A write that fails is counted; this process answers from its own copy."""
    store = FaultyStore()
    async with core(store=store) as parts:
        exchange = parts.exchange()
        await ask(exchange)
        store.fault = BackendUnavailable("faulty", "set", "gone")
        answer_json(exchange)
        await parts.writeback.drain(5)
        assert 1 == parts.counted("aicache_store_total", result="failed", reason="store_error")
        assert isinstance(await ask(parts.exchange()), Immediate)


async def test_slow_writes_fill_the_queue_and_delay_nobody() -> None:
    """Behind a store that takes no writes, answers are dropped and counted at the queue's bound."""
    store = FaultyStore()
    async with core(Config(write_queue=WriteQueue(entries_max=2)), store=store) as parts:
        exchanges = [parts.exchange() for _ in range(5)]
        for seed, exchange in enumerate(exchanges):
            await ask(exchange, seed=seed)
        store.hanging = asyncio.Event()
        for exchange in exchanges:
            answer_json(exchange)
            await asyncio.sleep(0)
        assert not await parts.writeback.drain(0.01)
        assert 2 == parts.counted("aicache_store_total", result="dropped", reason="queue_full")
        store.hanging.set()
        assert await parts.writeback.drain(5)
        assert 3 == len(store.values)


async def test_a_write_that_hangs_is_given_up() -> None:
    """A write that never ends fails at its deadline, and the next answer gets its turn."""
    store = FaultyStore()
    async with core(store=store) as parts:
        for seed in (1, 2):
            exchange = parts.exchange()
            await ask(exchange, seed=seed)
            store.hanging = asyncio.Event() if seed == 1 else None
            answer_json(exchange)
            await parts.writeback.drain(5)
        assert 1 == len(store.values)
        assert 1 == parts.counted("aicache_store_total", result="failed", reason="store_error")
        assert 1 == parts.counted("aicache_backend_errors_total", backend="store", operation="set", kind="timeout")


async def test_an_answer_that_expired_in_the_queue_is_dropped() -> None:
    """What waited longer than it may be served is not stored."""
    store = FaultyStore()
    async with core(store=store) as parts:
        exchange = parts.exchange()
        await ask(exchange)
        answer_json(exchange)
        parts.clock.now_s += 3601
        await parts.writeback.drain(5)
        assert {} == store.values
        assert 1 == parts.counted("aicache_store_total", result="dropped", reason="expired")


@pytest.mark.parametrize("where", ["judged", "stored"])
async def test_a_fault_of_ours_in_one_fill_spares_the_next(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug met while an answer is kept is counted, frees those who wait, and the queue goes on."""
    store, bug = FaultyStore(fault=None), ZeroDivisionError("a bug")

    async def judge(_: object) -> None:
        raise bug

    async with core(store=store) as parts:
        first, second = parts.exchange(), parts.exchange()
        await ask(first, seed=1)
        with monkeypatch.context() as patched:
            if where == "judged":
                patched.setattr(parts.writeback, "_settled", judge)
            else:
                store.bug = bug
            answer_json(first)
            await parts.writeback.drain(5)
        store.bug = None
        await ask(second, seed=2)
        answer_json(second)
        await parts.writeback.drain(5)
        assert 1 == len(store.values)
        assert 1 == parts.counted("aicache_exchange_faults_total")
        assert 0 == len(parts.flights)
