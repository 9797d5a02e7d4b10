"""What every store does whose keys can be walked."""

from __future__ import annotations

import pytest

from ai_cache_extproc.stores.base import Scanning, Store
from tests.contract.conftest import Clock, Outsider, Prefixed


def walker(store: Store) -> Scanning:
    """The store, as one that can be walked."""
    assert isinstance(store, Scanning)
    return store


async def walked(store: Store, prefix: str = "", *, count: int = 10) -> list[str]:
    """All keys that a walk comes across."""
    keys: list[str] = []
    cursor = ""
    for _ in range(1000):
        scan = await walker(store).scan(prefix, cursor=cursor, count=count)
        keys += scan.keys
        cursor = scan.cursor
        if not cursor:
            return keys
    raise AssertionError("the walk has no end")


async def test_an_empty_store_is_walked_in_no_time(store: Store) -> None:
    """Nothing is found."""
    assert [] == await walked(store)


@pytest.mark.parametrize("count", [1, 7, 1000], ids=["one by one", "a few", "all"])
async def test_a_walk_comes_across_every_key(store: Store, count: int) -> None:
    """However small its steps are."""
    names = {f"key{number}" for number in range(40)}
    for name in names:
        await store.set(name, b"value", ttl_s=60)
    assert names == set(await walked(store, count=count))


async def test_a_prefix_is_taken_as_it_is_written(store: Store) -> None:
    """What another language takes for a pattern is none here."""
    for name in ("a*b:1", "a*b:2", "axb:1", "[a]:1", "?:1", "b\\c:1", "bc:1"):
        await store.set(name, b"value", ttl_s=60)
    assert {"a*b:1", "a*b:2"} == set(await walked(store, "a*b:"))
    assert {"[a]:1"} == set(await walked(store, "[a]"))
    assert {"?:1"} == set(await walked(store, "?"))
    assert {"b\\c:1"} == set(await walked(store, "b\\c"))


async def test_what_stays_is_found_while_others_come_and_go(store: Store) -> None:
    """A key that is there all the while is never missed, though others are removed and added between the steps."""
    names = {f"stays{number}" for number in range(50)}
    for name in names:
        await store.set(name, b"value", ttl_s=60)
        await store.set(f"goes:{name}", b"value", ttl_s=60)
    found: set[str] = set()
    cursor, step = "", 0
    while step == 0 or cursor:
        scan = await walker(store).scan("", cursor=cursor, count=5)
        found |= set(scan.keys)
        cursor, step = scan.cursor, step + 1
        await store.delete(f"goes:stays{step % 50}")
        if step < 30:
            await store.set(f"comes{step}", b"value", ttl_s=60)
    assert names <= found


async def test_what_has_expired_is_not_found(store: Store, clock: Clock) -> None:
    """Neither as a key nor by its first bytes."""
    await store.set("short", b"value", ttl_s=10)
    await store.set("long", b"value", ttl_s=60)
    clock.elapse(30)
    assert ["long"] == await walked(store)


async def test_heads_are_the_first_bytes(store: Store) -> None:
    """Of each value as many as are asked for; of a short one all, of an absent one none."""
    await store.set("long", b"0123456789" * 10_000, ttl_s=60)
    await store.set("short", b"01", ttl_s=60)
    await store.set("empty", b"", ttl_s=60)
    assert [b"01234", b"01", b"", b""] == await walker(store).heads(["long", "short", "empty", "missing"], bytes_max=5)


async def test_a_cursor_of_no_walk_is_refused(store: Store) -> None:
    """Where the store can tell; in memory any key is a place to go on from."""
    if store.name == "memory":
        assert "" == (await walker(store).scan("", cursor="x", count=1)).cursor
        return
    with pytest.raises(ValueError, match="x"):
        await walker(store).scan("", cursor="x", count=1)


async def test_a_server_that_is_gone_makes_the_walk_begin_again(feed: Prefixed) -> None:
    """As after a failover: nothing is missed, some keys may come twice."""
    await feed.set("key", b"value", ttl_s=60)
    found: list[str] = []
    cursor = "192.0.2.1:6379|7"
    while cursor:
        scan = await feed.scan("", cursor=cursor, count=100)
        found += scan.keys
        cursor = scan.cursor
    assert ["key"] == found


async def test_what_is_no_string_has_no_head(feed: Prefixed, outsider: Outsider) -> None:
    """A list under our prefix is passed by, and read beside the mark as any other value that does not check."""
    outsider.do("RPUSH", "list", "x")
    await feed.set("key", b"value", ttl_s=60)
    assert [b"", b"val"] == await feed.heads(["list", "key"], bytes_max=3)
    await feed.change_mark("epoch", None, b"1")
    assert (b"", b"1") == await feed.get_with_mark("list", "epoch")


async def test_looking_is_no_use(bounded_store: Store) -> None:
    """An entry does not stay for having been walked past: the oldest makes room all the same."""
    await bounded_store.set("oldest", bytes(300_000), ttl_s=60)
    await bounded_store.set("newer", bytes(300_000), ttl_s=60)
    await walked(bounded_store)
    await walker(bounded_store).heads(["oldest"], bytes_max=10)
    await bounded_store.set("newest", bytes(500_000), ttl_s=60)
    assert await bounded_store.get("oldest") is None
    assert await bounded_store.get("newer") is not None
