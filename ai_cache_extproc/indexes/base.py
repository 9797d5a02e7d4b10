"""What the cache asks of an index: the points of one partition that are nearest to a vector.

A partition is equality and nothing else: no driver may return a point of another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ai_cache_extproc.errors import BackendRejected, BackendUnavailable
from ai_cache_extproc.model import Match

Vector: TypeAlias = NDArray[np.float32]

_HEXADECIMAL = frozenset("0123456789abcdef")
_LENGTH_OFF_MAX = 1e-3
"""How far from 1 the length of a vector may be. Scores become cosines by it."""


@dataclass(frozen=True, slots=True, eq=False)
class Point:
    """One stored question. vector: float32, unit length. key: of the entry that answers. expires_s: inf for never.

    id and partition are hexadecimal digests. payload: what an index in another's layout keeps of the answer itself.
    """

    id: str
    partition: str
    vector: Vector
    key: str
    created_s: float
    expires_s: float
    payload: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class IndexStats:
    """How full an index is; points_max is 0 where it has no bound of its own."""

    points: int
    points_max: int = 0


class Index(Protocol):
    """Every method raises BackendTimeout, BackendUnavailable or BackendRejected."""

    name: str

    async def prepare(self, dimensions: int) -> None:
        """Create or check what the points are kept in; before anything else, and again after a failure.

        BackendRejected where what is there has other dimensions, or measures in a way that gives no cosine.
        """
        ...

    async def add(self, points: Sequence[Point]) -> None:
        """Put points in place of those with the same ids. A vector that is NaN, too short or not of unit length is rejected."""
        ...

    async def search(self, partition: str, vector: Vector, *, top_k: int) -> list[Match]:
        """The points of `partition` nearest to `vector` (float32, unit length), best first; expired ones never."""
        ...

    async def delete(self, ids: Sequence[str]) -> int:
        """Remove points by the ids that matches carry; how many there were, or were asked for where nobody counts."""
        ...

    async def delete_partition(self, partition: str) -> None:
        """Remove every point of a partition."""
        ...

    async def clear(self) -> None:
        """Remove every point."""
        ...

    async def check(self) -> None:
        """Return if the index works at this moment."""
        ...

    async def stats(self) -> IndexStats:
        """Count the points."""
        ...


@runtime_checkable
class Tended(Protocol):
    """An index that has work of its own beside those who ask it: connections, sweeping, news from other processes."""

    async def tend(self) -> None:
        """Run until cancelled."""
        ...


def check_vector(backend: str, operation: str, vector: Vector, dimensions: int) -> None:
    """Raise BackendRejected for what is no vector of this many dimensions, or has a length that is not 1."""
    if vector.shape != (dimensions,):
        reason = f"a vector of shape {vector.shape}, but the index holds {dimensions} dimensions"
        raise BackendRejected(backend, operation, reason)
    length = float(np.sqrt(vector @ vector))
    # A comparison with NaN is false.
    if not abs(length - 1.0) <= _LENGTH_OFF_MAX:
        raise BackendRejected(backend, operation, f"a vector of length {length:g}; only unit length can be compared")


def check_digest(backend: str, operation: str, *texts: str) -> None:
    """Raise BackendRejected unless these are ids or partitions: they stand in filters and names without escapes."""
    for text in texts:
        if not text or not _HEXADECIMAL.issuperset(text):
            raise BackendRejected(backend, operation, f"{text[:64]!r} is no digest in hexadecimal digits")


def unprepared(backend: str, operation: str) -> BackendUnavailable:
    """What to raise before `prepare` has succeeded."""
    return BackendUnavailable(backend, operation, "its collection was not checked yet")
