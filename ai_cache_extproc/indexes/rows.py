"""Vectors as rows of one matrix, with the rows of each partition: what the embedded index computes on.

No I/O, no clock, no thread of its own. `best` may run in another thread than the changes: rows that changed hands
meanwhile are found out by their `writes`.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ai_cache_extproc.indexes.base import Point, Vector

RowNumbers: TypeAlias = NDArray[np.int64]

_GATHER_COST = 2
"""What it costs to fetch a row from anywhere in the matrix, in rows multiplied where they stand (bench/indexes.py)."""


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """A point without its vector. Equal only to itself: a row that was reused holds another."""

    id: str
    partition: str
    key: str
    created_s: float
    expires_s: float
    payload: Mapping[str, str]


class Rows:
    """At most `rows_max` points of one length, by row, by id and by partition."""

    def __init__(self, dimensions: int, rows_max: int) -> None:
        self.rows_max = rows_max
        # Memory that nobody has written to is not taken from the machine, so the whole matrix can stand at once and
        # never moves: a copy of it, as it grows, would hold up the event loop.
        self.matrix: Vector = np.empty((rows_max, dimensions), np.float32)
        self.high = 0
        """Rows from here on were never used."""
        self._expires_s = np.zeros(rows_max)
        self._kept: list[Kept | None] = []
        self._free: list[int] = []
        self._row_of: dict[str, int] = {}
        self._partitions: dict[str, array[int]] = {}
        self._place = array("q")
        self._writes = np.zeros(rows_max, np.int64)

    def __len__(self) -> int:
        return len(self._row_of)

    def holds(self, point: Point) -> bool:
        """Whether this very point stands here already."""
        row = self._row_of.get(point.id)
        kept = None if row is None else self._kept[row]
        return (
            kept is not None
            and (kept.partition, kept.created_s, kept.expires_s) == (point.partition, point.created_s, point.expires_s)
            and np.array_equal(self.matrix[row], point.vector)
        )

    @property
    def is_full(self) -> bool:
        """Whether the next new point needs another's row."""
        return len(self) >= self.rows_max

    def put(self, point: Point) -> int:
        """Store a point in place of the one with its id; the row. There must be room."""
        self.remove(point.id)
        row = self._free.pop() if self._free else self._next_row()
        self.matrix[row] = point.vector
        self._expires_s[row] = point.expires_s
        self._writes[row] += 1
        self._kept[row] = Kept(
            point.id, point.partition, point.key, point.created_s, point.expires_s, dict(point.payload)
        )
        self._row_of[point.id] = row
        rows = self._partitions.setdefault(point.partition, array("q"))
        self._place[row] = len(rows)
        rows.append(row)
        return row

    def remove(self, point_id: str) -> Kept | None:
        """Free the row of a point; what it was, None if there was none."""
        row = self._row_of.pop(point_id, None)
        if row is None:
            return None
        kept, self._kept[row] = self._kept[row], None
        assert kept is not None
        self._expires_s[row] = 0.0
        self._writes[row] += 1
        rows, place = self._partitions[kept.partition], self._place[row]
        last = rows.pop()
        if last != row:
            rows[place] = last
            self._place[last] = place
        if not rows:
            del self._partitions[kept.partition]
        self._free.append(row)
        return kept

    def kept(self, row: int) -> Kept | None:
        """What stands in a row."""
        return self._kept[row]

    def row_of(self, point_id: str) -> int | None:
        """Where a point stands."""
        return self._row_of.get(point_id)

    def rows_of(self, partition: str) -> RowNumbers:
        """The rows of a partition, in no order."""
        return np.array(self._partitions.get(partition, ()), np.int64)

    def count_of(self, partition: str) -> int:
        """How many points a partition has."""
        return len(self._partitions.get(partition, ()))

    def writes(self, rows: RowNumbers) -> RowNumbers:
        """How often each of these rows was given to a point or taken from one."""
        return self._writes[rows]

    def ids_of(self, partition: str) -> list[str]:
        """The points of a partition."""
        kept = (self._kept[row] for row in self._partitions.get(partition, ()))
        return [each.id for each in kept if each is not None]

    def oldest(self) -> Iterator[str]:
        """Ids in the order in which they were stored."""
        return iter(self._row_of)

    def expired(self, now_s: float) -> list[str]:
        """The points past their lifetime."""
        (rows,) = np.nonzero(self._expires_s[: self.high] <= now_s)
        kept = (self._kept[row] for row in rows)
        return [each.id for each in kept if each is not None]

    def live(self, rows: RowNumbers, now_s: float) -> RowNumbers:
        """Those of these rows whose points have not expired."""
        return rows[self._expires_s[rows] > now_s]

    def work(self, rows: RowNumbers) -> int:
        """How much `best` has to do for these rows, in rows multiplied where they stand."""
        return min(len(rows) * _GATHER_COST, self.high)

    def best(self, rows: RowNumbers, vector: Vector, top_k: int) -> list[tuple[int, float]]:
        """Places in `rows` of the `top_k` that are nearest to `vector`, best first, with their cosines."""
        if len(rows) * _GATHER_COST < self.high:
            cosines = _cosines(self.matrix.take(rows, axis=0), vector)
        else:
            cosines = _cosines(self.matrix[: self.high], vector)[rows]
        if len(rows) > top_k:
            chosen = np.argpartition(cosines, -top_k)[-top_k:]
        else:
            chosen = np.arange(len(rows))
        chosen = chosen[np.argsort(-cosines[chosen], kind="stable")]
        return [(int(place), float(cosines[place])) for place in chosen]

    def _next_row(self) -> int:
        row = self.high
        self.high += 1
        self._kept.append(None)
        self._place.append(0)
        return row


def _cosines(matrix: Vector, vector: Vector) -> Vector:
    # `@` goes to a BLAS whose threads wait for each other in a loop: three times the processor time, and 12 ms in place
    # of 0.6 as soon as anybody else wants a core. This takes one thread, and gives up the interpreter's lock as well.
    cosines: Vector = np.einsum("ij,j->i", matrix, vector)
    return cosines
