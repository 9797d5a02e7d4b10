"""What matching by meaning came to: how often it answered, how close questions were, how long it took. Plain numbers."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate
from typing import Literal

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric

from ai_cache_extproc.meaning import Judged
from ai_cache_extproc.telemetry.embeddings import EMBEDDINGS, Embeddings
from ai_cache_extproc.telemetry.family import Family
from ai_cache_extproc.telemetry.thresholds import THRESHOLD, Thresholds

Layer = Literal["exact", "semantic"]

SIMILARITIES = (0.8, 0.85, 0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99, 1.0)
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

HITS = Family(
    "aicache_hits_total",
    "counter",
    "Hits by how they were found; an exact one on an alias, made by a semantic one before it, counts as semantic.",
    ("rule", "layer"),
)
SEMANTIC = Family(
    "aicache_semantic_total",
    "counter",
    "Questions that no exact hit answered, by what matching them by meaning came to. hit; empty (nothing was there), below "
    "(nothing was near enough), vetoed (a guard), gone (its entry); failed (the embedder or the index), late (its "
    "deadline); or why it was not tried: tools, not_text, structured, code, too_long, empty_text.",
    ("rule", "result"),
)
SIMILARITY = Family(
    "aicache_similarity",
    "histogram",
    "Cosine of a question and its nearest candidate; result is hit or rejected.",
    ("rule", "result"),
)
SEMANTIC_SECONDS = Family(
    "aicache_semantic_seconds",
    "histogram",
    "How long matching by meaning took, embedding included, whatever it came to.",
)
INDEXED = Family(
    "aicache_indexed_total",
    "counter",
    "Stored answers on their way into the index; result is added, queue_full, or failed (the embedder or the index): those "
    "two are not found by their meaning.",
    ("result",),
)
INDEX_POINTS = Family("aicache_index_points", "gauge", "Questions in the index, as of this scrape.", merge="max")
MEANINGS = (HITS, SEMANTIC, SIMILARITY, THRESHOLD, SEMANTIC_SECONDS, INDEXED, INDEX_POINTS, *EMBEDDINGS)


class Meaning:
    """The tallies. Call from the event loop's thread only."""

    def __init__(self) -> None:
        self.embeddings = Embeddings()
        self.thresholds = Thresholds()
        self._hits: dict[tuple[str, Layer], int] = {}
        self._results: dict[tuple[str, str], int] = {}
        self._similarities: dict[tuple[str, str], _Histogram] = {}
        self._seconds = _Histogram(SECONDS)
        self._indexed: dict[str, int] = {}

    def hit(self, rule: str, *, similarity: float | None) -> None:
        """Count a hit. similarity: None where the question was the same."""
        key: tuple[str, Layer] = (rule, "exact" if similarity is None else "semantic")
        self._hits[key] = self._hits.get(key, 0) + 1

    def judged(self, rule: str, judged: Judged, seconds: float) -> None:
        """Count what a question came to. seconds: 0 where nothing was tried."""
        key = (rule, judged.result)
        self._results[key] = self._results.get(key, 0) + 1
        if seconds:
            self._seconds.see(seconds)
        if judged.similarity is not None:
            key = (rule, "hit" if judged.result == "hit" else "rejected")
            self._similarities.setdefault(key, _Histogram(SIMILARITIES)).see(judged.similarity)

    def indexed(self, result: Literal["added", "queue_full", "failed"]) -> None:
        """Count an answer that can be found by its meaning from now on, or never will."""
        self._indexed[result] = self._indexed.get(result, 0) + 1

    def collect(self) -> Iterator[Metric]:
        """Turn the tallies into metric families."""
        yield _counter(HITS, self._hits)
        yield _counter(SEMANTIC, self._results)
        similarity = HistogramMetricFamily(SIMILARITY.name, SIMILARITY.help, labels=SIMILARITY.labels)
        for labels, histogram in self._similarities.items():
            similarity.add_metric(labels, histogram.samples(), histogram.total)
        yield similarity
        yield from self.thresholds.collect()
        seconds = HistogramMetricFamily(SEMANTIC_SECONDS.name, SEMANTIC_SECONDS.help)
        seconds.add_metric([], self._seconds.samples(), self._seconds.total)
        yield seconds
        yield _counter(INDEXED, {(result,): count for result, count in self._indexed.items()})
        yield from self.embeddings.collect()


class _Histogram:
    """Observations by bucket; a bound belongs to the bucket below it."""

    __slots__ = ("_bounds", "_counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def see(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    def samples(self) -> list[tuple[str, float]]:
        return list(zip([*map(str, self._bounds), "+Inf"], accumulate(self._counts), strict=True))


def _counter(
    family: Family, counts: dict[tuple[str, Layer], int] | dict[tuple[str, str], int] | dict[tuple[str], int]
) -> Metric:
    metric = CounterMetricFamily(family.name, family.help, labels=family.labels)
    for labels, count in counts.items():
        metric.add_metric(labels, count)
    return metric
