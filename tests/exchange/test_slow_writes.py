"""A store that is slow to write holds up nobody who waits for an answer that is there."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from ai_cache_extproc.cache import writeback
from ai_cache_extproc.config.model import Config, Envoy, Lookup
from ai_cache_extproc.config.rules import Rule
from ai_cache_extproc.extproc.events import Continue, Immediate
from ai_cache_extproc.model import Captured
from tests.exchange.conversation import answer_json, answer_stream, ask, core
from tests.exchange.faulty_store import FaultyStore


@dataclass
class TimedStore(FaultyStore):
    """Remembers for how long each value was to be kept."""

    lifetimes_s: list[float] = field(default_factory=list)

    async def set(self, key: str, value: bytes, *, ttl_s: float) -> None:
        """As in Store."""
        await super().set(key, value, ttl_s=ttl_s)
        self.lifetimes_s.append(ttl_s)


async def test_followers_do_not_wait_for_an_earlier_write() -> None:
    """With one write hanging, whoever follows another question gets its answer as soon as the upstream gave it."""
    store = FaultyStore()
    config = Config(
        envoy=Envoy(message_timeout_ms=500, max_message_timeout_ms=10_000),
        lookup=Lookup(flight_wait_ms=5000),
    )
    async with core(config, store=store) as parts:
        first, leader = parts.exchange(), parts.exchange()
        await ask(first, seed=1)
        await ask(leader, seed=2)
        followers = [asyncio.create_task(ask(parts.exchange(), seed=2)) for _ in range(3)]
        await asyncio.sleep(0)
        store.hanging = asyncio.Event()
        answer_json(first)
        await asyncio.sleep(0)
        answer_json(leader)
        assert [Immediate] * 3 == [type(reply) for reply in await asyncio.gather(*followers)]
        assert {} == store.values
        store.hanging.set()
        assert 2 == await parts.stored()


async def test_a_fault_while_judging_spares_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug met before an answer landed is counted, frees those who wait, and the queue goes on."""
    settle = writeback._settle

    def broken(_fill: writeback.Fill) -> Captured:
        raise ZeroDivisionError("a bug")

    async with core(store=FaultyStore()) as parts:
        monkeypatch.setattr(writeback, "_settle", broken)
        exchange = parts.exchange()
        await ask(exchange)
        answer_json(exchange)
        assert 0 == await parts.stored()
        assert 0 == len(parts.flights)
        assert 1 == parts.counted("aicache_exchange_faults_total")
        monkeypatch.setattr(writeback, "_settle", settle)
        exchange = parts.exchange()
        await ask(exchange)
        answer_json(exchange)
        assert 1 == await parts.stored()


async def test_a_clock_that_is_behind_prolongs_nothing() -> None:
    """An answer that joins one of a replica a day ahead stays in the store as long as its rule says, and no longer."""
    store = TimedStore()
    config = Config(rules=(Rule(ttl_s=600, ttl_jitter=0),))
    async with core(config, store=store) as parts:
        exchange = parts.exchange()
        await ask(exchange, stream=True)
        answer_stream(exchange)
        await parts.writeback.drain(5)
        assert pytest.approx(600) == store.lifetimes_s[-1]
        parts.near.clear()
        parts.clock.now_s -= 86_400
        exchange = parts.exchange()
        assert isinstance(await ask(exchange), Continue)
        answer_json(exchange)
        await parts.writeback.drain(5)
        assert 2 == len(store.lifetimes_s)
        assert pytest.approx(600) == store.lifetimes_s[-1]
