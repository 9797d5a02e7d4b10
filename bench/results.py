"""Medians over rounds, and what is promised of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from bench.rounds import Sample

Samples = Mapping[str, Sequence[Sample]]
"""By variant; element n of every list is from round n."""


@dataclass(frozen=True, slots=True)
class Goal:
    """A promise: `figure` of one round at most, or at least, `bound`. The median of the rounds is judged."""

    text: str
    needs: tuple[str, ...]
    figure: Callable[[Mapping[str, Sample]], float]
    bound: float
    unit: str = ""
    at_least: bool = False


@dataclass(frozen=True, slots=True)
class Judged:
    """A goal with what was measured: the median of the rounds, the smallest and the largest."""

    goal: Goal
    figure: float
    smallest: float
    largest: float

    @property
    def kept(self) -> bool:
        """Whether the promise holds."""
        return self.figure >= self.goal.bound if self.goal.at_least else self.figure <= self.goal.bound


def _times(above: str, below: str) -> Callable[[Mapping[str, Sample]], float]:
    return lambda samples: samples[above].cpu_us["server"] / samples[below].cpu_us["server"]


def _beyond_us(samples: Mapping[str, Sample]) -> float:
    return samples["redis"].cpu_us["server"] - samples["near"].cpu_us["server"]


def _added_ms(samples: Mapping[str, Sample]) -> float:
    return samples["miss-stream"].p50_ms - samples["plain-stream"].p50_ms


def _hit(name: str, against: str, bound: float, text: str) -> Goal:
    return Goal(f"CPU of {text}, against the no-op server", (name, against), _times(name, against), bound)


GOALS = (
    _hit("near", "noop", 1.4, "a near hit, 48 busy connections"),
    _hit("near-paced", "noop-paced", 1.4, "a near hit, both at 1000/s"),
    _hit("sqlite", "noop", 1.6, "a SQLite hit, 48 busy connections"),
    _hit("sqlite-paced", "noop-paced", 1.6, "a SQLite hit, both at 1000/s"),
    Goal("CPU of a Redis hit beyond a near hit, 48 busy connections", ("redis", "near"), _beyond_us, 50, unit=" µs"),
    Goal(
        "CPU of LiteLLM's cache hit, against a near hit",
        ("litellm", "near"),
        _times("litellm", "near"),
        10,
        at_least=True,
    ),
    Goal("Delay added to a streamed chunk, p50", ("miss-stream", "plain-stream"), _added_ms, 2, unit=" ms"),
)


def judged(samples: Samples) -> list[Judged]:
    """The goals whose variants were measured."""
    found = []
    for goal in GOALS:
        if all(name in samples for name in goal.needs):
            rounds = zip(*(samples[name] for name in goal.needs), strict=True)
            figures = [goal.figure(dict(zip(goal.needs, each, strict=True))) for each in rounds]
            found.append(Judged(goal, median(figures), min(figures), max(figures)))
    return found


def middle(samples: Sequence[Sample]) -> Sample:
    """The median of every figure, each on its own."""
    return Sample(
        {name: median(sample.cpu_us[name] for sample in samples) for name in samples[0].cpu_us},
        per_second=median(sample.per_second for sample in samples),
        p50_ms=median(sample.p50_ms for sample in samples),
        p99_ms=median(sample.p99_ms for sample in samples),
    )
