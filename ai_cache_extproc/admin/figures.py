"""The document that the admin page draws: totals and series of a while, out of what was counted. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from ai_cache_extproc.admin.history import Figures, Series, View
from ai_cache_extproc.admin.shadows import JUDGED, share

POINTS_MAX = 40
KINDS = ("input", "output", "cached")
QUANTILES = {"p50": 0.5, "p95": 0.95}
_ROWS_MAX = 12

Buckets = Sequence[tuple[float, float]]
"""Upper bounds and how many were at or under them, as in a Prometheus histogram, in order; the last is inf."""


def document(view: View, now: Figures, now_s: float, *, whole: bool) -> dict[str, object]:
    """What happened from the first sample of the view until now. now: what has been counted by then.

    whole: the totals are of all that was ever counted.
    """
    spent = now if whole else {series: max(0.0, value - view.first(series)) for series, value in now.items()}
    charted = _Charted(view, now)
    return {
        "times_s": [*view.times_s, now_s],
        "series": {
            "hits": charted.by_word("hits"),
            "requests": {word: charted.of(("requests", word)) for word in ("hit", "miss", "bypass")},
            "tokens": {kind: charted.of(("tokens", "cache", kind)) for kind in KINDS},
            "cost": charted.by_word("cost"),
            "seconds": charted.of(("seconds",)),
            "wait_s": charted.quantiles("wait"),
        },
        "totals": {
            "requests": {"hit": 0, "miss": 0, "bypass": 0} | _by_word(spent, "requests"),
            "hits": _by_word(spent, "hits"),
            "tokens": {kind: spent.get(("tokens", "cache", kind), 0.0) for kind in KINDS},
            "cost": _by_word(spent, "cost"),
            "seconds": spent.get(("seconds",), 0.0),
            "models": _models(spent),
            "wait_s": _quantiles(_buckets(spent, "wait")),
            "bypasses": _top(_by_word(spent, "bypasses")),
            "stores": _stores(spent),
            "semantic": _by_word(spent, "semantic") or None,
            "similarity": _similarity(spent),
            "shadow": _shadow(spent),
        },
    }


class _Charted:
    """Series by the intervals between the moments of a view, the last of which ends now."""

    def __init__(self, view: View, now: Figures) -> None:
        self._view = view
        self._now = now

    def of(self, series: Series) -> list[float]:
        """How much more in each interval."""
        counted = [*self._view.column(series), self._now.get(series, 0.0)]
        return [later - earlier if later > earlier else 0.0 for earlier, later in pairwise(counted)]

    def by_word(self, name: str) -> dict[str, list[float]]:
        """Of each series of a family with one label."""
        return {series[1]: self.of(series) for series in sorted(self._now) if series[0] == name}

    def quantiles(self, name: str) -> dict[str, list[float | None]]:
        """Of a histogram without labels; None where nothing was counted."""
        columns = {float(series[1]): self.of(series) for series in self._now if series[0] == name}
        bounds = sorted(columns)
        intervals = [
            list(zip(bounds, counts, strict=True)) for counts in zip(*(columns[b] for b in bounds), strict=True)
        ]
        found = [_quantiles(buckets) for buckets in intervals]
        return {word: [None if each is None else each[word] for each in found] for word in QUANTILES}


def quantile(buckets: Buckets, share: float) -> float | None:
    """Straight between two bounds, as Prometheus does it; the highest bound where it is beyond; None of nothing."""
    total = buckets[-1][1] if buckets else 0.0
    if not total:
        return None
    rank, lower, below = share * total, 0.0, 0.0
    for bound, count in buckets:
        if count >= rank and count > below:
            return lower if math.isinf(bound) else lower + (bound - lower) * (rank - below) / (count - below)
        lower, below = bound, count
    return lower


def _quantiles(buckets: Buckets) -> dict[str, float | None] | None:
    if not buckets or not buckets[-1][1]:
        return None
    return {word: quantile(buckets, share) for word, share in QUANTILES.items()}


def _buckets(figures: Figures, name: str, *words: str) -> Buckets:
    """Of the histogram's series that begin with these words; its bound is the last one."""
    found = ((float(series[-1]), count) for series, count in figures.items() if series[:-1] == (name, *words))
    return sorted(found)


def _by_word(figures: Figures, name: str) -> dict[str, float]:
    return {series[1]: value for series, value in figures.items() if series[0] == name}


def _top(counts: Mapping[str, float]) -> list[tuple[str, float]]:
    """The most frequent first, those that occurred only."""
    return sorted(((word, count) for word, count in counts.items() if count), key=_often)[:_ROWS_MAX]


def _often(pair: tuple[str, float]) -> tuple[float, str]:
    return -pair[1], pair[0]


def _stores(spent: Figures) -> list[tuple[str, str, float]]:
    """What became of answers to misses: result, reason, how many."""
    found = [(series[1], series[2], count) for series, count in spent.items() if series[0] == "stores" and count]
    return sorted(found, key=lambda row: (-row[2], row[:2]))[:_ROWS_MAX]


def _models(spent: Figures) -> list[dict[str, object]]:
    """Tokens by provider and model, from the upstream and from the cache; the most first."""
    tokens: dict[tuple[str, str], dict[str, float]] = {}
    for series, count in spent.items():
        if series[0] == "models" and count:
            _, source, provider, model = series
            tokens.setdefault((provider, model), {"upstream": 0.0, "cache": 0.0})[source] = count
    most = sorted(tokens.items(), key=lambda row: (-sum(row[1].values()), row[0]))[:_ROWS_MAX]
    return [{"provider": provider, "model": model, **sources} for (provider, model), sources in most]


def _similarity(spent: Figures) -> dict[str, list[tuple[float | None, float]]] | None:
    """For each result how many fell into each bucket, by its upper bound; None for the last one, which has none."""
    results = sorted({series[1] for series in spent if series[0] == "similarity"})
    return {result: _apart(_buckets(spent, "similarity", result)) for result in results} or None


def _apart(buckets: Buckets) -> list[tuple[float | None, float]]:
    counts = [count for _, count in buckets]
    return [
        (None if math.isinf(bound) else bound, max(0.0, count - below))
        for (bound, count), below in zip(buckets, [0.0, *counts], strict=False)
    ]


def _shadow(spent: Figures) -> dict[str, object] | None:
    """What looking up without serving has shown, of all rules: how often it would have hit, and how often wrongly."""
    lookups = _by_word(spent, "shadow_lookups")
    pairs: dict[str, dict[str, float]] = {}
    for series, count in spent.items():
        if series[0] == "shadow":
            pairs.setdefault(series[1], {})[series[2]] = count
    if not lookups and not pairs:
        return None
    compared = {pair: {"verdicts": verdicts, "wrong": _wrong(verdicts)} for pair, verdicts in sorted(pairs.items())}
    return {"would_hit": share(lookups.get("hit", 0.0), sum(lookups.values())), "pairs": compared}


def _wrong(verdicts: Mapping[str, float]) -> dict[str, float] | None:
    """Of those that could be judged."""
    return share(verdicts.get("different", 0.0), sum(verdicts.get(verdict, 0.0) for verdict in JUDGED))
