"""From what a vendor calls a score to cosine similarity. Vectors are of unit length, so every metric here has one."""

from __future__ import annotations

from collections.abc import Callable

ToCosine = Callable[[float], float]


def similarity(score: float) -> float:
    """Cosine, or the dot product of unit vectors."""
    return score


def distance(score: float) -> float:
    """1 - cosine, 0..2."""
    return 1.0 - score


def halved(score: float) -> float:
    """(1 + cosine) / 2, 0..1."""
    return 2.0 * score - 1.0


def euclidean(score: float) -> float:
    """The length of the difference: |a - b|^2 = 2 - 2 cos."""
    return 1.0 - score * score / 2.0


def squared_euclidean(score: float) -> float:
    """Its square."""
    return 1.0 - score / 2.0


def negated_dot(score: float) -> float:
    """The dot product with its sign turned, so that smaller is closer."""
    return -score


def dot_distance(score: float) -> float:
    """1 - dot product."""
    return 1.0 - score
