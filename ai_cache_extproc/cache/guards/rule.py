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


class Mode(StrEnum):
    """strict: the embedder's threshold and that of the class. balanced: the class's alone.

    loose: less still of the classes that never ask for more than the embedder's threshold; of the others as much.
    """

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
    "Iv": -0.005, "E": 0.005, "I": 0.018, "S": 0.015, "Sx": 0.022,
}  # fmt: skip
_CHINESE: Final[Mapping[Class, float]] = {
    "0": -0.008, "1": 0.0, "0q": 0.005, "1q": 0.01, "0r": 0.002, "1r": 0.005, "0qr": 0.01, "1qr": 0.01, "R": -0.002,
    "P": -0.002, "Iv": 0.005, "E": 0.015, "I": 0.008, "S": 0.015, "Sx": 0.02,
}  # fmt: skip
_LOOSER_ENGLISH: Final = 0.025
_LOOSER_CHINESE: Final = 0.01
# Classes that ask for more than this hold as many traps as paraphrases.
_LOOSENED_MAX: Final = 0.0


def decide(asked: str, stored: str, similarity: float, *, threshold: float, mode: Mode, shift: float = 0.0) -> Verdict:
    """Symmetric in its texts. threshold: the embedder's, a cosine. shift: added to that of every class, negative is looser."""
    classed = _classified(asked, stored)
    needed = needed_by(classed, threshold=threshold, mode=mode, shift=shift)
    return Verdict(similarity >= needed, classed.name, classed.guard, needed)


def needed_by(classed: Classed, *, threshold: float, mode: Mode, shift: float = 0.0) -> float:
    """The cosine that a pair of this class asks for."""
    needed = math.inf if classed.name == "V" else threshold + _offset(classed, mode) + shift
    return max(needed, threshold) if mode is Mode.STRICT else needed


@lru_cache(maxsize=PAIRS_KEPT)
def _classified(asked: str, stored: str) -> Classed:
    return classify(asked, stored)


def _offset(classed: Classed, mode: Mode) -> float:
    is_chinese = classed.language == "zh"
    offset = (_CHINESE if is_chinese else _ENGLISH)[classed.name]
    if mode is Mode.LOOSE and offset <= _LOOSENED_MAX:
        offset -= _LOOSER_CHINESE if is_chinese else _LOOSER_ENGLISH
    # Neither the lists nor the whole's likeness say much of these.
    return max(offset, 0.0) if classed.is_long or classed.language == "other" else offset
