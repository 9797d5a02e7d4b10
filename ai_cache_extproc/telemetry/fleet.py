"""What a supervisor counts by itself, beside what its workers tell."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ai_cache_extproc.telemetry.metrics import RELOAD_SUCCESSFUL, WORKER_RESTARTS, WORKER_UP


class FleetMetrics(Collector):
    """Call from the event loop's thread only."""

    def __init__(self, workers: int) -> None:
        self._up = [False] * workers
        self._restarts = [0] * workers
        self._reload_successful = True

    def worker_restarted(self, worker: int) -> None:
        """A worker is started again."""
        self._restarts[worker] += 1

    def worker_up(self, worker: int, up: bool) -> None:
        """Whether a worker answered this scrape."""
        self._up[worker] = up

    def reload(self, ok: bool) -> None:
        """Whether the document could be read again, for workers that are yet to start. Each worker counts by itself."""
        self._reload_successful = ok

    def collect(self) -> Iterator[Metric]:
        """Turn the tallies into metric families."""
        up = GaugeMetricFamily(WORKER_UP.name, WORKER_UP.help, labels=WORKER_UP.labels)
        restarts = CounterMetricFamily(WORKER_RESTARTS.name, WORKER_RESTARTS.help, labels=WORKER_RESTARTS.labels)
        for worker, (answered, count) in enumerate(zip(self._up, self._restarts, strict=True)):
            up.add_metric([str(worker)], answered)
            restarts.add_metric([str(worker)], count)
        yield up
        yield restarts
        yield GaugeMetricFamily(RELOAD_SUCCESSFUL.name, RELOAD_SUCCESSFUL.help, value=self._reload_successful)
