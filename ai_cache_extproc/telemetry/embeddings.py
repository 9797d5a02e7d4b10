"""What became of texts to embed, and how long embedding took. Plain numbers, as in `metrics.py`."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric

from ai_cache_extproc.telemetry.family import Family

EMBED_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

EMBEDDED_TEXTS = Family(
    "aicache_embedded_texts_total",
    "counter",
    "Texts to embed; result is embedded, cached (its vector was kept), joined (another request was at it) or failed.",
    ("embedder", "result"),
)
EMBED_SECONDS = Family(
    "aicache_embed_seconds", "histogram", "How long one call of the embedder took, failed ones included.", ("embedder",)
)
EMBEDDINGS = (EMBEDDED_TEXTS, EMBED_SECONDS)


class Embeddings:
    """The tallies. Call from the event loop's thread only."""

    def __init__(self) -> None:
        self._texts: dict[tuple[str, str], int] = {}
        self._buckets: dict[str, list[int]] = {}
        self._seconds: dict[str, float] = {}

    def told(self, embedder: str, result: str, texts: int, seconds: float) -> None:
        """Count `texts` that fared alike. result: from a closed set. seconds: of the call, where there was one."""
        self._texts[embedder, result] = self._texts.get((embedder, result), 0) + texts
        if result not in {"embedded", "failed"}:
            return
        buckets = self._buckets.setdefault(embedder, [0] * (len(EMBED_BUCKETS_S) + 1))
        buckets[bisect_left(EMBED_BUCKETS_S, seconds)] += 1
        self._seconds[embedder] = self._seconds.get(embedder, 0.0) + seconds

    def collect(self) -> Iterator[Metric]:
        """Turn the tallies into metric families."""
        texts = CounterMetricFamily(EMBEDDED_TEXTS.name, EMBEDDED_TEXTS.help, labels=EMBEDDED_TEXTS.labels)
        for labels, count in self._texts.items():
            texts.add_metric(labels, count)
        yield texts
        took = HistogramMetricFamily(EMBED_SECONDS.name, EMBED_SECONDS.help, labels=EMBED_SECONDS.labels)
        bounds = [*map(str, EMBED_BUCKETS_S), "+Inf"]
        for embedder, buckets in self._buckets.items():
            samples = list(zip(bounds, accumulate(buckets), strict=True))
            took.add_metric([embedder], samples, self._seconds[embedder])
        yield took
