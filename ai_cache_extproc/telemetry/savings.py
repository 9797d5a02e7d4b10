"""What hits spared: tokens, money and seconds, by model. Plain numbers, as in `metrics.py`."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, Metric

from ai_cache_extproc.model import Usage
from ai_cache_extproc.telemetry.family import Family

_MODEL = "`model` is that of the row in `prices` that matches, else `other`."

SAVED_TOKENS = Family(
    "aicache_saved_tokens_total",
    "counter",
    "Tokens that hits did not take from the upstream, as it counted them for the answer that was kept; kind is input, "
    f"output or cached (input from the upstream's own cache, not counted as input). {_MODEL}",
    ("model", "kind"),
)
SAVED_COST = Family(
    "aicache_saved_cost_total",
    "counter",
    f"What those tokens would have cost by `prices`; currency as it says there. {_MODEL}",
    ("model", "currency"),
)
SAVED_SECONDS = Family(
    "aicache_saved_seconds_total",
    "counter",
    f"Seconds that the upstream took for the answers that hits gave again, less what the hits waited. {_MODEL}",
    ("model",),
)
SAVINGS = (SAVED_TOKENS, SAVED_COST, SAVED_SECONDS)

_KINDS = ("input", "output", "cached")


class Savings:
    """The tallies. Call from the event loop's thread only."""

    def __init__(self) -> None:
        # Input, output, cached tokens; money; seconds.
        self._tallies: dict[tuple[str, str], list[float]] = {}

    def expect(self, model: str, currency: str) -> None:
        """Let the series of a model begin at 0, so that its first hit is seen as an increase."""
        self._tallies.setdefault((model, currency), [0, 0, 0, 0.0, 0.0])

    def hit(self, model: str, currency: str, *, usage: Usage | None, cost: float, seconds: float) -> None:
        """Count what one hit spared. model, currency: from closed sets. usage: None where it is not known."""
        key = (model, currency)
        tally = self._tallies.get(key)
        if tally is None:
            tally = self._tallies[key] = [0, 0, 0, 0.0, 0.0]
        if usage is not None:
            tally[0] += usage.input_tokens
            tally[1] += usage.output_tokens
            tally[2] += usage.cached_tokens
            tally[3] += cost
        if seconds > 0:
            tally[4] += seconds

    def collect(self) -> Iterator[Metric]:
        """Turn the tallies into metric families. A model may have had rows of several currencies, one after the other."""
        tokens = CounterMetricFamily(SAVED_TOKENS.name, SAVED_TOKENS.help, labels=SAVED_TOKENS.labels)
        cost = CounterMetricFamily(SAVED_COST.name, SAVED_COST.help, labels=SAVED_COST.labels)
        seconds = CounterMetricFamily(SAVED_SECONDS.name, SAVED_SECONDS.help, labels=SAVED_SECONDS.labels)
        by_model: dict[str, list[float]] = {}
        for (model, currency), tally in self._tallies.items():
            totals = by_model.setdefault(model, [0, 0, 0, 0.0, 0.0])
            by_model[model] = [total + more for total, more in zip(totals, tally, strict=True)]
            if currency:
                cost.add_metric([model, currency], tally[3])
        for model, totals in by_model.items():
            for kind, total in zip(_KINDS, totals, strict=False):
                tokens.add_metric([model, kind], total)
            seconds.add_metric([model], totals[4])
        yield tokens
        yield cost
        yield seconds
