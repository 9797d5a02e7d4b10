"""What an operator sees of a store, and takes out of it, in steps."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from ai_cache_extproc.cache import inventory as module
from ai_cache_extproc.cache.formats.native import Native, peek
from ai_cache_extproc.cache.inventory import BadWalk, Inventory
from ai_cache_extproc.cache.near import Near
from ai_cache_extproc.cache.purges import Purges
from ai_cache_extproc.cache.selection import Selection, facts_of
from ai_cache_extproc.errors import BackendRejected
from ai_cache_extproc.keys.apisix import apisix_id
from ai_cache_extproc.keys.identity import Keyring, higress_id
from ai_cache_extproc.model import Identity
from ai_cache_extproc.stores.memory import MemoryStore
from ai_cache_extproc.telemetry.metrics import Metrics
from tests.exchange.conversation import Keys
from tests.exchange.faulty_store import FaultyStore
from tests.support.entries import NOW_S, SCOPE, entry_of

RING = Keyring(b"k" * 32, "aicache:")


@dataclass
class Index:
    """What is kept beside entries."""

    forgotten: list[str] = field(default_factory=list)

    async def forget(self, keys: Sequence[str]) -> None:
        self.forgotten += keys


class Place:
    """A store with an inventory."""

    def __init__(self, store: Any = None, *, keyring: Keyring | None = RING, seconds: float = 0.0) -> None:
        self.store = store or MemoryStore(bytes_max=10_000_000, clock=lambda: NOW_S)
        near = Near(bytes_max=0, ttl_s_max=60, clock=lambda: NOW_S)
        self.index = Index()
        ticks = itertools.count()
        purges = Purges(
            Keys(keyring),
            self.store,
            prefix="aicache:",
            near=near,
            metrics=Metrics(CollectorRegistry()),
            clock=lambda: NOW_S,
        )
        self.inventory = Inventory(
            self.store,
            purges,
            prefix="aicache:",
            foreign={"higress:": higress_id, "apisix:": apisix_id},
            native=Native(),
            monotonic=lambda: next(ticks) * seconds,
            clock=lambda: NOW_S,
            beside=(self.index,),
        )

    async def put(self, number: int, *, epoch: int = 0, **facts: Any) -> Identity:
        """One entry."""
        digest = number.to_bytes(16, "big") * 2
        identity = Identity(f"aicache:{epoch}:{SCOPE}:{digest.hex()}", digest, "")
        await self.store.set(identity.key, Native().encode(entry_of(**facts), identity), ttl_s=60)
        return identity


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three keys at a time, and six in one walk."""
    monkeypatch.setattr(module, "STEP_KEYS", 3)
    monkeypatch.setattr(module, "WALK_KEYS_MAX", 6)


async def test_entries_are_found_by_their_facts() -> None:
    """Leases, the record of purges and what is none of ours are not among them."""
    place = Place()
    kept = await place.put(1, model="m", tags=("a",))
    await place.put(2, model="other")
    for key in (f"{kept.key}:lease", "aicache:epoch", "aicache:identity-key", f"aicache:x:{SCOPE}:{'0' * 64}"):
        await place.store.set(key, b"value", ttl_s=60)
    found = await place.inventory.find(Selection(model="m"), entries_max=10)
    assert (["m"], 1, 6, None) == ([facts.model for facts in found.entries], found.matched, found.scanned, found.cursor)
    (facts,) = found.entries
    assert (kept.id, SCOPE, ("a",), NOW_S, NOW_S + 60) == (
        facts.id,
        facts.scope,
        facts.tags,
        facts.created_s,
        facts.expires_s,
    )
    value = await place.store.get(kept.key)
    assert value is not None
    assert abs(len(value) - facts.size_bytes) < 10
    entry = await place.inventory.entry(facts)
    assert entry == entry_of(tags=("a",))


@pytest.mark.usefixtures("small_steps")
async def test_a_walk_is_taken_up_where_it_was_left() -> None:
    """After so many keys, so many entries or so much time; together the parts come across everything once."""
    place = Place()
    for number in range(20):
        await place.put(number)
    ids: list[str] = []
    cursor, calls = "", 0
    while calls == 0 or cursor:
        found = await place.inventory.find(Selection(), cursor=cursor, entries_max=1)
        assert 3 >= len(found.entries)
        ids += [facts.id for facts in found.entries]
        cursor, calls = found.cursor or "", calls + 1
    assert (20, 20) == (len(ids), len(set(ids)))
    assert 7 == calls


@pytest.mark.usefixtures("small_steps")
async def test_a_rehearsal_counts_more_than_it_shows() -> None:
    """It goes on until its limit of keys."""
    place = Place()
    for number in range(10):
        await place.put(number)
    found = await place.inventory.rehearse(Selection(), entries_max=2)
    assert (2, 6, 6) == (len(found.entries), found.matched, found.scanned)
    assert found.cursor is not None


async def test_a_walk_ends_when_its_time_is_over() -> None:
    """A store of any size holds nobody up."""
    place = Place(seconds=10.0)
    for number in range(600):
        await place.put(number)
    found = await place.inventory.rehearse(Selection())
    assert (500, True) == (found.scanned, found.cursor is not None)


@pytest.mark.usefixtures("small_steps")
async def test_a_purge_goes_on_as_the_same_purge() -> None:
    """Its cursor says which; what it means does not change, whatever is said beside the cursor."""
    place = Place()
    for number in range(10):
        await place.put(number, model="m" if number % 2 else "other")
    found = await place.inventory.purge(Selection(model="m"))
    removed, calls = found.removed, 1
    while found.cursor is not None:
        found = await place.inventory.purge(Selection(), cursor=found.cursor)
        removed, calls = removed + found.removed, calls + 1
    assert (5, 1, 1) == (removed, found.purge, place.inventory.marks.number)
    assert 2 <= calls
    assert 5 == (await place.store.stats()).entries
    assert 5 == len(place.index.forgotten)


async def test_entries_of_other_epochs_are_removed_too() -> None:
    """Nobody finds them any more, and still they hold an answer."""
    place = Place()
    await place.put(1, epoch=0)
    await place.inventory.flush()
    await place.put(2, epoch=1, purges=1)
    assert {0, 1} == {facts.epoch for facts in (await place.inventory.find(Selection(), entries_max=9)).entries}
    assert 2 == (await place.inventory.purge(Selection())).removed


async def test_a_long_header_is_read_whole() -> None:
    """Where it does not fit into the first bytes, the value is read."""
    place = Place()
    await place.put(1, tags=tuple(f"{number:0>200}" for number in range(30)))
    assert 1 == (await place.inventory.find(Selection(tag=f"{29:0>200}"), entries_max=1)).matched


@pytest.mark.parametrize(
    "value", [b"rubbish" * 1000, b"", b"\x1a\x03abc\x22\x00", b"\x08"], ids=["long", "none", "header", "cut"]
)
async def test_what_does_not_check_is_passed_by(value: bytes) -> None:
    """Whoever looks it up deletes it."""
    place = Place()
    identity = await place.put(1)
    await place.store.set(identity.key, value, ttl_s=60)
    assert 0 == (await place.inventory.find(Selection(), entries_max=1)).matched


async def test_an_entry_that_went_or_does_not_check_is_none() -> None:
    """Between the walk and the look it may have."""
    place = Place()
    identity = await place.put(1)
    (facts,) = (await place.inventory.find(Selection(), entries_max=1)).entries
    await place.store.set(identity.key, b"rubbish", ttl_s=60)
    assert await place.inventory.entry(facts) is None
    await place.store.delete(identity.key)
    assert await place.inventory.entry(facts) is None


async def test_foreign_entries_are_purged_only_when_they_are_named() -> None:
    """By id or all of them; our own prefix is never among theirs."""
    place = Place()
    ours = await place.put(1)
    for key in ("higress:one", "higress:two", "apisix:one"):
        await place.store.set(key, b"text", ttl_s=60)
    await place.inventory.purge(Selection())
    assert b"text" == await place.store.get("higress:one")
    assert await place.store.get(ours.key) is None
    found = await place.inventory.find(Selection(foreign=True, id=higress_id(RING, "higress:two")), entries_max=9)
    assert ["higress:two"] == [facts.key for facts in found.entries]
    found = await place.inventory.purge(Selection(foreign=True, id=apisix_id(RING, "apisix:one")))
    assert (1, None) == (found.removed, await place.store.get("apisix:one"))
    assert 2 == (await place.inventory.purge(Selection(foreign=True))).removed


async def test_without_the_key_foreign_entries_have_no_id() -> None:
    """They can be counted all the same."""
    place = Place(keyring=None)
    await place.store.set("higress:one", b"text", ttl_s=60)
    assert [""] == [facts.id for facts in (await place.inventory.find(Selection(foreign=True), entries_max=9)).entries]


@pytest.mark.parametrize(
    ("cursor", "purges"),
    [
        pytest.param("9:", False, id="prefix"),
        pytest.param("x:", False, id="word"),
        pytest.param("7/0:", True, id="purge"),
        pytest.param("x/0:", True, id="purge's word"),
    ],
)
async def test_a_cursor_of_nothing_is_refused(cursor: str, purges: bool) -> None:
    """With the way out."""
    inventory = Place().inventory
    with pytest.raises(BadWalk, match="begin again without one"):
        await (inventory.purge if purges else inventory.rehearse)(Selection(), cursor=cursor)


async def test_a_cursor_that_the_store_does_not_know_is_refused() -> None:
    """It says so with a ValueError."""

    class Strict(MemoryStore):
        async def scan(self, prefix: str, *, cursor: str, count: int) -> Any:
            raise ValueError(cursor)

    place = Place(Strict(bytes_max=1000, clock=lambda: NOW_S))
    with pytest.raises(BadWalk, match="begin again without one"):
        await place.inventory.rehearse(Selection(), cursor="0:7")


async def test_what_cannot_be_walked_says_so() -> None:
    """A store without that; foreign entries where there are none, or that nothing tells from others."""
    with pytest.raises(BadWalk, match="the store faulty cannot be walked"):
        await Place(FaultyStore()).inventory.rehearse(Selection())
    place = Place()
    place.inventory._foreign = {}
    with pytest.raises(BadWalk, match="no rule keeps entries"):
        await place.inventory.purge(Selection(foreign=True))
    place.inventory._foreign = {"": higress_id}
    with pytest.raises(BadWalk, match="name an id"):
        await place.inventory.purge(Selection(foreign=True))
    place.inventory._prefix = ""
    assert 0 == (await place.inventory.rehearse(Selection(foreign=True, id="0" * 32))).matched


def test_a_header_is_read_without_the_rest() -> None:
    """From the first bytes of a value, sealed or not."""
    digest = bytes(32)
    identity = Identity(f"p:3:{SCOPE}:{digest.hex()}", digest, "")
    entry = entry_of(tags=("a", "b"), purges=2)
    value = Native().encode(entry, identity)
    facts = peek(identity.key, "p:", value[:-1])
    assert facts is not None
    expected = facts_of(identity, entry)
    assert (expected.key, expected.epoch, expected.tags, 2) == (facts.key, facts.epoch, facts.tags, facts.purges)
    assert peek(identity.key, "q:", value) is None
    assert peek(f"{identity.key}:lease", "p:", value) is None
    with pytest.raises(BackendRejected):
        peek(identity.key, "p:", value[:50])
