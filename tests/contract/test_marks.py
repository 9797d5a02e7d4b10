"""What every store does that keeps marks for all who share it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

from ai_cache_extproc.stores.base import MarkKeeper, Store
from tests.contract.conftest import BYTES_MAX


async def test_a_mark_that_nobody_made_is_none(mark_keepers: Sequence[MarkKeeper]) -> None:
    """To begin with there is none, whoever asks."""
    for keeper in mark_keepers:
        assert await keeper.mark("epoch") is None
        assert (None, None) == await keeper.get_with_mark("key", "epoch")


async def test_a_mark_changes_for_all(mark_keepers: Sequence[MarkKeeper]) -> None:
    """What one put there, the other reads, and puts something else in its place."""
    one, other = mark_keepers
    assert await one.change_mark("epoch", None, b"1")
    assert b"1" == await other.mark("epoch")
    assert await other.change_mark("epoch", b"1", b"2")
    assert b"2" == await one.mark("epoch")


async def test_a_mark_that_changed_meanwhile_stays(mark_keepers: Sequence[MarkKeeper]) -> None:
    """Who goes by an old one changes nothing, be it by another value or by none."""
    one, other = mark_keepers
    await one.change_mark("epoch", None, b"1")
    assert not await other.change_mark("epoch", None, b"2")
    assert not await other.change_mark("epoch", b"0", b"2")
    assert b"1" == await one.mark("epoch")


async def test_of_many_changes_at_once_one_is_made(mark_keepers: Sequence[MarkKeeper]) -> None:
    """However many go by the same mark."""
    asked = (mark_keepers[number % 2].change_mark("epoch", None, b"%d" % number) for number in range(20))
    changed = await asyncio.gather(*asked)
    assert 1 == sum(changed)
    assert b"%d" % changed.index(True) == await mark_keepers[0].mark("epoch")


async def test_a_value_is_read_beside_the_mark(mark_keepers: Sequence[MarkKeeper]) -> None:
    """Each of them may be there or not."""
    store, keeper = cast("Store", mark_keepers[0]), mark_keepers[1]
    await keeper.change_mark("epoch", None, b"1")
    assert (None, b"1") == await keeper.get_with_mark("key", "epoch")
    await store.set("key", b"value", ttl_s=60)
    assert (b"value", b"1") == await keeper.get_with_mark("key", "epoch")
    assert (b"value", None) == await keeper.get_with_mark("key", "another")


async def test_a_mark_does_not_make_room(mark_keepers: Sequence[MarkKeeper]) -> None:
    """However much is written after it."""
    store, keeper = cast("Store", mark_keepers[0]), mark_keepers[1]
    await keeper.change_mark("epoch", None, b"1")
    for number in range(30):
        await store.set(f"key{number}", bytes(BYTES_MAX // 10), ttl_s=60)
    assert b"1" == await keeper.mark("epoch")
