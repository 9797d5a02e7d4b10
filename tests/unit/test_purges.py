"""The purges that a process knows of: kept up with the store, whatever it does."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from prometheus_client import CollectorRegistry

from ai_cache_extproc.cache import purges as module
from ai_cache_extproc.cache.changes import Changes
from ai_cache_extproc.cache.marks import Marks, dumped, loaded
from ai_cache_extproc.cache.near import Near
from ai_cache_extproc.cache.purges import Purges
from ai_cache_extproc.cache.selection import Selection
from ai_cache_extproc.errors import BackendError, BackendUnavailable
from ai_cache_extproc.keys.identity import Keyring
from ai_cache_extproc.model import Hearing
from ai_cache_extproc.stores.memory import MemoryStore
from ai_cache_extproc.telemetry.metrics import Metrics
from tests.exchange.faulty_store import FaultyStore
from tests.support.entries import NOW_S, entry_of
from tests.support.shared_redis import until


@dataclass
class Marking(FaultyStore):
    """A faulty store that keeps marks."""

    marks: dict[str, bytes] = field(default_factory=dict)
    asked: int = 0
    beaten: int = 0

    async def get_with_mark(self, key: str, mark: str) -> tuple[bytes | None, bytes | None]:
        return await self.get(key), self.marks.get(mark)

    async def mark(self, mark: str) -> bytes | None:
        self.asked += 1
        await self._suffer()
        return self.marks.get(mark)

    async def change_mark(self, mark: str, old: bytes | None, new: bytes) -> bool:
        await self._suffer()
        if self.beaten:
            self.beaten -= 1
            self.marks[mark] = dumped(loaded(old).flushed() if old else Marks().flushed())
        if self.marks.get(mark) != old:
            return False
        self.marks[mark] = new
        return True


@dataclass
class Keys:
    """A keyring that changes when it is told to."""

    current: Keyring | None = None


class Process:
    """One of those who share a store."""

    def __init__(self, store: FaultyStore | MemoryStore) -> None:
        self.near = Near(bytes_max=100_000, ttl_s_max=60, clock=lambda: NOW_S)
        self.registry = CollectorRegistry()
        self.keys = Keys(Keyring(b"k" * 32, "p:"))
        self.purges = Purges(
            self.keys,
            store,
            prefix="p:",
            near=self.near,
            metrics=Metrics(self.registry),
            clock=lambda: NOW_S,
        )
        self.changes = Changes(self.near, self.purges)

    def is_settled(self) -> bool:
        """Whether a lookup asks for the entry alone."""
        return self.purges.settled

    def ring(self) -> Keyring | None:
        """The keyring of the current epoch."""
        return self.purges.current

    def errors(self, kind: str) -> float:
        """How many errors of a kind were counted."""
        name = "aicache_backend_errors_total"
        samples = [sample for family in self.registry.collect() for sample in family.samples if sample.name == name]
        return sum(sample.value for sample in samples if sample.labels["kind"] == kind)


def test_without_a_store_for_marks_they_are_the_process_own() -> None:
    """They are settled from the beginning, and no news is expected."""
    process = Process(MemoryStore(bytes_max=1000, clock=lambda: NOW_S))
    process.near.put("key", entry_of())
    process.changes.changed(("p:epoch",))
    process.changes.hearing(Hearing.NONE)
    assert process.is_settled()
    assert process.near.get("key") is not None


async def test_a_process_of_its_own_purges_at_once() -> None:
    """The keyring is of the new epoch, and the near copies are gone."""
    process = Process(MemoryStore(bytes_max=1000, clock=lambda: NOW_S))
    process.near.put("key", entry_of())
    assert await process.purges.look()
    await process.purges.run()
    marks = await process.purges.change(Marks.flushed)
    assert (1, 1) == (marks.number, marks.epoch)
    assert Keyring(b"k" * 32, "p:", 1, 1) == process.ring()
    assert process.near.get("key") is None


def test_the_keyring_follows_the_secret() -> None:
    """None as long as there is none, and the same object as long as nothing changes."""
    process = Process(Marking())
    first = process.ring()
    assert first is process.ring()
    process.keys.current = None
    assert process.ring() is None
    process.keys.current = Keyring(b"o" * 32, "p:")
    assert Keyring(b"o" * 32, "p:") == process.ring()


async def test_what_one_purges_another_knows_after_a_look() -> None:
    """Until news of changes are heard nobody relies on what is known."""
    store = Marking()
    one, other = Process(store), Process(store)
    await one.purges.change(lambda marks: marks.purged(Selection(model="m"), NOW_S))
    other.near.put("key", entry_of())
    assert await other.purges.look()
    assert one.purges.marks == other.purges.marks
    assert other.near.get("key") is None
    assert not other.is_settled()


async def test_a_look_while_changes_are_heard_settles() -> None:
    """From then on a lookup asks for the entry alone, until the record changes."""
    process = Process(Marking())
    process.changes.hearing(Hearing.ALL)
    assert not process.is_settled()
    assert await process.purges.look()
    assert process.is_settled()
    process.changes.changed(("p:other",))
    assert process.is_settled()
    process.changes.changed(("p:epoch",))
    assert not process.is_settled()
    await process.purges.look()
    process.changes.changed(None)
    assert not process.is_settled()
    await process.purges.look()
    process.changes.hearing(Hearing.LOST)
    assert not process.is_settled()


async def test_a_change_during_a_look_is_not_missed() -> None:
    """What was read may be of before it."""
    store = Marking(hanging=asyncio.Event())
    process = Process(store)
    process.changes.hearing(Hearing.ALL)
    looking = asyncio.create_task(process.purges.look())
    await until(lambda: store.asked == 1)
    process.changes.changed(("p:epoch",))
    assert store.hanging is not None
    store.hanging.set()
    assert await looking
    assert not process.is_settled()


async def test_a_read_shows_a_purge() -> None:
    """The record comes with the entry."""
    store = Marking()
    one, other = Process(store), Process(store)
    await store.set("key", b"value", ttl_s=1)
    await one.purges.change(Marks.flushed)
    assert b"value" == await other.purges.read("key")
    assert 1 == other.purges.marks.epoch
    assert b"value" == await other.purges.read("key")


async def test_a_record_that_was_lost_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """By anyone who knows it, at the latest with the next look; a read that misses it asks for one."""
    for name in ("LOOK_S", "RETRY_S"):
        monkeypatch.setattr(module, name, 60)
    store = Marking()
    process = Process(store)
    marks = await process.purges.change(Marks.flushed)
    running = asyncio.create_task(process.purges.run())
    await until(lambda: store.asked == 2)
    store.marks.clear()
    await process.purges.read("key")
    await until(lambda: bool(store.marks))
    assert marks == loaded(store.marks["p:epoch"]) == process.purges.marks
    running.cancel()


async def test_an_older_record_does_not_take_its_place() -> None:
    """As after a failover to a replica that was behind."""
    store = Marking()
    process = Process(store)
    behind = dumped(await process.purges.change(Marks.flushed))
    marks = await process.purges.change(Marks.flushed)
    store.marks["p:epoch"] = behind
    assert await process.purges.look()
    assert marks == loaded(store.marks["p:epoch"])


async def test_a_damaged_record_flushes() -> None:
    """Nobody knows what it said."""
    store = Marking(marks={"p:epoch": b"rubbish"})
    process = Process(store)
    assert await process.purges.look()
    assert int(NOW_S) == process.purges.marks.epoch
    assert process.purges.marks == loaded(store.marks["p:epoch"])


async def test_who_puts_back_too_late_leaves_it() -> None:
    """Another has been there meanwhile: the next look shows what he put there."""
    store = Marking()
    process = Process(store)
    await process.purges.change(Marks.flushed)
    store.marks.clear()
    store.beaten = 1
    assert await process.purges.look()
    assert 1 == loaded(store.marks["p:epoch"]).epoch


async def test_changes_at_the_same_time_all_count() -> None:
    """Who is beaten to it goes by the new record."""
    store = Marking(beaten=3)
    process = Process(store)
    marks = await process.purges.change(lambda marks: marks.purged(Selection(model="m"), NOW_S))
    assert (4, 3) == (marks.number, marks.epoch)


async def test_a_record_that_never_stands_still_is_given_up() -> None:
    """With the way out."""
    process = Process(Marking(beaten=100))
    with pytest.raises(BackendUnavailable, match="try again"):
        await process.purges.change(Marks.flushed)


@pytest.mark.parametrize("hangs", [False, True], ids=["fails", "hangs"])
async def test_a_store_that_does_not_answer_is_counted(monkeypatch: pytest.MonkeyPatch, hangs: bool) -> None:
    """What is known stays, and is not relied on."""
    monkeypatch.setattr(module, "_READ_S_MAX", 0.01)
    fault: BackendError = BackendUnavailable("redis", "mark", "gone")
    process = Process(Marking(hanging=asyncio.Event()) if hangs else Marking(fault=fault))
    process.changes.hearing(Hearing.ALL)
    assert not await process.purges.look()
    assert not process.is_settled()
    assert 1 == process.errors("timeout" if hangs else "unavailable")


async def test_it_looks_again_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Soon after a failure, and from time to time where no change is heard of."""
    for name in ("LOOK_S", "RETRY_S"):
        monkeypatch.setattr(module, name, 0.001)
    store = Marking(fault=BackendUnavailable("redis", "mark", "gone"))
    process = Process(store)
    running = asyncio.create_task(process.purges.run())
    await until(lambda: store.asked > 1)
    store.fault = None
    store.marks["p:epoch"] = dumped(Marks().flushed())
    await until(lambda: process.purges.marks.epoch == 1)
    running.cancel()
