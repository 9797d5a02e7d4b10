"""The index in this process: one matrix, kept in the SQLite store's file where that is the store.

Small searches run in the event loop, as a hand-over to a thread would cost more; larger ones in a thread.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

import numpy as np
import orjson
import structlog

from ai_cache_extproc.clients.sqlite import SqliteThread
from ai_cache_extproc.clients.sqlite_points import PointsFile, StoredPoint
from ai_cache_extproc.config.indexes import EmbeddedIndex as Settings
from ai_cache_extproc.errors import BackendError, BackendRejected
from ai_cache_extproc.indexes.base import IndexStats, Point, Vector, check_vector, unprepared
from ai_cache_extproc.indexes.graph import Graph, is_installed
from ai_cache_extproc.indexes.rows import Kept, RowNumbers, Rows
from ai_cache_extproc.model import Match

log = structlog.get_logger()

T = TypeVar("T")

_INLINE_WORK = 2000
"""Rows that may be multiplied in the event loop: about a tenth of a millisecond."""
_PROPOSALS = 16
"""How many rows a graph proposes beyond those asked for: some may have expired."""
_BATCH_ROWS = 64
"""Read from the file, or removed, before everybody else has a turn."""
_LOOK_S = 1.0
"""How often to look for points that other processes have put into the file."""
_SWEEP_S = 60.0


class EmbeddedIndex:
    """An Index and Tended. Without `tend` nothing is wrong, but other processes' points are not seen."""

    name = "embedded"

    def __init__(
        self,
        settings: Settings,
        *,
        file: PointsFile | None,
        clock: Callable[[], float],
        executor: ThreadPoolExecutor,
        builder: ThreadPoolExecutor,
    ) -> None:
        """clock: seconds since the epoch. executor: for searches. builder: for graphs."""
        self._settings = settings
        self._file = file
        self._clock = clock
        self._executor = executor
        self._builder = builder
        self._rows: Rows | None = None
        self._dimensions = 0
        self.graphs: dict[str, Graph] = {}
        """By partition, those of the large ones."""
        self._read_through = 0
        self._changes = -1

    @classmethod
    @asynccontextmanager
    async def open(
        cls, settings: Settings, *, identity: str, thread: SqliteThread | None, clock: Callable[[], float]
    ) -> AsyncIterator[EmbeddedIndex]:
        """identity: of the embedder; points of another are not seen. thread: of the file that keeps them, if any."""
        file = None
        if thread is not None:
            file = PointsFile(thread, embedder=hashlib.sha256(identity.encode()).hexdigest()[:16])
        executor = ThreadPoolExecutor(1, thread_name_prefix="index")
        builder = ThreadPoolExecutor(1, thread_name_prefix="index-graph")
        try:
            yield cls(settings, file=file, clock=clock, executor=executor, builder=builder)
        finally:
            # A search takes milliseconds, a step of a graph a moment; nobody waits for their results any more.
            executor.shutdown(wait=True, cancel_futures=True)
            builder.shutdown(wait=True, cancel_futures=True)

    async def prepare(self, dimensions: int) -> None:
        """Read what the file holds; the event loop goes on meanwhile."""
        if self._rows is not None and self._dimensions != dimensions:
            reason = (
                f"it holds vectors of {self._dimensions} dimensions, not {dimensions}; restart to change the embedder"
            )
            raise BackendRejected(self.name, "prepare", reason)
        if self._rows is None:
            self._dimensions = dimensions
            self._rows = Rows(dimensions, self._settings.rows_max)
        await self._read()

    async def add(self, points: Sequence[Point]) -> None:
        """In memory at once; in the file when this returns. The oldest points make room."""
        rows = self._prepared("add")
        for point in points:
            check_vector(self.name, "add", point.vector, self._dimensions)
        removed = [point_id for point in points for point_id in self._put(rows, point)]
        if self._file is not None:
            await self._file.write([_stored(point) for point in points], removed=removed)

    async def search(self, partition: str, vector: Vector, *, top_k: int) -> list[Match]:
        """Exact up to the size from which a graph proposes; cosines are always exact."""
        rows = self._prepared("search")
        check_vector(self.name, "search", vector, self._dimensions)
        graph, now_s = self.graphs.get(partition), self._clock()
        if graph is not None:
            proposed = await self._aside(graph.propose, vector, top_k + _PROPOSALS)
            # Not `np.unique`, which imports for 7 ms when it is called first.
            candidates = np.sort(np.concatenate((proposed, graph.waiting)))
            candidates = candidates[np.diff(candidates, prepend=-1) > 0]
        else:
            candidates = rows.rows_of(partition)
        candidates = rows.live(candidates, now_s)
        if rows.work(candidates) <= _INLINE_WORK:
            best = rows.best(candidates, vector, top_k)
        else:
            best = await self._best_aside(rows, candidates, vector, top_k)
        found = ((rows.kept(int(candidates[place])), cosine) for place, cosine in best)
        return [_match(kept, cosine) for kept, cosine in found if kept is not None and kept.partition == partition]

    async def delete(self, ids: Sequence[str]) -> int:
        """Remove points from memory and from the file."""
        rows = self._prepared("delete")
        removed = sum(self._remove(rows, point_id) for point_id in ids)
        if self._file is not None:
            await self._file.write([], removed=ids)
        return removed

    async def delete_partition(self, partition: str) -> None:
        """Remove them one by one, so that their rows are free again."""
        rows = self._prepared("delete_partition")
        ids = rows.ids_of(partition)
        for start in range(0, len(ids), _BATCH_ROWS):
            await self.delete(ids[start : start + _BATCH_ROWS])
            await asyncio.sleep(0)

    async def clear(self) -> None:
        """Begin with an empty matrix."""
        self._prepared("clear")
        self._rows = Rows(self._dimensions, self._settings.rows_max)
        self.graphs.clear()
        if self._file is not None:
            await self._file.clear()

    async def check(self) -> None:
        """Return if the file, where there is one, can be read."""
        self._prepared("check")
        if self._file is not None:
            await self._file.changes()

    async def stats(self) -> IndexStats:
        """The points, some of which may have expired."""
        return IndexStats(points=len(self._prepared("stats")), points_max=self._settings.rows_max)

    async def tend(self) -> None:
        """Build graphs, read what other processes wrote, remove what has expired."""
        loop = asyncio.get_running_loop()
        sweep_at_s = loop.time() + _SWEEP_S
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                await self._read_changes()
                await self._tend_graphs()
                if loop.time() >= sweep_at_s:
                    sweep_at_s = loop.time() + _SWEEP_S
                    await self.sweep()
            except BackendError as error:
                log.warning("index_not_tended", index=self.name, reason=str(error))

    async def sweep(self) -> None:
        """Remove what has expired."""
        rows, now_s = self._prepared("sweep"), self._clock()
        expired = rows.expired(now_s)
        for start in range(0, len(expired), _BATCH_ROWS):
            for point_id in expired[start : start + _BATCH_ROWS]:
                self._remove(rows, point_id)
            await asyncio.sleep(0)
        if self._file is not None:
            while await self._file.remove_expired(now_s, rows_max=_BATCH_ROWS) == _BATCH_ROWS:
                pass

    # What they do.

    def _prepared(self, operation: str) -> Rows:
        if self._rows is None:
            raise unprepared(self.name, operation)
        return self._rows

    async def _aside(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work, *arguments)

    async def _best_aside(
        self, rows: Rows, candidates: RowNumbers, vector: Vector, top_k: int
    ) -> list[tuple[int, float]]:
        """In a thread; a row that was written or freed meanwhile is left out, whatever was read of it."""
        before = rows.writes(candidates)
        best = await self._aside(rows.best, candidates, vector, top_k)
        if rows is not self._rows:
            return []
        after = rows.writes(candidates)
        return [(place, cosine) for place, cosine in best if before[place] == after[place]]

    def _put(self, rows: Rows, point: Point) -> list[str]:
        """Store a point; the ids of those that made room for it."""
        removed: list[str] = []
        if rows.is_full and rows.row_of(point.id) is None:
            removed = rows.expired(self._clock()) or [next(rows.oldest())]
            for point_id in removed:
                self._remove(rows, point_id)
        self._leave_graph(rows, point.id)
        row = rows.put(point)
        self._join_graph(rows, point.partition, row)
        return removed

    def _remove(self, rows: Rows, point_id: str) -> bool:
        self._leave_graph(rows, point_id)
        kept = rows.remove(point_id)
        if kept is None:
            return False
        if not rows.count_of(kept.partition):
            self.graphs.pop(kept.partition, None)
        return True

    def _leave_graph(self, rows: Rows, point_id: str) -> None:
        row = rows.row_of(point_id)
        kept = None if row is None else rows.kept(row)
        if row is not None and kept is not None and (graph := self.graphs.get(kept.partition)) is not None:
            graph.left(row)

    def _join_graph(self, rows: Rows, partition: str, row: int) -> None:
        graph = self.graphs.get(partition)
        if graph is not None:
            graph.joined(row)
        elif rows.count_of(partition) > self._settings.graph_rows_min and is_installed():
            graph = self.graphs[partition] = Graph(self._dimensions, rows.matrix, self._builder)
            for each in rows.rows_of(partition).tolist():
                graph.joined(each)

    async def _tend_graphs(self) -> None:
        for graph in tuple(self.graphs.values()):
            while graph.is_behind:
                await graph.catch_up()

    async def _read_changes(self) -> None:
        if self._file is None or self._rows is None:
            return
        changes = await self._file.changes()
        if changes != self._changes:
            self._changes = changes
            await self._read()

    async def _read(self) -> None:
        """Take over the rows that were written since the last look, a batch at a time."""
        rows = self._prepared("prepare")
        if self._file is None:
            return
        while True:
            batch = await self._file.read(self._read_through, now_s=self._clock(), rows_max=_BATCH_ROWS)
            beyond: list[str] = []
            for stored in batch:
                self._read_through = stored.number
                point = _point(stored, self._dimensions)
                if point is not None and not rows.holds(point):
                    beyond += self._put(rows, point)
            if beyond:
                await self._file.write([], removed=beyond)
            if len(batch) < _BATCH_ROWS:
                return


def _stored(point: Point) -> StoredPoint:
    return StoredPoint(
        0,
        point.id,
        point.partition,
        point.key,
        point.created_s,
        point.expires_s,
        orjson.dumps(dict(point.payload)),
        point.vector.astype("<f4").tobytes(),
    )


def _point(stored: StoredPoint, dimensions: int) -> Point | None:
    """None for a row that is damaged."""
    try:
        payload = orjson.loads(stored.payload)
        vector = np.frombuffer(stored.vector, "<f4").astype(np.float32, copy=False)
        check_vector("embedded", "prepare", vector, dimensions)
    except (ValueError, BackendRejected):
        return None
    if not isinstance(payload, dict):
        return None
    return Point(stored.id, stored.partition, vector, stored.key, stored.created_s, stored.expires_s, payload)


def _match(kept: Kept, cosine: float) -> Match:
    similarity = max(-1.0, min(1.0, cosine))
    return Match(kept.id, kept.key, similarity, kept.created_s, kept.expires_s, kept.payload)
