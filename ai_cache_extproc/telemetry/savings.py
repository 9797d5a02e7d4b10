"""What hits spared: money and seconds, by model; tokens are in `usage.py`. Plain numbers, as in `metrics.py`."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, Metric

from ai_cache_extproc.telemetry.family import Family

_MODEL = "`model` is that of the row in `prices` that matches, else `other`."

SAVED_COST = Family(
    "aicache_saved_cost_total",
    "counter",
    "What the tokens of hits (`aicache_tokens_total` with the source cache) would have cost by `prices`; currency as it says "
    f"there. {_MODEL}",
    ("model", "currency"),
)
SAVED_SECONDS = Family(
    "aicache_saved_seconds_total",
    "counter",
    f"Seconds that the upstream took for the answers that hits gave again, less what the hits waited. {_MODEL}",
    ("model",),
)
SAVINGS = (SAVED_COST, SAVED_SECONDS)


class Savings:
    """The tallies. Call from the event loop's thread only."""

    def __init__(self) -> None:
        # Money, seconds.
        self._tallies: dict[tuple[str, str], list[float]] = {}

    def expect(self, model: str, currency: str) -> None:
        """Let the series of a model begin at 0, so that its first hit is seen as an increase."""
        self._tallies.setdefault((model, currency), [0.0, 0.0])

    def hit(self, model: str, currency: str, *, cost: float, seconds: float) -> None:
        """Count what one hit spared. model, currency: from closed sets."""
        key = (model, currency)
        tally = self._tallies.get(key)
        if tally is None:
            tally = self._tallies[key] = [0.0, 0.0]
        tally[0] += cost
        if seconds > 0:
            tally[1] += seconds

    def collect(self) -> Iterator[Metric]:
        """Turn the tallies into metric families. A model may have had rows of several currencies, one after the other."""
        cost = CounterMetricFamily(SAVED_COST.name, SAVED_COST.help, labels=SAVED_COST.labels)
        seconds = CounterMetricFamily(SAVED_SECONDS.name, SAVED_SECONDS.help, labels=SAVED_SECONDS.labels)
        by_model: dict[str, float] = {}
        for (model, currency), (money, spared) in self._tallies.items():
            by_model[model] = by_model.get(model, 0.0) + spared
            if currency:
                cost.add_metric([model, currency], money)
        for model, total in by_model.items():
            seconds.add_metric([model], total)
        yield cost
        yield seconds
