"""What the index in this process does beyond the contract: its file, its rows, its threads."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from ai_cache_extproc.config.indexes import EmbeddedIndex as Settings
from ai_cache_extproc.errors import BackendError, BackendRejected, BackendUnavailable
from ai_cache_extproc.indexes import embedded, graph
from ai_cache_extproc.indexes.base import Point, Vector
from ai_cache_extproc.indexes.embedded import EmbeddedIndex
from ai_cache_extproc.stores.sqlite import SqliteStore
from tests.contract.index_rigs import DIMENSIONS, OTHER, PARTITION, Clock, at, axis, point
from tests.support.shared_redis import until

IDENTITY = "one embedder"


@asynccontextmanager
async def over(
    path: Path | None, clock: Clock, *, identity: str = IDENTITY, dimensions: int = DIMENSIONS, **settings: int
) -> AsyncIterator[EmbeddedIndex]:
    """An index that was prepared, over the file at `path` if there is one."""
    section = Settings.model_validate({"rows_max": 1000} | settings)
    if path is None:
        async with EmbeddedIndex.open(section, identity=identity, thread=None, clock=clock) as index:
            await index.prepare(dimensions)
            yield index
        return
    async with (
        SqliteStore.open(path, bytes_max=1 << 26, clock=clock) as store,
        EmbeddedIndex.open(section, identity=identity, thread=store.thread, clock=clock) as index,
    ):
        await index.prepare(dimensions)
        yield index


async def keys(index: EmbeddedIndex, vector: Vector | None = None, partition: str = PARTITION) -> list[str]:
    """The numbers of the points that are found, best first."""
    found = await index.search(partition, axis(0) if vector is None else vector, top_k=100)
    return [match.key.rpartition(":")[2] for match in found]


def many(count: int, *, dimensions: int = DIMENSIONS, partition: str = PARTITION, first: int = 0) -> list[Point]:
    """Points in all directions."""
    vectors = np.random.default_rng(first).standard_normal((count, dimensions)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return [point(first + number, vectors[number], partition=partition) for number in range(count)]


async def test_points_outlive_the_process(tmp_path: Path) -> None:
    """What one process stored the next one finds, with all its facts; what was deleted or has expired it does not."""
    path, clock = tmp_path / "cache.db", Clock()
    async with over(path, clock) as index:
        await index.add([point(number, at(1 - number / 10)) for number in range(3)])
        await index.add([point(3, axis(0), expires_s=clock() + 5), point(4, at(0.99), expires_s=float("inf"))])
        await index.delete([f"{1:032x}"])
    clock.now_s += 10
    async with over(path, clock) as index:
        assert ["0", "4", "2"] == await keys(index)
        (_, match) = await index.search(PARTITION, axis(0), top_k=2)
        expected = ({"response": "an answer", "format": "json"}, float("inf"), 1_799_999_000.0)
        assert expected == (match.payload, match.expires_s, match.created_s)


async def test_another_embedder_finds_nothing(tmp_path: Path) -> None:
    """Vectors of two embedders in one file never meet, not even with as many dimensions."""
    path, clock = tmp_path / "cache.db", Clock()
    async with over(path, clock) as index:
        await index.add([point(1, axis(0))])
    async with over(path, clock, identity="another embedder") as index:
        assert [] == await keys(index)
        await index.add([point(1, axis(0), key="x:other")])
        await index.clear()
    async with over(path, clock) as index:
        assert ["1"] == await keys(index)


async def test_without_a_file_points_end_with_the_process() -> None:
    """Beside a store in memory there is nothing to keep them in."""
    clock = Clock()
    async with over(None, clock) as index:
        await index.add([point(1, axis(0))])
    async with over(None, clock) as index:
        assert [] == await keys(index)


async def test_processes_find_each_others_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two over one file; what one adds the other sees soon, while it is tended."""
    monkeypatch.setattr(embedded, "_LOOK_S", 0.005)
    path, clock = tmp_path / "cache.db", Clock()
    async with over(path, clock) as ours, over(path, clock) as theirs:
        tending = asyncio.create_task(ours.tend())
        await theirs.add([point(1, axis(0))])

        async def seen() -> bool:
            return await keys(ours) == ["1"]

        await until(seen)
        tending.cancel()
        await asyncio.gather(tending, return_exceptions=True)


async def test_a_file_that_fails_is_no_end_of_tending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told, and tried again."""
    monkeypatch.setattr(embedded, "_LOOK_S", 0.001)
    tries = 0

    async def failing() -> int:
        nonlocal tries
        tries += 1
        raise BackendUnavailable("sqlite", "look", "gone")

    async with over(tmp_path / "cache.db", Clock()) as index:
        assert index._file is not None
        monkeypatch.setattr(index._file, "changes", failing)
        tending = asyncio.create_task(index.tend())
        await until(lambda: tries > 2)
        tending.cancel()
        await asyncio.gather(tending, return_exceptions=True)


async def test_the_oldest_make_room(tmp_path: Path) -> None:
    """Beyond the bound those go that were stored first, from the file too; what has expired goes before them."""
    path, clock = tmp_path / "cache.db", Clock()
    async with over(path, clock, rows_max=4) as index:
        await index.add([point(number, axis(0)) for number in range(3)])
        await index.add([point(3, axis(0), expires_s=clock() + 5)])
        clock.now_s += 5
        await index.add([point(4, axis(0))])
        assert {"0", "1", "2", "4"} == set(await keys(index))
        await index.add([point(5, axis(0))])
        assert {"1", "2", "4", "5"} == set(await keys(index))
        assert (4, 4) == ((await index.stats()).points, (await index.stats()).points_max)
    async with over(path, clock, rows_max=4) as index:
        assert {"1", "2", "4", "5"} == set(await keys(index))
    async with over(path, clock, rows_max=2) as index:
        assert {"4", "5"} == set(await keys(index))
    with sqlite3.connect(path) as connection:
        assert (2,) == connection.execute("SELECT count(*) FROM points").fetchone()


async def test_a_freed_row_is_used_again() -> None:
    """Memory does not grow where as many points go as come."""
    async with over(None, Clock(), rows_max=10) as index:
        for number in range(100):
            await index.add([point(number, axis(0))])
            await index.delete([f"{number:032x}"])
        await index.add([point(200, axis(0), partition=OTHER)])
        assert index._rows is not None
        assert (1, ["200"], []) == (index._rows.high, await keys(index, partition=OTHER), await keys(index))


async def test_expired_points_are_swept(tmp_path: Path) -> None:
    """From memory and from the file, those of other embedders as well."""
    path, clock = tmp_path / "cache.db", Clock()
    async with over(path, clock, identity="another embedder") as index:
        await index.add([point(1, axis(0))])
    async with over(path, clock) as index:
        await index.add([*many(600), point(1000, axis(0), expires_s=clock() + 600)])
        clock.now_s += 60
        await index.sweep()
        assert 1 == (await index.stats()).points
    with sqlite3.connect(path) as connection:
        assert [(1,)] == connection.execute("SELECT count(*) FROM points").fetchall()


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("vector", b"\x00" * 4 * DIMENSIONS),
        ("vector", b"\x00\x01\x02"),
        ("vector", np.full(DIMENSIONS, np.nan, np.float32).tobytes()),
        ("payload", b"{"),
        ("payload", b"[]"),
    ],
    ids=["zero", "cut", "nan", "no-json", "list"],
)
async def test_a_damaged_row_is_passed_over(tmp_path: Path, column: str, value: bytes) -> None:
    """The others are found all the same."""
    path, clock = tmp_path / "cache.db", Clock()
    async with over(path, clock) as index:
        await index.add([point(1, axis(0)), point(2, axis(0))])
    with sqlite3.connect(path) as connection:
        connection.execute(f"UPDATE points SET {column} = ? WHERE key LIKE '%:1'", (value,))
    connection.close()
    async with over(path, clock) as index:
        assert ["2"] == await keys(index)


async def test_a_file_that_was_replaced_takes_new_points(tmp_path: Path) -> None:
    """An empty file in the place of the first one, as after damage, gets its table by itself."""
    path, clock = tmp_path / "cache.db", Clock()
    async with (
        SqliteStore.open(path, bytes_max=1 << 24, clock=clock) as store,
        EmbeddedIndex.open(Settings(), identity=IDENTITY, thread=store.thread, clock=clock) as index,
    ):
        await index.prepare(DIMENSIONS)
        await store.thread.run("drop", lambda connection: connection.execute("DROP TABLE points").fetchall())
        await index.add([point(1, axis(0))])
    async with over(path, clock) as index:
        assert ["1"] == await keys(index)


async def test_another_length_is_refused() -> None:
    """A process has one embedder."""
    async with over(None, Clock()) as index:
        with pytest.raises(BackendRejected, match="8 dimensions, not 4"):
            await index.prepare(4)


async def test_nothing_works_before_it_is_prepared() -> None:
    """It says so instead of finding nothing."""
    async with EmbeddedIndex.open(Settings(), identity=IDENTITY, thread=None, clock=Clock()) as index:
        with pytest.raises(BackendError, match="not checked yet"):
            await index.search(PARTITION, axis(0), top_k=1)


@pytest.mark.parametrize("partitions", [1, 40], ids=["one", "many"])
async def test_large_searches_find_what_small_ones_do(partitions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a thread or in the loop, by gathering rows or by multiplying all of them: the same points."""
    async with over(None, Clock(), rows_max=5000) as index:
        for number in range(partitions):
            await index.add(many(4000 // partitions, partition=f"{number:032x}", first=number * 10_000))
        inline = [await keys(index, at(0.3), f"{number:032x}") for number in range(partitions)]
        monkeypatch.setattr(embedded, "_INLINE_WORK", 10 if partitions > 1 else 1_000_000)
        assert inline == [await keys(index, at(0.3), f"{number:032x}") for number in range(partitions)]
        assert all(inline)


async def test_a_row_that_changes_hands_during_a_search_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a thread compares, a point goes and another partition's takes its row: neither is found."""
    monkeypatch.setattr(embedded, "_INLINE_WORK", -1)
    async with over(None, Clock()) as index:
        await index.add([point(1, axis(0)), point(2, at(0.9))])
        rows = index._rows
        assert rows is not None
        best, loop = rows.best, asyncio.get_running_loop()

        def meanwhile(*arguments: object) -> Sequence[tuple[int, float]]:
            found = best(*arguments)  # type: ignore[arg-type]  # as it was called
            changing = asyncio.run_coroutine_threadsafe(change(), loop)
            changing.result(5)
            return found

        async def change() -> None:
            await index.delete([f"{1:032x}"])
            await index.add([point(3, axis(0), partition=OTHER)])

        monkeypatch.setattr(rows, "best", meanwhile)
        assert ["2"] == await keys(index)
        monkeypatch.setattr(rows, "best", best)
        assert (["2"], ["3"]) == (await keys(index), await keys(index, partition=OTHER))


async def test_a_search_that_a_clearing_overtakes_finds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was cleared is not found by a search that began before."""
    monkeypatch.setattr(embedded, "_INLINE_WORK", -1)
    async with over(None, Clock()) as index:
        await index.add([point(1, axis(0))])
        searching = asyncio.create_task(keys(index))
        await asyncio.sleep(0)
        await index.clear()
        assert [] == await searching


async def test_a_graph_finds_what_comparing_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is built, when it stands, and after points came, moved and went."""
    monkeypatch.setattr(embedded, "_LOOK_S", 0.001)
    points = many(700)
    async with over(None, Clock(), graph_rows_min=100) as index, over(None, Clock()) as plain:
        await index.add(points[:600])
        await plain.add(points[:600])
        assert await keys(plain) == await keys(index)
        held = index.graphs[PARTITION]
        tending = asyncio.create_task(index.tend())
        await until(lambda: not held.is_behind)
        assert (await keys(plain))[:10] == (await keys(index))[:10]
        for each in (index, plain):
            await each.delete([one.id for one in points[:50]])
            await each.add([*points[600:], point(60, axis(0)), point(61, axis(0), partition=OTHER)])
        assert (await keys(plain))[:10] == (await keys(index))[:10]
        await until(lambda: not held.is_behind)
        assert (await keys(plain))[:10] == (await keys(index))[:10]
        assert ["61"] == await keys(index, partition=OTHER)
        await index.delete_partition(PARTITION)
        assert ([], {}) == (await keys(index), index.graphs)
        tending.cancel()
        await asyncio.gather(tending, return_exceptions=True)


async def test_a_row_that_leaves_while_it_is_added_leaves_the_graph_too() -> None:
    """What the builder was given by then is taken out in its next step."""
    async with over(None, Clock(), graph_rows_min=5) as index:
        await index.add(many(10))
        held = index.graphs[PARTITION]
        stepping = asyncio.create_task(held.catch_up())
        await asyncio.sleep(0)
        await index.delete([f"{3:032x}"])
        await stepping
        assert held.is_behind
        await held.catch_up()
        assert [False] == [each.is_behind for each in index.graphs.values()]
        assert 9 == len(held.propose(axis(0), 100))


async def test_without_the_extra_all_points_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large partition is slower then, and found all the same."""
    monkeypatch.setattr(graph, "find_spec", lambda _: None)
    async with over(None, Clock(), graph_rows_min=5) as index:
        await index.add(many(10))
        assert (10, {}) == (len(await keys(index)), index.graphs)
