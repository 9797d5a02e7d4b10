"""What a threshold serves, right and wrong, and which one keeps wrong hits below a budget. Pure figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ai_cache_extproc.cache.guards.rule import Mode, needed_by
from ai_cache_extproc.cli.pairs import Sample
from ai_cache_extproc.telemetry.share import Z_95, Share

STEP: Final = 0.001
"""How finely a threshold is looked for."""
ROWS_MAX: Final = 14
GROUP_MIN: Final = 20
"""Fewer pairs of a language say nothing apart."""
_STEPS: Final = (0.0025, 0.005, 0.01, 0.02, 0.05)
_DROPPED: Final = 0.1
"""A table begins where about this share of the pairs of one meaning is no longer served,"""
_BELOW: Final = 0.02
"""or so far below the default."""


@dataclass(frozen=True, slots=True)
class Served:
    """At a threshold: hits of the pairs of one meaning, wrong hits of the others."""

    threshold: float
    hits: Share
    wrong: Share

    def document(self) -> dict[str, object]:
        """For programs."""
        return {"threshold": self.threshold, "hits": self.hits.document(), "wrong_hits": self.wrong.document()}


@dataclass(frozen=True, slots=True)
class Advice:
    """The lowest threshold whose wrong hits stay in the budget; None where there is none.

    promised: the lowest of which the whole interval does; None where the pairs are too few to promise anything.
    different_needed: so many pairs of different meaning, without one wrong hit, would be enough for a promise.
    """

    found: Served | None
    promised: Served | None
    different_needed: int

    def document(self) -> dict[str, object]:
        """For programs."""
        return {
            "found": self.found and self.found.document(),
            "promised": self.promised and self.promised.document(),
            "different_needed": self.different_needed,
        }


class Curve:
    """One mode's decisions over some samples, at any threshold."""

    def __init__(self, samples: Sequence[Sample], mode: Mode | None) -> None:
        """mode: None for the threshold alone, without guards."""
        self._same = sorted(limit(sample, mode) for sample in samples if sample.is_same)
        self._different = sorted(limit(sample, mode) for sample in samples if not sample.is_same)

    def at(self, threshold: float) -> Served:
        """What this threshold serves."""
        hits, wrong = (
            Share(sum(each >= threshold - 1e-9 for each in limits), len(limits))
            for limits in (self._same, self._different)
        )
        return Served(threshold, hits, wrong)

    def lowest(self, wrong_max: float) -> Advice:
        """Within a budget: the share of the pairs of different meaning that may be served, above 0, below 1."""
        different = len(self._different)
        needed = math.ceil(Z_95**2 * (1 - wrong_max) / wrong_max)
        found = self._over(math.floor(wrong_max * different + 1e-9)) if different else None
        allowed = (
            count for count in range(different, -1, -1) if different and Share(count, different).high <= wrong_max
        )
        promised = next((served for count in allowed if (served := self._over(count)) is not None), None)
        return Advice(found, promised, needed)

    def _over(self, allowed: int) -> Served | None:
        """At the lowest threshold that serves no more than so many wrongly."""
        bound = self._different[-1 - allowed] if allowed < len(self._different) else -math.inf
        if bound == -math.inf:
            served = [each for each in self._same if each > -math.inf]
            threshold = _floor(served[0]) if served else -1.0
        else:
            threshold = _floor(bound) + STEP
        threshold = round(max(-1.0, threshold), 3)
        return self.at(threshold) if threshold <= 1 else None


def limit(sample: Sample, mode: Mode | None) -> float:
    """The highest threshold at which this pair is served."""
    if mode is None:
        return sample.similarity
    # What a class asks for is the threshold and an offset.
    return sample.similarity - needed_by(sample.classed, threshold=0.0, mode=mode)


def thresholds_for(samples: Sequence[Sample], default: float | None) -> list[float]:
    """A handful that shows where the embedder tells pairs apart, and its default."""
    similarities = sorted(sample.similarity for sample in samples if sample.is_same) or [0.9]
    lowest = similarities[int(len(similarities) * _DROPPED)]
    if default is not None:
        lowest = min(lowest, default - _BELOW)
    step = next((step for step in _STEPS if (1 - lowest) / step < ROWS_MAX), _STEPS[-1])
    first = math.floor(lowest / step)
    found = {round(count * step, 4) for count in range(first, math.ceil(1 / step))}
    return sorted(found | ({default} if default is not None else set()))


def groups_of(samples: Sequence[Sample]) -> Mapping[str, Sequence[Sample]]:
    """All of them, and by language where there are several of some size."""
    by_language: dict[str, list[Sample]] = {}
    for sample in samples:
        by_language.setdefault(sample.classed.language, []).append(sample)
    several = {name: by_language[name] for name in sorted(by_language) if len(by_language[name]) >= GROUP_MIN}
    return {"all": samples, **(several if len(several) > 1 else {})}


def _floor(threshold: float) -> float:
    return math.floor(threshold / STEP + 1e-6) * STEP
