"""What was counted of late: a ring of samples in the process, so that the page shows the last hour as soon as it opens.

Bounded in memory: so many samples of so many series, 8 bytes each. Figures are as counted since the start; whoever
wants what happened in a while takes the difference.
"""

from __future__ import annotations

import asyncio
import math
from array import array
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ai_cache_extproc.telemetry.merge import Families

INTERVAL_S = 5.0
SAMPLES_MAX = 720
"""An hour."""
SERIES_MAX = 400
"""2.3 MB at most. Further series are left out; labels are closed sets, so that there are as a rule under 200."""

Series = tuple[str, ...]
"""The word of what is kept, and the values of the labels that are told apart."""
Figures = Mapping[Series, float]


class Kept(NamedTuple):
    """A part of a family. sample: its name in Prometheus' text. labels: those that are told apart; of others it is the sum."""

    word: str
    sample: str
    labels: tuple[str, ...] = ()


KEPT = (
    Kept("requests", "aicache_requests_total", ("result",)),
    Kept("hits", "aicache_hits_total", ("layer",)),
    Kept("bypasses", "aicache_bypass_total", ("reason",)),
    Kept("stores", "aicache_store_total", ("result", "reason")),
    Kept("wait", "aicache_lookup_seconds_bucket", ("le",)),
    Kept("tokens", "aicache_tokens_total", ("source", "kind")),
    Kept("models", "aicache_tokens_total", ("source", "provider", "model")),
    Kept("cost", "aicache_saved_cost_total", ("currency",)),
    Kept("seconds", "aicache_saved_seconds_total"),
    Kept("semantic", "aicache_semantic_total", ("result",)),
    Kept("similarity", "aicache_similarity_bucket", ("result", "le")),
    Kept("shadow", "aicache_shadow_total", ("pair", "verdict")),
    Kept("shadow_lookups", "aicache_shadow_lookups_total", ("result",)),
)
_FAMILIES = frozenset(kept.sample.removesuffix("_total").removesuffix("_bucket") for kept in KEPT)
_BY_SAMPLE = {kept.sample: [each for each in KEPT if each.sample == kept.sample] for kept in KEPT}


def is_kept(family: str) -> bool:
    """Whether anything of a family, by the client library's name for it, is kept."""
    return family in _FAMILIES


def condensed(families: Families) -> Figures:
    """What is kept of a scrape."""
    figures: dict[Series, float] = {}
    for family, whole in families.items():
        if family not in _FAMILIES:
            continue
        for (name, labels), value in whole.samples.items():
            # Plain texts, whatever they were counted under: they become names of JSON members.
            own = {label: str(word) for label, word in labels}
            for kept in _BY_SAMPLE.get(name, ()):
                series = (kept.word, *(own.get(label, "") for label in kept.labels))
                figures[series] = figures.get(series, 0.0) + value
    return figures


@dataclass(frozen=True, slots=True)
class View:
    """Some samples, oldest first. times_s: since the epoch. To be read at once: the ring goes on."""

    times_s: tuple[float, ...]
    _places: tuple[int, ...]
    _columns: Mapping[Series, array[float]]

    def column(self, series: Series) -> list[float]:
        """What had been counted at each of the times; 0 where the series was not there yet."""
        column = self._columns.get(series)
        return [0.0] * len(self._places) if column is None else [column[place] for place in self._places]

    def first(self, series: Series) -> float:
        """What had been counted at the first of them."""
        column = self._columns.get(series)
        return column[self._places[0]] if column is not None and self._places else 0.0


class History:
    """The ring. Call from the event loop's thread only."""

    def __init__(
        self, *, interval_s: float = INTERVAL_S, samples_max: int = SAMPLES_MAX, series_max: int = SERIES_MAX
    ) -> None:
        self.interval_s = interval_s
        self._samples_max = samples_max
        self._series_max = series_max
        self._times_s = array("d", bytes(8 * samples_max))
        self._columns: dict[Series, array[float]] = {}
        self._taken = 0

    async def keep(self, look: Callable[[], Awaitable[Figures]], clock: Callable[[], float]) -> None:
        """Take a sample at every interval, for ever. clock: seconds since the epoch."""
        while True:
            self.take(await look(), clock())
            await asyncio.sleep(self.interval_s)

    def take(self, figures: Figures, at_s: float) -> None:
        """Keep a sample; the oldest makes room."""
        place = self._taken % self._samples_max
        self._times_s[place] = at_s
        for series in figures:
            if series not in self._columns and len(self._columns) < self._series_max:
                self._columns[series] = array("d", bytes(8 * self._samples_max))
        for series, column in self._columns.items():
            column[place] = figures.get(series, 0.0)
        self._taken += 1

    def since(self, at_s: float, *, points_max: int) -> View:
        """About so many samples: the last one before a moment, the newest, and between them every so many."""
        numbers = range(max(0, self._taken - self._samples_max), self._taken)
        begin = max(numbers.start, numbers.start + bisect_right(numbers, at_s, key=self._time_s) - 1)
        step = max(1, math.ceil((self._taken - begin) / points_max))
        # By their numbers from the start, so that what is between two of them stays the same from look to look.
        chosen = [number for number in range(begin, self._taken) if number % step == 0 or number == begin]
        places = tuple(number % self._samples_max for number in chosen)
        return View(tuple(self._times_s[place] for place in places), places, self._columns)

    def _time_s(self, number: int) -> float:
        return self._times_s[number % self._samples_max]
