"""Whether a stored answer may be served for a question that is like the one it was given for.

A class says how two questions differ (`classes.py`); each class asks for its own similarity. What a mode serves, a
looser one serves too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache
from typing import Final, NamedTuple

from ai_cache_extproc.cache.guards.classes import Class, Classed, classify

PAIRS_KEPT: Final = 4_096
LOOSE_SHIFT: Final = -0.01


class Mode(StrEnum):
    """strict: the embedder's threshold and that of the class. balanced: the class's alone. loose: a little below."""

    STRICT = "strict"
    BALANCED = "balanced"
    LOOSE = "loose"


class Verdict(NamedTuple):
    """needed: the cosine that this pair asks for; infinite if none is enough. guard: what forbade it, of class V."""

    serve: bool
    klass: Class
    guard: str | None
    needed: float


# Found on e5-small-q4, whose threshold is .97: docs/decisions/0014-guards-and-classes.md.
_ENGLISH: Final[Mapping[Class, float]] = {
    "0": -0.035, "1": -0.03, "0q": -0.01, "1q": -0.01, "0f": -0.002, "1f": -0.002, "R": -0.025, "P": -0.02,
    "Iv": -0.005, "E": -0.005, "I": 0.01, "S": 0.015, "Sx": 0.022,
}  # fmt: skip
_CHINESE: Final[Mapping[Class, float]] = {
    "0": -0.008, "1": 0.0, "0q": 0.005, "1q": 0.01, "0r": 0.002, "1r": 0.005, "0qr": 0.01, "1qr": 0.01, "R": -0.002,
    "P": 0.005, "Iv": 0.005, "E": 0.015, "I": 0.005, "S": 0.015, "Sx": 0.02,
}  # fmt: skip


def decide(asked: str, stored: str, similarity: float, *, threshold: float, mode: Mode, shift: float = 0.0) -> Verdict:
    """Symmetric in its texts. threshold: the embedder's, a cosine. shift: added to that of every class, negative is looser."""
    classed = _classified(asked, stored)
    needed = _needed(classed, threshold, shift + (LOOSE_SHIFT if mode is Mode.LOOSE else 0.0))
    if mode is Mode.STRICT:
        needed = max(needed, threshold)
    return Verdict(similarity >= needed, classed.name, classed.guard, needed)


@lru_cache(maxsize=PAIRS_KEPT)
def _classified(asked: str, stored: str) -> Classed:
    return classify(asked, stored)


def _needed(classed: Classed, threshold: float, shift: float) -> float:
    if classed.name == "V":
        return math.inf
    offset = (_CHINESE if classed.language == "zh" else _ENGLISH)[classed.name]
    # Neither the lists nor the whole's likeness say much of these.
    if classed.is_long or classed.language == "other":
        offset = max(offset, 0.0)
    return threshold + offset + shift
