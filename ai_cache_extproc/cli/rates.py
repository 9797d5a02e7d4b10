"""What happened between two looks at a sidecar's metrics, and in all. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ai_cache_extproc.telemetry.family import Family
from ai_cache_extproc.telemetry.meaning import HITS
from ai_cache_extproc.telemetry.merge import Families
from ai_cache_extproc.telemetry.metrics import BYPASSES, INFLIGHT_STREAMS, REQUESTS, STORE_BYTES, STORE_ENTRIES
from ai_cache_extproc.telemetry.savings import SAVED_COST, SAVED_SECONDS
from ai_cache_extproc.telemetry.usage import TOKENS

RESULTS = ("hit", "miss", "bypass")
LAYERS = ("exact", "semantic")

Counts = Mapping[tuple[str, ...], float]
"""A counter's values by its labels, as they stand in the family."""


@dataclass(frozen=True, slots=True)
class Look:
    """The metrics at a moment. at_s: of a clock that only goes on."""

    at_s: float
    families: Families = field(default_factory=dict)


class Rates:
    """Two looks, the later of them first."""

    def __init__(self, now: Look, before: Look | None) -> None:
        """before: None at the first look, when nothing is known of rates."""
        self._now = now.families
        self._before = before.families if before is not None else {}
        self.interval_s = None if before is None else max(now.at_s - before.at_s, 1e-6)

    def document(self) -> dict[str, object]:
        """As JSON has it; rates are for a second, None at the first look."""
        requests, moved = _values(self._now, REQUESTS), self._moved(REQUESTS)
        saved = {
            "tokens": _by(_spared(_values(self._now, TOKENS)), 3),
            "cost": _by(_values(self._now, SAVED_COST), 1),
            "seconds": sum(_values(self._now, SAVED_SECONDS).values()),
        }
        return {
            "interval_s": None if self.interval_s is None else round(self.interval_s, 3),
            "requests": {result: int(_by(requests, 2).get(result, 0)) for result in RESULTS},
            "rates": {result: self._rate(_by(moved, 2).get(result, 0.0)) for result in RESULTS},
            "hit_ratio": _ratio(_by(requests, 2)),
            "hit_ratio_of_interval": _ratio(_by(moved, 2)),
            "rules": [self._rule(rule, requests, moved) for rule in sorted({labels[1] for labels in requests})],
            "bypasses": dict(self._bypasses()),
            "saved": saved,
            "saved_rates": {
                "tokens": self._rate(sum(_spared(self._moved(TOKENS)).values())),
                "seconds": self._rate(sum(self._moved(SAVED_SECONDS).values())),
            },
            "streams": _gauge(self._now, INFLIGHT_STREAMS),
            "store": {"entries": _gauge(self._now, STORE_ENTRIES), "bytes": _gauge(self._now, STORE_BYTES)},
        }

    def _rule(self, rule: str, requests: Counts, moved: Counts) -> dict[str, object]:
        own = _by({labels: value for labels, value in requests.items() if labels[1] == rule}, 2)
        own_moved = _by({labels: value for labels, value in moved.items() if labels[1] == rule}, 2)
        layers = {labels[1]: value for labels, value in _values(self._now, HITS).items() if labels[0] == rule}
        return {
            "rule": rule,
            "rate": self._rate(sum(own_moved.values())),
            "hits": {layer: int(layers.get(layer, 0)) for layer in LAYERS}
            if layers
            else {"exact": int(own.get("hit", 0))},
            "misses": int(own.get("miss", 0)),
            "bypasses": int(own.get("bypass", 0)),
            "hit_ratio": _ratio(own),
            "hit_ratio_of_interval": _ratio(own_moved),
        }

    def _bypasses(self) -> Iterator[tuple[str, dict[str, object]]]:
        moved = self._moved(BYPASSES)
        for labels, value in sorted(_values(self._now, BYPASSES).items(), key=lambda found: -found[1]):
            if value:
                yield labels[0], {"count": int(value), "rate": self._rate(moved.get(labels, 0.0))}

    def _moved(self, family: Family) -> Counts:
        """By how much each value grew; one that is smaller than it was began again."""
        if self.interval_s is None:
            return {}
        before = _values(self._before, family)
        return {
            labels: value - before.get(labels, 0.0) if value >= before.get(labels, 0.0) else value
            for labels, value in _values(self._now, family).items()
        }

    def _rate(self, moved: float) -> float | None:
        return None if self.interval_s is None else round(moved / self.interval_s, 3)


def _values(families: Families, family: Family) -> dict[tuple[str, ...], float]:
    figures = families.get(family.name.removesuffix("_total"))
    if figures is None:
        return {}
    return {
        tuple(dict(labels).get(label, "") for label in family.labels): value
        for (name, labels), value in figures.samples.items()
        if name == family.name
    }


def _spared(tokens: Counts) -> Counts:
    return {labels: value for labels, value in tokens.items() if labels[0] == "cache"}


def _by(values: Counts, position: int) -> dict[str, float]:
    """Summed by the label that stands there."""
    sums: dict[str, float] = {}
    for labels, value in values.items():
        sums[labels[position]] = sums.get(labels[position], 0.0) + value
    return sums


def _ratio(results: Mapping[str, float]) -> float | None:
    hits, misses = results.get("hit", 0.0), results.get("miss", 0.0)
    return round(hits / (hits + misses), 4) if hits + misses else None


def _gauge(families: Families, family: Family) -> float | None:
    return next(iter(_values(families, family).values()), None)
