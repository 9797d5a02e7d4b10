"""Entries out of a store and into another: whose names they have, what is left out, and that purges hold."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

import pytest
from prometheus_client import CollectorRegistry

from ai_cache_extproc.cache import transfer as module
from ai_cache_extproc.cache.formats.native import Native
from ai_cache_extproc.cache.formats.seal import Seal
from ai_cache_extproc.cache.marks import SKEW_S, Marks
from ai_cache_extproc.cache.near import Near
from ai_cache_extproc.cache.purges import Purges
from ai_cache_extproc.cache.selection import Selection
from ai_cache_extproc.cache.transfer import Kept, Packed, Transfer
from ai_cache_extproc.errors import BackendTimeout, BackendUnavailable
from ai_cache_extproc.keys.identity import Keyring, key_of
from ai_cache_extproc.model import Captured, Entry, Identity, Mode
from ai_cache_extproc.stores.memory import MemoryStore
from ai_cache_extproc.telemetry.metrics import Metrics
from tests.exchange.conversation import Clock, Keys
from tests.exchange.meaning import SAME, STAR, meaning_core, said
from tests.support.entries import DIGEST, NOW_S, SCOPE, entry_of

SECRET = b"k" * 32
PREFIX = "aicache:"


class Slow(MemoryStore):
    """Writes take as long as one likes."""

    wait_s = 0.0

    async def set(self, key: str, value: bytes, *, ttl_s: float) -> None:
        await asyncio.sleep(self.wait_s)
        await super().set(key, value, ttl_s=ttl_s)


@dataclass
class Side:
    """One sidecar's store with its purges."""

    clock: Clock
    store: Slow
    purges: Purges
    transfer: Transfer
    native: Native

    @property
    def ring(self) -> Keyring:
        ring = self.purges.current
        assert ring is not None
        return ring

    def identity(self, digest: bytes = DIGEST) -> Identity:
        return Identity(key_of(self.ring, SCOPE, digest.hex()), digest, "")

    async def keep(self, entry: Entry, digest: bytes = DIGEST) -> str:
        identity = self.identity(digest)
        await self.store.set(identity.key, self.native.encode(entry, identity), ttl_s=3600)
        return identity.key

    async def kept(self) -> Entry | None:
        value = await self.store.get(self.identity().key)
        entry = None if value is None else self.native.decode(value, self.identity())
        assert entry is None or isinstance(entry, Entry)
        return entry


def side(*, secret: bytes | None = SECRET, seal: Seal | None = None, prefix: str = PREFIX) -> Side:
    """A sidecar over an empty store."""
    clock = Clock(NOW_S + 1)
    metrics = Metrics(CollectorRegistry())
    store = Slow(bytes_max=2**26, clock=clock)
    near = Near(bytes_max=0, ttl_s_max=1, clock=clock)
    keys = Keys(None if secret is None else Keyring(secret, prefix))
    purges = Purges(keys, store, prefix=prefix, near=near, metrics=metrics, clock=clock)
    native = Native(seal)
    transfer = Transfer(
        store, purges, prefix=prefix, native=native, sealed=seal is not None, clock=clock, write_timeout_s=0.05
    )
    return Side(clock, store, purges, transfer, native)


async def passed(one: Side, other: Side, entry: Entry) -> Kept:
    """What becomes of an entry of one sidecar in another's store."""
    key = await one.keep(entry)
    packed, left_out = await one.transfer.give([key])
    assert {} == left_out
    (outcome,) = await other.transfer.take(packed)
    return outcome


async def test_an_entry_comes_over_whole() -> None:
    """As it was, but for the purges that it knows of, which are those of its new place."""
    one, other = side(), side()
    await other.purges.change(lambda marks: marks.purged(Selection(model="x"), NOW_S))
    entry = entry_of(tags=("a",), purges=0)
    assert Kept.DONE is await passed(one, other, entry)
    assert replace(entry, purges=1) == await other.kept()
    assert (one.transfer.origin().mark, PREFIX, False) == tuple(
        getattr(other.transfer.origin(), name) for name in ("mark", "prefix", "sealed")
    )


async def test_the_mark_tells_identity_keys_apart() -> None:
    """And is no part of the key."""
    mark = side().transfer.origin().mark
    assert mark != side(secret=b"o" * 32).transfer.origin().mark
    assert SECRET.hex()[:8] not in mark
    with pytest.raises(BackendUnavailable, match="no identity key yet"):
        side(secret=None).transfer.origin()


async def test_an_epoch_is_the_store_s_own() -> None:
    """An entry takes the one of its new place, and one of an epoch that is over is not given."""
    one, other = side(), side()
    old = await one.keep(entry_of())
    await one.purges.change(lambda marks: marks.flushed(now_s=NOW_S - 1000))
    assert ([], {old: Kept.GONE}) == await one.transfer.give([old])
    assert Kept.DONE is await passed(one, other, entry_of(purges=1))
    assert other.identity().key != one.identity().key


async def test_sealed_values_stay_sealed_on_the_way() -> None:
    """They are opened under the name they had, and sealed under the one they get."""
    one, other = (side(seal=Seal({"a": b"s" * 32})) for _ in range(2))
    await one.purges.change(lambda marks: marks.flushed(now_s=NOW_S - 1000))
    key = await one.keep(entry_of(purges=1))
    packed, _ = await one.transfer.give([key])
    assert b"{}" not in packed[0].value
    assert [Kept.DONE] == await other.transfer.take(packed)
    assert entry_of() == await other.kept()
    assert [Kept.UNREADABLE] == await side().transfer.take(packed)


async def test_only_whole_living_entries_are_given() -> None:
    """The identity key stands under the same prefix: it is no entry."""
    one = side()
    await one.store.set(f"{PREFIX}identity", SECRET, ttl_s=60)
    await one.store.set(f"{PREFIX}0:{SCOPE}:{'ab' * 32}", b"damaged", ttl_s=60)
    key = await one.keep(entry_of())
    asked = [f"{PREFIX}identity", "elsewhere", f"{PREFIX}0:{SCOPE}:{'ab' * 32}", f"{PREFIX}0:{SCOPE}:{'00' * 32}", key]
    packed, left_out = await one.transfer.give(asked)
    assert [key] == [each.key for each in packed]
    assert [Kept.GONE, Kept.GONE, Kept.UNREADABLE, Kept.GONE] == list(left_out.values())
    one.clock.now_s += 60
    assert ([], {key: Kept.EXPIRED}) == await one.transfer.give([key])


async def test_what_was_purged_is_not_given() -> None:
    """Although its bytes are there still."""
    one = side()
    key = await one.keep(entry_of())
    await one.purges.change(lambda marks: marks.purged(Selection(model="m"), NOW_S))
    assert ([], {key: Kept.PURGED}) == await one.transfer.give([key])


async def test_a_page_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not go into it is asked for again; what goes into none is named."""
    one = side()
    small = await one.keep(entry_of())
    large = await one.keep(with_body(b"x" * 200_000), bytes(32))
    monkeypatch.setattr(module, "PAGE_BYTES_MAX", 100_000)
    packed, left_out = await one.transfer.give([small, large, large])
    assert ([small], {large: Kept.LATER}) == ([each.key for each in packed], left_out)
    packed, left_out = await one.transfer.give([large, small])
    assert ([large], {small: Kept.LATER}) == ([each.key for each in packed], left_out)
    monkeypatch.setattr(module, "VALUE_BYTES_MAX", 100_000)
    assert ([], {large: Kept.TOO_LARGE}) == await one.transfer.give([large])


def with_body(body: bytes) -> Entry:
    """An entry of an answer."""
    captured = Captured(Mode.JSON, "application/json", body, NOW_S, NOW_S + 60, 0.5)
    return replace(entry_of(), captures=(captured,))


async def test_large_answers_come_over_too() -> None:
    """Beside the loop."""
    one, other = side(), side()
    assert Kept.DONE is await passed(one, other, with_body(b"x" * 200_000))
    assert with_body(b"x" * 200_000) == await other.kept()


async def test_what_is_as_new_stays() -> None:
    """What is older makes room; what was purged here is as good as gone."""
    for known_s, expected in ((0.5, Kept.KNOWN), (0.0, Kept.KNOWN), (-0.5, Kept.DONE)):
        one, other = side(), side()
        await other.keep(entry_of(created_s=NOW_S + known_s, model="known"))
        assert expected is await passed(one, other, entry_of())
    one, other = side(), side()
    await other.keep(entry_of(created_s=NOW_S + 0.5, model="known"))
    await other.purges.change(lambda marks: marks.purged(Selection(model="known"), NOW_S))
    assert Kept.DONE is await passed(one, other, entry_of())


async def test_a_damaged_value_here_makes_room() -> None:
    """Nobody could be answered with it."""
    one, other = side(), side()
    await other.store.set(other.identity().key, b"damaged", ttl_s=60)
    assert Kept.DONE is await passed(one, other, entry_of())


async def test_expired_answers_are_left_out() -> None:
    """Of two captures the one that lives; and the whole entry where neither does."""
    one, other = side(), side()
    json, stream = (entry_of().captures[0], replace(entry_of().captures[0], mode=Mode.STREAM, expires_s=NOW_S + 1.5))
    key = await one.keep(replace(entry_of(), captures=(json, stream)))
    packed, _ = await one.transfer.give([key])
    other.clock.now_s = NOW_S + 2
    assert [Kept.DONE] == await other.transfer.take(packed)
    entry = await other.kept()
    assert entry is not None
    assert (json,) == entry.captures
    other.clock.now_s = NOW_S + 60
    assert [Kept.EXPIRED] == await other.transfer.take(packed)
    assert await other.kept() is None


async def test_an_entry_does_not_outlive_its_answers() -> None:
    """Nor the longest lifetime that there is, whatever it says."""
    one, other = side(), side()
    captured = replace(entry_of().captures[0], expires_s=NOW_S + 10**9)
    assert Kept.DONE is await passed(one, other, replace(entry_of(), captures=(captured,)))
    other.clock.now_s += 86_400
    assert await other.kept() is None


@pytest.mark.parametrize(
    ("purge", "made_s", "expected"),
    [
        pytest.param(Selection(model="m"), 0.0, Kept.PURGED, id="at that moment"),
        pytest.param(Selection(model="m"), 3000.0, Kept.PURGED, id="later"),
        pytest.param(Selection(model="m"), -0.6 - SKEW_S, Kept.DONE, id="before it was asked"),
        pytest.param(Selection(model="m"), 0.4 - SKEW_S, Kept.PURGED, id="as clocks may differ"),
        pytest.param(Selection(model="other"), 0.0, Kept.DONE, id="of others"),
        pytest.param(Selection(foreign=True), 0.0, Kept.DONE, id="of another layout"),
        pytest.param(None, 0.0, Kept.PURGED, id="a flush"),
        pytest.param(None, -1.0 - SKEW_S, Kept.DONE, id="a flush before it"),
    ],
)
async def test_a_purge_here_holds_for_what_comes_in(purge: Selection | None, made_s: float, expected: Kept) -> None:
    """By its time, whatever numbers the entry brings with it."""
    at_s = NOW_S + made_s
    for number in (0, 9):
        one, other = side(), side()
        await other.purges.change(
            lambda marks: marks.flushed(now_s=at_s) if purge is None else marks.purged(purge, at_s)
        )
        entry = entry_of(purges=number)
        packed = [Packed(await one.keep(entry), one.native.encode(entry, one.identity()))]
        assert [expected] == await other.transfer.take(packed)
        assert (expected is Kept.DONE) == (await other.kept() is not None)


async def test_a_purge_that_comes_later_holds_too() -> None:
    """As for every entry that was there."""
    one, other = side(), side()
    assert Kept.DONE is await passed(one, other, entry_of())
    await other.purges.change(lambda marks: marks.purged(Selection(model="m"), NOW_S + 5))
    entry = await other.kept()
    assert entry is not None
    assert other.purges.forbid(other.identity(), entry)


def test_purges_that_are_not_remembered_one_by_one_hold_by_their_time() -> None:
    """As does a flush of which nobody noted when it was."""
    entry, identity = entry_of(), side().identity()
    assert not Marks().reach(identity, entry)
    assert Marks(number=9, floor=9, floor_s=NOW_S).reach(identity, entry)
    assert not Marks(number=9, floor=9, floor_s=NOW_S - 100).reach(identity, entry)
    assert Marks().flushed().reach(identity, entry)
    flushed = Marks().flushed(now_s=NOW_S - 10**6)
    assert not flushed.reach(identity, entry)
    assert not flushed.purged(Selection(model="x"), NOW_S).reach(identity, entry)
    assert flushed.purged(Selection(model="x"), NOW_S).of(1) is not None


async def test_names_that_are_none_are_refused() -> None:
    """A file may say anything."""
    other = side()
    for key in ("aicache:identity", "other:0:" + "a" * 16 + ":" + "b" * 64, ""):
        assert [Kept.UNREADABLE] == await other.transfer.take([Packed(key, b"")])


async def test_a_store_that_hangs_or_cannot_be_asked_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is taken as long as nobody knows what was purged."""
    one, other = side(), side()
    other.store.wait_s = 1
    with pytest.raises(BackendTimeout):
        await passed(one, other, entry_of())

    async def blind() -> bool:
        return False

    monkeypatch.setattr(other.purges, "look", blind)
    with pytest.raises(BackendUnavailable, match="record of purges"):
        await other.transfer.give([])


class Learned:
    """Beside the store, what is to know of entries."""

    def __init__(self, *, hangs: bool) -> None:
        self.ids: list[str] = []
        self._hangs = hangs

    def offer(self, identity: Identity, entry: Entry) -> None:
        assert "m" == entry.model
        self.ids.append(identity.id)

    async def drain(self) -> None:
        if self._hangs:
            await asyncio.Event().wait()


@pytest.mark.parametrize("hangs", [False, True], ids=["in time", "too slow"])
async def test_what_came_in_is_told_beside(hangs: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that it is found by its meaning too; who sends more waits for that, for a while."""
    monkeypatch.setattr(module, "LEARNING_S_MAX", 0.01)
    one, other = side(), side()
    learned = Learned(hangs=hangs)
    other.transfer._beside = learned
    assert Kept.DONE is await passed(one, other, entry_of())
    assert Kept.KNOWN is await passed(one, other, entry_of())
    assert [other.identity().id] == learned.ids


async def test_what_came_in_is_found_by_its_meaning() -> None:
    """As soon as the call that brought it has returned."""
    async with meaning_core() as one, meaning_core() as other:
        assert said(await one.asks(STAR)) is None
        listed = await one.cache.inventory.find(Selection(), entries_max=10)
        packed, left_out = await one.cache.transfer.give([facts.key for facts in listed.entries])
        assert {} == left_out
        assert [Kept.DONE] == await other.cache.transfer.take(packed)
        assert f"about {STAR}" == said(await other.asks(SAME))
        await other.settled()
        # The alias that this made is no entry of its own.
        listed = await other.cache.inventory.find(Selection(), entries_max=10)
        packed, left_out = await other.cache.transfer.give([facts.key for facts in listed.entries])
        assert (1, [Kept.ALIAS]) == (len(packed), list(left_out.values()))
