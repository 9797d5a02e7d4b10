"""A graph over the rows of one large partition (`usearch`): it proposes rows, whose cosines are then computed exactly.

Built and changed in a thread of its own, a few rows at a time. What it does not hold yet is compared one by one, so
it can be behind, and can propose rows that have changed hands, without a wrong match.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from importlib.util import find_spec
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from ai_cache_extproc.indexes.base import Vector
from ai_cache_extproc.indexes.rows import RowNumbers

if TYPE_CHECKING:
    from usearch.index import Index as UsearchIndex

_STEP_ROWS = 256


def is_installed() -> bool:
    """Whether there is a `usearch` to build with."""
    return find_spec("usearch") is not None


class Graph:
    """Rows of one partition. Belongs to the event loop; the work is done in `executor`, one step after another."""

    def __init__(self, dimensions: int, matrix: Vector, executor: Executor) -> None:
        """matrix: where the rows stand; read in the executor."""
        from usearch.index import Index  # noqa: PLC0415

        self._index: UsearchIndex = Index(ndim=dimensions, metric="ip", dtype="f16")
        self._matrix = matrix
        self._executor = executor
        self._turns = 0
        self._waiting: dict[int, int] = {}
        self._leaving: list[int] = []
        self._holds: set[int] = set()

    @property
    def is_behind(self) -> bool:
        """Whether there are rows to be added or taken out."""
        return bool(self._waiting or self._leaving)

    @property
    def waiting(self) -> RowNumbers:
        """The rows that it does not hold yet."""
        return np.fromiter(self._waiting, np.int64, len(self._waiting))

    def joined(self, row: int) -> None:
        """A row has come to the partition."""
        self._turns += 1
        self._waiting[row] = self._turns

    def left(self, row: int) -> None:
        """A row has gone from it, or holds another vector from here on."""
        self._waiting.pop(row, None)
        if row in self._holds:
            self._holds.discard(row)
            self._leaving.append(row)

    async def catch_up(self) -> None:
        """Take one step: at most a few hundred rows."""
        leaving, self._leaving = self._leaving, []
        turns = dict(islice(self._waiting.items(), _STEP_ROWS))
        rows = list(turns)
        vectors = self._matrix[rows]
        await asyncio.get_running_loop().run_in_executor(self._executor, self._change, leaving, rows, vectors)
        for row, turn in turns.items():
            # One that left meanwhile stands in the graph all the same, and must leave it.
            if self._waiting.get(row) == turn:
                del self._waiting[row]
                self._holds.add(row)
            else:
                self._leaving.append(row)

    def propose(self, vector: Vector, count: int) -> RowNumbers:
        """Rows near to `vector`; may be called in any thread."""
        if not len(self._index):
            return np.empty(0, np.int64)
        return self._index.search(vector, count, threads=1).keys.astype(np.int64)

    def _change(self, leaving: list[int], rows: list[int], vectors: Vector) -> None:
        for row in leaving:
            self._index.remove(row)
        if rows:
            self._index.add(np.array(rows, np.uint64), vectors, threads=1)
