"""From which similarity on a question is a candidate, beside the figures of how similar candidates were."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily, Metric

from ai_cache_extproc.telemetry.family import Family

THRESHOLD = Family(
    "aicache_similarity_threshold",
    "gauge",
    "From which cosine on a question is a candidate; guards may ask for more. The rule's own, or the embedder's.",
    ("rule",),
    merge="max",
)


class Thresholds:
    """Those of the rules in effect. Call from the event loop's thread only."""

    def __init__(self) -> None:
        self._read: Callable[[], Mapping[str, float]] = dict

    def watch(self, read: Callable[[], Mapping[str, float]]) -> None:
        """Read them from here at each scrape, by rule: a reload changes them."""
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """Turn them into a metric family."""
        family = GaugeMetricFamily(THRESHOLD.name, THRESHOLD.help, labels=THRESHOLD.labels)
        for rule, threshold in self._read().items():
            family.add_metric([rule], threshold)
        yield family
