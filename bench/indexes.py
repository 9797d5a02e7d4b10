"""How long a search in the embedded index takes, and how long it holds up the event loop.

`python -m bench.indexes` prints medians at 1 000, 10 000 and 100 000 points of 384 dimensions, all in one partition
and spread over many, with and without the graph, and the longest pause of the loop while it searches and loads.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import uvloop

from ai_cache_extproc.config.indexes import EmbeddedIndex as Settings
from ai_cache_extproc.indexes.base import Point
from ai_cache_extproc.indexes.embedded import EmbeddedIndex
from ai_cache_extproc.stores.sqlite import SqliteStore
from bench.table import table

DIMENSIONS = 384
SEARCHES = 300
NEVER = 10**9


class Pauses:
    """How late the loop comes back to one who asked for a millisecond."""

    def __init__(self) -> None:
        self.longest_ms = 0.0

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            began_s = time.perf_counter()
            await asyncio.sleep(0.001)
            self.longest_ms = max(self.longest_ms, (time.perf_counter() - began_s) * 1000 - 1)


def points(count: int, partitions: int) -> list[Point]:
    """Questions come in clusters: directions around a thousand others."""
    random = np.random.default_rng(1)
    centres = random.standard_normal((1000, DIMENSIONS)).astype(np.float32)
    vectors = centres[random.integers(0, len(centres), count)]
    vectors += 0.5 * random.standard_normal((count, DIMENSIONS), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return [
        Point(f"{number:032x}", f"{number % partitions:032x}", vectors[number], f"key{number}", 0.0, 2e9)
        for number in range(count)
    ]


async def measured(count: int, partitions: int, *, graph: bool) -> tuple[float, float, float]:
    """Median and 99th percentile of a search in ms, and the longest pause of the loop in ms."""
    settings = Settings(rows_max=count, graph_rows_min=20_000 if graph else NEVER)
    async with EmbeddedIndex.open(settings, identity="bench", thread=None, clock=time.time) as index:
        await index.prepare(DIMENSIONS)
        every = points(count, partitions)
        await index.add(every)
        for each in index.graphs.values():
            while each.is_behind:
                await each.catch_up()
        pauses, taken_ms, missed = Pauses(), [], 0
        looking = asyncio.create_task(pauses.run())
        for number in range(SEARCHES):
            asked = every[number * 7 % count]
            began_s = time.perf_counter()
            found = await index.search(asked.partition, asked.vector, top_k=4)
            taken_ms.append((time.perf_counter() - began_s) * 1000)
            missed += found[0].id != asked.id
            await asyncio.sleep(0)
        looking.cancel()
        assert missed <= SEARCHES // 100, f"{missed} of {SEARCHES} points were not found"
        return statistics.median(taken_ms), statistics.quantiles(taken_ms, n=100)[98], pauses.longest_ms


async def loading(count: int) -> tuple[float, float]:
    """Seconds to read points from the file at start, and the longest pause of the loop meanwhile in ms."""
    with tempfile.TemporaryDirectory() as folder:
        path, settings = Path(folder) / "cache.db", Settings(rows_max=count)
        every = points(count, count)
        for again in (False, True):
            async with (
                SqliteStore.open(path, bytes_max=1 << 30, clock=time.time) as store,
                EmbeddedIndex.open(settings, identity="bench", thread=store.thread, clock=time.time) as index,
            ):
                pauses = Pauses()
                looking = asyncio.create_task(pauses.run())
                await asyncio.sleep(0.01)
                began_s = time.perf_counter()
                await index.prepare(DIMENSIONS)
                taken_s = time.perf_counter() - began_s
                looking.cancel()
                if again:
                    assert count == (await index.stats()).points
                    return taken_s, pauses.longest_ms
                for start in range(0, count, 1000):
                    await index.add(every[start : start + 1000])
    raise AssertionError("unreachable")


async def resting() -> float:
    """The longest pause in ms while nothing is done: what the machine's other work makes of it."""
    pauses = Pauses()
    looking = asyncio.create_task(pauses.run())
    await asyncio.sleep(1)
    looking.cancel()
    return pauses.longest_ms


async def main() -> None:
    """Print both tables."""
    print(f"longest pause of a resting loop: {await resting():.2f} ms")
    rows = []
    cases = [(count, partitions, False) for count in (1000, 10_000, 100_000) for partitions in (1, count // 10)]
    # A graph of 100 000 points takes a minute to build.
    cases += [(30_000, 1, False), (30_000, 1, True)]
    for count, partitions, graph in cases:
        median_ms, late_ms, pause_ms = await measured(count, partitions, graph=graph)
        how = "graph" if graph else "compared"
        rows.append([f"{count:,}", f"{partitions:,}", how, f"{median_ms:.3f}", f"{late_ms:.3f}", f"{pause_ms:.2f}"])
    print(table(["points", "partitions", "how", "p50 ms", "p99 ms", "longest pause ms"], rows))
    taken_s, pause_ms = await loading(10_000)
    print(f"reading 10,000 points at start: {taken_s:.2f} s, longest pause {pause_ms:.2f} ms")


if __name__ == "__main__":
    uvloop.run(main())
