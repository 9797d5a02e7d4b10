"""What a log of requests came to: counts by rule and layer, and how the hit ratio went on. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from ai_cache_extproc.cli.plotting import Chart, Line
from ai_cache_extproc.cli.rehearsal import Outcome
from ai_cache_extproc.cli.words import table

POINTS_MAX = 512
"""Of a curve; from there on every second one is left out."""
LAYERS = ("exact", "semantic")


@dataclass(slots=True)
class Tally:
    """Of one rule. hits: by layer. unkept: reasons why answers to misses were not kept."""

    hits: Counter[str] = field(default_factory=Counter)
    misses: int = 0
    unknown: int = 0
    bypasses: Counter[str] = field(default_factory=Counter)
    unkept: Counter[str] = field(default_factory=Counter)

    def add(self, outcome: Outcome) -> None:
        """Count one."""
        match outcome.result:
            case "hit":
                self.hits[outcome.layer] += 1
            case "miss":
                self.misses += 1
                self.unkept.update(filter(None, (outcome.reason,)))
            case "bypass":
                self.bypasses[outcome.reason] += 1
            case _:
                self.unknown += 1

    @property
    def hit_ratio(self) -> float | None:
        """Of lookups; None where there was none."""
        hits = self.hits.total()
        return hits / (hits + self.misses) if hits + self.misses else None

    def document(self) -> dict[str, object]:
        """As JSON has it."""
        ratio = self.hit_ratio
        return {
            "requests": self.hits.total() + self.misses + self.bypasses.total() + self.unknown,
            "hits": {layer: self.hits[layer] for layer in LAYERS},
            "misses": self.misses,
            "bypasses": dict(self.bypasses.most_common()),
            "unknown": self.unknown,
            "not_kept": dict(self.unkept.most_common()),
            "hit_ratio": None if ratio is None else round(ratio, 4),
        }


class _Curve:
    """A hit ratio as it went on, in no more than so many points."""

    def __init__(self) -> None:
        self.xs: list[float] = []
        self.ys: list[float] = []
        self._every = 1
        self._seen = 0

    def add(self, x: float, y: float) -> None:
        self._seen += 1
        if self._seen % self._every:
            return
        self.xs.append(x)
        self.ys.append(y)
        if len(self.xs) > POINTS_MAX:
            self.xs, self.ys = self.xs[1::2], self.ys[1::2]
            self._every *= 2


class Prediction:
    """Counts outcomes as they come."""

    def __init__(self) -> None:
        self.requests = 0
        self.untouched = 0
        self.unreadable = 0
        self.first_fault = ""
        self.logged: Counter[str] = Counter()
        self.total = Tally()
        self.rules: dict[str, Tally] = {}
        self.first_s: float | None = None
        self.last_s: float | None = None
        self._curves: dict[str, _Curve] = {}

    def add(self, outcome: Outcome, time_s: float | None, *, logged: str = "") -> None:
        """Count one. time_s: when it was asked, None where the log does not say. logged: what came of it then, likewise."""
        self.requests += 1
        self.logged.update(filter(None, (logged,)))
        if time_s is not None:
            self.first_s = time_s if self.first_s is None else self.first_s
            self.last_s = time_s
        if outcome.result == "untouched":
            self.untouched += 1
            return
        rule = self.rules.setdefault(outcome.rule, Tally())
        for tally in (self.total, rule):
            tally.add(outcome)
        if outcome.result in {"hit", "miss"}:
            for name, tally in (("all rules", self.total), (outcome.rule, rule)):
                self._curves.setdefault(name, _Curve()).add(self.requests, tally.hit_ratio or 0.0)

    def cannot_read(self, fault: str) -> None:
        """Count a line that is no request."""
        self.unreadable += 1
        self.first_fault = self.first_fault or fault

    def document(self) -> dict[str, object]:
        """As JSON has it."""
        span_s = None if self.first_s is None or self.last_s is None else round(self.last_s - self.first_s, 3)
        return {
            "requests": self.requests,
            "span_s": span_s,
            "untouched": self.untouched,
            "unreadable": self.unreadable,
            "logged": dict(self.logged.most_common()),
            "total": self.total.document(),
            "rules": {name: tally.document() for name, tally in self.rules.items()},
        }

    def chart(self) -> Chart:
        """The predicted hit ratio over the log, by rule."""
        curves = (
            self._curves
            if len(self.rules) > 1
            else {name: c for name, c in self._curves.items() if name == "all rules"}
        )
        lines = [Line(name or "no rule", curve.xs, curve.ys) for name, curve in curves.items()]
        title = "Predicted hit ratio of lookups, from the beginning of the log"
        return Chart(title, "requests of the log", "hit ratio", lines, in_percent=True)

    def lines(self) -> Iterator[str]:
        """For people."""
        yield from table(self._summary())
        for name, tally in self.rules.items():
            yield f"\nrule {name}" if name else "\nno rule"
            yield from table(_rows(tally), indent="  ")

    def _summary(self) -> Iterator[tuple[str, str]]:
        yield "requests", f"{self.requests}, of which {self.untouched} are no LLM calls"
        if self.first_s is not None and self.last_s is not None:
            yield "from first to last", str(timedelta(seconds=round(self.last_s - self.first_s)))
        else:
            yield "times", "the log has none: as if all were asked at once"
        if self.logged:
            yield "as logged", ", ".join(f"{count} {word}" for word, count in self.logged.most_common())
        yield "predicted", _ratio(self.total)


def _rows(tally: Tally) -> Iterator[tuple[str, str]]:
    yield "predicted", _ratio(tally)
    for layer in LAYERS:
        if tally.hits[layer]:
            yield f"  {layer}", f"{tally.hits[layer]} hits"
    if tally.unknown:
        yield "looked up, but what was asked is not in the log", str(tally.unknown)
    yield from _counted("bypassed", tally.bypasses)
    yield from _counted("not kept", tally.unkept)


def _ratio(tally: Tally) -> str:
    ratio = tally.hit_ratio
    if ratio is None:
        return "no lookups"
    return f"{ratio:.1%} of lookups ({tally.hits.total()} hits, {tally.misses} misses)"


def _counted(label: str, counts: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    for reason, count in sorted(counts.items(), key=lambda found: -found[1]):
        yield label, f"{count} {reason}"
