"""What every store does, whatever it is made of."""

from __future__ import annotations

import asyncio
import math
import os
from contextlib import suppress
from typing import cast

import pytest

from ai_cache_extproc.errors import BackendRejected
from ai_cache_extproc.stores.base import KeyKeeper, Store
from tests.contract.conftest import BYTES_MAX, Clock

ODD_KEYS = [
    "aicache:0:0123456789abcdef:" + "f" * 64,
    "a b\tc\r\nd",
    "nul\x00inside",
    "nul\x00other",
    "%_*?[]'\"\\;--",
    "{tag}:1",
    "A",
    "a",
    " a",
    "\x7f",
    "x" * 512,
]


async def test_a_missing_value_is_none(store: Store) -> None:
    """A key that nobody has set reads as None."""
    assert await store.get("missing") is None


@pytest.mark.parametrize(
    "value", [b"v", bytes(range(256)), b"\x00" * 5000, '{"é": "日本"}'.encode()], ids=["short", "all", "nul", "utf-8"]
)
async def test_a_value_comes_back_as_it_was(store: Store, value: bytes) -> None:
    """Any bytes are given back unchanged, as bytes."""
    await store.set("key", value, ttl_s=60)
    assert value == await store.get("key")


@pytest.mark.parametrize("size_bytes", [0, 1, 4095, 4096, 4097, 100_000, 900_000])
async def test_values_of_any_size(store: Store, size_bytes: int) -> None:
    """A value may be empty and may be large."""
    value = os.urandom(size_bytes)
    await store.set("key", value, ttl_s=60)
    assert value == await store.get("key")


async def test_odd_keys_are_kept_apart(store: Store) -> None:
    """Every ASCII string is a key of its own."""
    for number, key in enumerate(ODD_KEYS):
        await store.set(key, str(number).encode(), ttl_s=60)
    assert [str(number).encode() for number in range(len(ODD_KEYS))] == [await store.get(key) for key in ODD_KEYS]


async def test_a_later_value_takes_the_place(store: Store) -> None:
    """Setting a key again leaves only the later value."""
    await store.set("key", b"earlier", ttl_s=60)
    await store.set("key", b"later", ttl_s=60)
    assert (b"later", 1) == (await store.get("key"), (await store.stats()).entries)


async def test_a_later_lifetime_takes_the_place(store: Store, clock: Clock) -> None:
    """Setting a key again begins its lifetime again."""
    await store.set("key", b"earlier", ttl_s=10)
    await store.set("key", b"later", ttl_s=60)
    clock.elapse(30)
    assert b"later" == await store.get("key")


async def test_delete_says_whether_there_was_a_value(store: Store) -> None:
    """The first delete finds a value, the second does not."""
    await store.set("key", b"value", ttl_s=60)
    assert (True, False) == (await store.delete("key"), await store.delete("key"))


async def test_a_deleted_value_is_gone(store: Store) -> None:
    """Delete removes the value of its own key and no other."""
    await store.set("key", b"value", ttl_s=60)
    await store.set("other", b"other value", ttl_s=60)
    await store.delete("key")
    assert (None, b"other value") == (await store.get("key"), await store.get("other"))


async def test_a_value_lives_for_its_lifetime(store: Store, clock: Clock) -> None:
    """A value is there while its lifetime lasts and not after."""
    await store.set("key", b"value", ttl_s=60)
    clock.elapse(50)
    before = await store.get("key")
    clock.elapse(10)
    assert (b"value", None) == (before, await store.get("key"))


async def test_a_value_lives_until_the_last_moment(bounded_store: Store, clock: Clock) -> None:
    """Where the clock is ours its lifetime is exact."""
    await bounded_store.set("key", b"value", ttl_s=60)
    clock.elapse(59.875)
    before = await bounded_store.get("key")
    clock.elapse(0.125)
    assert (b"value", None) == (before, await bounded_store.get("key"))


async def test_a_lifetime_may_have_no_end(store: Store, clock: Clock) -> None:
    """An infinite lifetime outlasts any other, and ends with a value that has one."""
    await store.set("key", b"value", ttl_s=math.inf)
    clock.elapse(10 * 365 * 86_400)
    assert b"value" == await store.get("key")
    await store.set("key", b"value", ttl_s=1)
    clock.elapse(1)
    assert await store.get("key") is None


async def test_lifetimes_are_their_own(store: Store, clock: Clock) -> None:
    """One value's end leaves the others."""
    await store.set("short", b"1", ttl_s=0.5)
    await store.set("long", b"2", ttl_s=86_400)
    clock.elapse(1)
    assert (None, b"2") == (await store.get("short"), await store.get("long"))


async def test_deleting_after_the_lifetime_finds_nothing(store: Store, clock: Clock) -> None:
    """A value past its lifetime is absent for delete as well."""
    await store.set("key", b"value", ttl_s=1)
    clock.elapse(2)
    assert not await store.delete("key")


async def test_many_at_once(store: Store) -> None:
    """Operations that run at the same time do not mix up their values."""
    async with asyncio.TaskGroup() as group:
        for number in range(100):
            group.create_task(store.set(f"key{number}", str(number).encode() * 10, ttl_s=60))
    reads = [asyncio.ensure_future(store.get(f"key{number}")) for number in range(100)]
    assert [str(number).encode() * 10 for number in range(100)] == list(await asyncio.gather(*reads))


async def test_readers_see_a_whole_value(store: Store) -> None:
    """Reading while the value is being replaced gives one of the values whole."""
    values = {letter * 20_000 for letter in (b"a", b"b", b"c")}
    await store.set("key", b"a" * 20_000, ttl_s=60)
    seen = set()
    for _ in range(10):
        writes = [asyncio.ensure_future(store.set("key", value, ttl_s=60)) for value in values]
        seen.update(await asyncio.gather(*(store.get("key") for _ in range(10))))
        await asyncio.gather(*writes)
    assert seen <= values


@pytest.mark.parametrize("turns", range(4))
async def test_cancelled_operations_leave_the_store_working(store: Store, turns: int) -> None:
    """An operation cancelled at any moment is there whole or not at all, and what follows is answered rightly."""
    await store.set("read", b"value", ttl_s=60)
    tasks = [
        *(asyncio.ensure_future(store.get("read")) for _ in range(5)),
        *(asyncio.ensure_future(store.set(f"set{number}", b"v" * 5000, ttl_s=60)) for number in range(5)),
        asyncio.ensure_future(store.delete("none")),
        asyncio.ensure_future(store.stats()),
    ]
    for _ in range(turns):
        await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError):
            await task
    written = {await store.get(f"set{number}") for number in range(5)}
    assert written <= {None, b"v" * 5000}
    assert b"value" == await store.get("read")


async def test_check_returns(store: Store) -> None:
    """A store that works says so by returning."""
    await store.check()
    assert 0 == (await store.stats()).entries


async def test_stats_count_what_can_be_read(store: Store, clock: Clock) -> None:
    """Entries are counted inside their lifetime, and bytes grow with them."""
    empty = await store.stats()
    await store.set("short", b"x" * 100_000, ttl_s=1)
    await store.set("long", b"x" * 100_000, ttl_s=60)
    full = await store.stats()
    clock.elapse(2)
    assert (0, 2, 1) == (empty.entries, full.entries, (await store.stats()).entries)
    assert full.bytes - empty.bytes >= 190_000


async def test_the_identity_key_stays(store: Store) -> None:
    """A store that keeps the identity key gives the same 32 bytes to everyone who asks."""
    keeper = cast(KeyKeeper, store)
    keys = await asyncio.gather(*(keeper.identity_key() for _ in range(5)))
    assert (1, 32) == (len(set(keys)), len(keys[0]))


async def test_a_proposed_identity_key_is_kept_where_there_is_none(store: Store) -> None:
    """Whoever knew the key before the store forgot it puts it back; whoever comes with another gets the one that is kept."""
    keeper = cast(KeyKeeper, store)
    proposed = os.urandom(32)
    assert proposed == await keeper.identity_key(proposed)
    assert [proposed] * 2 == [await keeper.identity_key(), await keeper.identity_key(os.urandom(32))]


@pytest.mark.parametrize("size_bytes", [100, 3000, 50_000])
async def test_the_bound_of_bytes_holds(bounded_store: Store, size_bytes: int) -> None:
    """However much is written, what is kept stays under the bound, and the last value written is kept."""
    last, stats = "", await bounded_store.stats()
    for number in range(3 * BYTES_MAX // (size_bytes + 800)):
        last = f"key{number}"
        await bounded_store.set(last, os.urandom(size_bytes), ttl_s=60)
        stats = await bounded_store.stats()
        assert stats.bytes <= stats.bytes_max == BYTES_MAX
    assert stats.entries >= BYTES_MAX // (size_bytes + 800) // 2
    assert size_bytes == len(await bounded_store.get(last) or b"")


async def test_the_bound_holds_for_many_writers(bounded_store: Store) -> None:
    """Writers that run at the same time keep to the bound together."""
    async with asyncio.TaskGroup() as group:
        for number in range(100):
            group.create_task(bounded_store.set(f"key{number}", b"x" * 30_000, ttl_s=60))
    stats = await bounded_store.stats()
    assert stats.bytes <= BYTES_MAX
    assert stats.entries >= 10


async def test_the_oldest_make_room(bounded_store: Store) -> None:
    """What was written first goes first; what was written again counts as written then."""
    for number in range(10):
        await bounded_store.set(f"key{number}", b"x" * 80_000, ttl_s=60)
    await bounded_store.set("key0", b"y" * 80_000, ttl_s=60)
    for number in range(10, 15):
        await bounded_store.set(f"key{number}", b"x" * 80_000, ttl_s=60)
    assert (None, b"y" * 80_000) == (await bounded_store.get("key1"), await bounded_store.get("key0"))


async def test_expired_values_make_room_first(bounded_store: Store, clock: Clock) -> None:
    """A value past its lifetime goes before one that was written earlier and still lives."""
    await bounded_store.set("living", b"x" * 80_000, ttl_s=600)
    for number in range(9):
        await bounded_store.set(f"expired{number}", b"x" * 80_000, ttl_s=1)
    clock.elapse(2)
    for number in range(9):
        await bounded_store.set(f"key{number}", b"x" * 80_000, ttl_s=600)
    assert b"x" * 80_000 == await bounded_store.get("living")


async def test_a_small_value_follows_large_ones(bounded_store: Store) -> None:
    """A large value finds room among many small ones, and takes the place of as many as it needs."""
    for number in range(1000):
        await bounded_store.set(f"key{number}", b"x" * 400, ttl_s=60)
    await bounded_store.set("large", b"y" * 900_000, ttl_s=60)
    assert 900_000 == len(await bounded_store.get("large") or b"")
    assert (await bounded_store.stats()).bytes <= BYTES_MAX


async def test_a_value_over_the_bound_is_refused(bounded_store: Store) -> None:
    """A value larger than the whole bound is refused, and everything else stays."""
    await bounded_store.set("key", b"value", ttl_s=60)
    with pytest.raises(BackendRejected):
        await bounded_store.set("large", b"x" * BYTES_MAX, ttl_s=60)
    assert (b"value", None) == (await bounded_store.get("key"), await bounded_store.get("large"))
