"""The leases of one process: taken when asked for, given back behind everyone's back, or left to expire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from prometheus_client import CollectorRegistry

from ai_cache_extproc.cache import leases as module
from ai_cache_extproc.cache.flights import Ending
from ai_cache_extproc.cache.leases import Leases
from ai_cache_extproc.errors import BackendError, BackendRejected, BackendTimeout, BackendUnavailable
from ai_cache_extproc.stores.base import Claim
from ai_cache_extproc.telemetry.metrics import Metrics
from tests.support.shared_redis import until

TTL_S = 5.0


class Keeper:
    """Leases in memory; it hangs or fails where it is told to."""

    def __init__(self) -> None:
        self.holders: dict[str, bytes] = {}
        self.refused: dict[str, float] = {}
        self.fault: BackendError | None = None
        self.hanging: asyncio.Event | None = None
        self.asked = 0

    async def _suffer(self) -> None:
        self.asked += 1
        if self.hanging is not None:
            await self.hanging.wait()
        if self.fault is not None:
            raise self.fault

    async def claim_lease(self, key: str, holder: bytes, *, ttl_s: float) -> Claim:
        assert TTL_S == ttl_s
        if key in self.refused:
            return Claim.REFUSED
        if not isinstance(self.fault, BackendRejected):
            self.holders.setdefault(key, holder)
        await self._suffer()
        return Claim.TAKEN if self.holders.get(key) == holder else Claim.HELD

    async def release_lease(self, key: str, holder: bytes) -> None:
        await self._suffer()
        if self.holders.get(key) == holder:
            del self.holders[key]

    async def refuse_lease(self, key: str, *, ttl_s: float) -> None:
        await self._suffer()
        self.refused[key] = ttl_s


class Process:
    """The leases of a process, and what it counted."""

    def __init__(self, keeper: Keeper | None) -> None:
        self.registry = CollectorRegistry()
        self.leases = Leases(keeper, metrics=Metrics(self.registry))

    async def claim(self, key: str = "key") -> Claim:
        """Ask for a lease."""
        return await self.leases.claim(key, ttl_s=TTL_S)

    def errors(self, operation: str, kind: str) -> float:
        """Errors of the store that were counted."""
        labels = {"backend": "redis", "operation": operation, "kind": kind}
        return self.registry.get_sample_value("aicache_backend_errors_total", labels) or 0.0


@asynccontextmanager
async def running(keeper: Keeper | None) -> AsyncIterator[Process]:
    """A process that gives its leases back."""
    process = Process(keeper)
    task = asyncio.create_task(process.leases.run())
    try:
        yield process
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_process_alone_asks_nobody() -> None:
    """Every claim is good, and nothing is to be given back; there is nothing to run."""
    process = Process(None)
    assert not process.leases.are_shared
    assert [Claim.TAKEN, Claim.TAKEN] == [await process.claim(), await process.claim()]
    process.leases.ended("key", Ending.LEFT)
    await process.leases.run()


async def test_processes_are_told_apart() -> None:
    """Each has a name of its own, under which its claims are its own."""
    keeper = Keeper()
    async with running(keeper) as one, running(keeper) as other:
        assert one.leases.are_shared
        assert [Claim.TAKEN, Claim.HELD, Claim.TAKEN] == [await one.claim(), await other.claim(), await one.claim()]


async def test_a_lease_that_nobody_uses_any_more_is_given_back() -> None:
    """Once, however often its end is told."""
    keeper = Keeper()
    async with running(keeper) as process:
        await process.claim()
        for _ in range(2):
            process.leases.ended("key", Ending.LEFT)
        await until(lambda: not keeper.holders)
        await process.claim("other")
        process.leases.ended("other", Ending.LEFT)
        await until(lambda: not keeper.holders)
        assert 4 == keeper.asked, "two claims, two releases"


async def test_the_lease_of_a_written_entry_expires_by_itself() -> None:
    """Until then everyone finds the entry; giving it back would cost a round trip of each answer."""
    keeper = Keeper()
    async with running(keeper) as process:
        await process.claim()
        process.leases.ended("key", Ending.LANDED)
        await process.claim("other")
        process.leases.ended("other", Ending.LEFT)
        await until(lambda: "other" not in keeper.holders)
        assert ["key"] == list(keeper.holders)


async def test_the_lease_of_an_entry_that_was_not_written_is_given_back() -> None:
    """Others would wait for it until it expires; a process alone has nothing to give back."""
    keeper = Keeper()
    async with running(keeper) as process:
        await process.claim()
        process.leases.ended("key", Ending.LANDED)
        process.leases.unkept("key")
        await until(lambda: not keeper.holders)
    Process(None).leases.unkept("key")


async def test_a_refusal_is_told_to_the_others() -> None:
    """In the place of the lease stands for a while that answers of this key are not kept."""
    keeper = Keeper()
    async with running(keeper) as process:
        await process.claim()
        process.leases.ended("key", Ending.REFUSED)
        await until(lambda: {"key": 10.0} == keeper.refused)
        assert Claim.REFUSED is await process.claim()


async def test_what_was_never_ours_is_not_given_back() -> None:
    """Another's lease, and a flight that no lease was asked for, end without a word to the store."""
    keeper = Keeper()
    async with running(keeper) as one, running(keeper) as other:
        await one.claim()
        await other.claim()
        for ending in Ending:
            other.leases.ended("key", ending)
            other.leases.ended("unknown", ending)
        await other.claim("last")
        other.leases.ended("last", Ending.LEFT)
        await until(lambda: "last" not in keeper.holders)
        assert (["key"], {}) == (list(keeper.holders), keeper.refused)


@pytest.mark.parametrize("how", ["cancelled", "timed out"])
async def test_a_claim_whose_reply_never_came_is_given_back(how: str) -> None:
    """It may have been granted: others must not wait for somebody who never knew that it leads."""
    keeper = Keeper()
    async with running(keeper) as process:
        keeper.hanging = asyncio.Event()
        if how == "timed out":
            keeper.fault = BackendTimeout("redis", "SET", "slow")
        claim = asyncio.ensure_future(process.claim())
        await until(lambda: "key" in keeper.holders)
        if how == "timed out":
            keeper.hanging.set()
        else:
            claim.cancel()
        await asyncio.gather(claim, return_exceptions=True)
        keeper.hanging = keeper.fault = None
        process.leases.ended("key", Ending.LEFT)
        await until(lambda: not keeper.holders)


async def test_a_claim_that_was_refused_outright_is_nobodys() -> None:
    """A store that has no room has granted nothing, so nothing is given back."""
    keeper = Keeper()
    async with running(keeper) as process:
        keeper.fault = BackendRejected("redis", "SET", "OOM")
        with pytest.raises(BackendRejected):
            await process.claim("full")
        keeper.fault = None
        asked = keeper.asked
        process.leases.ended("full", Ending.LEFT)
        await process.claim()
        process.leases.ended("key", Ending.LEFT)
        await until(lambda: "key" not in keeper.holders)
        assert asked + 2 == keeper.asked


async def test_a_store_that_fails_costs_one_lease_and_not_the_next() -> None:
    """What cannot be given back is counted and left to expire."""
    keeper = Keeper()
    async with running(keeper) as process:
        await process.claim("lost")
        keeper.fault = BackendUnavailable("redis", "delete", "gone")
        process.leases.ended("lost", Ending.LEFT)
        await until(lambda: process.errors("delete", "unavailable") == 1)
        keeper.fault = None
        await process.claim()
        process.leases.ended("key", Ending.LEFT)
        await until(lambda: ["lost"] == list(keeper.holders))


async def test_a_store_that_hangs_is_given_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """One lease that cannot be given back does not hold the others up for ever."""
    monkeypatch.setattr(module, "_RETURN_S_MAX", 0.01)
    keeper = Keeper()
    async with running(keeper) as process:
        await process.claim("stuck")
        await process.claim()
        keeper.hanging = asyncio.Event()
        process.leases.ended("stuck", Ending.LEFT)
        await until(lambda: keeper.asked == 3)
        await asyncio.sleep(0.02)
        keeper.hanging = None
        process.leases.ended("key", Ending.LEFT)
        await until(lambda: ["stuck"] == list(keeper.holders))


async def test_returns_are_bounded() -> None:
    """While the store hangs only so many wait to be given back; the oldest are left to expire."""
    keeper = Keeper()
    async with running(keeper) as process:
        for number in range(module._RETURNS_MAX + 10):
            await process.claim(str(number))
        for number in range(module._RETURNS_MAX + 10):
            process.leases.ended(str(number), Ending.LEFT)
        await until(lambda: len(keeper.holders) == 10)
        assert [str(number) for number in range(10)] == list(keeper.holders)
