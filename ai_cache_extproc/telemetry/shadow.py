"""What shadow mode found, and what a verifier said. Plain numbers, as in `metrics.py`."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate
from typing import Literal

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric

from ai_cache_extproc.telemetry.family import Family

Pair = Literal["semantic", "exact"]
Verdict = Literal["same", "alike", "different", "unsure"]
Verified = Literal["yes", "no", "failed"]
VERDICTS: tuple[Verdict, ...] = ("same", "alike", "different", "unsure")

SIMILARITIES = (0.8, 0.85, 0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99, 1.0)

SHADOW = Family(
    "aicache_shadow_total",
    "counter",
    "Answers compared in shadow mode: the one that would have been served and the fresh one. pair is semantic, or exact "
    "for two answers to one question; verdict is same, alike (in other words), different or unsure.",
    ("rule", "pair", "verdict"),
)
SHADOW_LOOKUPS = Family(
    "aicache_shadow_lookups_total",
    "counter",
    "Questions looked up in shadow mode, by what serving would have come to, as in aicache_semantic_total.",
    ("rule", "result"),
)
SHADOW_DROPS = Family(
    "aicache_shadow_drops_total", "counter", "Samples of shadow mode that its queue had no room for.", ("rule",)
)
SHADOW_SIMILARITY = Family(
    "aicache_shadow_similarity",
    "histogram",
    "Cosine of the questions of what would have been served, by what its answer was worth.",
    ("rule", "verdict"),
)
VERIFIED = Family(
    "aicache_verified_total",
    "counter",
    "Pairs put to the verifier; result is yes, no or failed, which counts as no. Remembered answers are not counted again.",
    ("result",),
)
SHADOWS = (SHADOW, SHADOW_LOOKUPS, SHADOW_DROPS, SHADOW_SIMILARITY, VERIFIED)


class Shadows:
    """The tallies. Call from the event loop's thread only."""

    def __init__(self) -> None:
        self.compared: dict[tuple[str, Pair, Verdict], int] = {}
        self.lookups: dict[tuple[str, str], int] = {}
        self.drops: dict[str, int] = {}
        self.similarities: dict[tuple[str, Verdict], list[int]] = {}
        self._totals: dict[tuple[str, Verdict], float] = {}
        self._verified: dict[str, int] = {"yes": 0, "no": 0, "failed": 0}

    def looked_up(self, rule: str, result: str) -> None:
        """Count what serving would have come to."""
        self.lookups[rule, result] = self.lookups.get((rule, result), 0) + 1

    def compare(self, rule: str, pair: Pair, verdict: Verdict, *, similarity: float | None = None) -> None:
        """Count a comparison. similarity: of the questions of a semantic pair."""
        self.compared[rule, pair, verdict] = self.compared.get((rule, pair, verdict), 0) + 1
        if similarity is not None:
            counts = self.similarities.setdefault((rule, verdict), [0] * (len(SIMILARITIES) + 1))
            counts[bisect_left(SIMILARITIES, similarity)] += 1
            self._totals[rule, verdict] = self._totals.get((rule, verdict), 0.0) + similarity

    def dropped(self, rule: str) -> None:
        """Count a sample that there was no room for."""
        self.drops[rule] = self.drops.get(rule, 0) + 1

    def verified(self, result: Verified) -> None:
        """Count what the verifier said."""
        self._verified[result] += 1

    def collect(self) -> Iterator[Metric]:
        """Turn the tallies into metric families."""
        for family, counts in (
            (SHADOW, self.compared),
            (SHADOW_LOOKUPS, self.lookups),
            (SHADOW_DROPS, {(rule,): count for rule, count in self.drops.items()}),
            (VERIFIED, {(result,): count for result, count in self._verified.items()}),
        ):
            counter = CounterMetricFamily(family.name, family.help, labels=family.labels)
            for labels, count in counts.items():
                counter.add_metric(list(labels), count)
            yield counter
        similarity = HistogramMetricFamily(
            SHADOW_SIMILARITY.name, SHADOW_SIMILARITY.help, labels=SHADOW_SIMILARITY.labels
        )
        for key, buckets in self.similarities.items():
            bounds = [*map(str, SIMILARITIES), "+Inf"]
            similarity.add_metric(list(key), list(zip(bounds, accumulate(buckets), strict=True)), self._totals[key])
        yield similarity
