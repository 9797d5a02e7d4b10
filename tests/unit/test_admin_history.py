"""What the admin page is told of the last hour: the ring of samples, and the document made of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from ai_cache_extproc.admin.figures import document, quantile
from ai_cache_extproc.admin.history import KEPT, Figures, History, condensed, is_kept
from ai_cache_extproc.admin.overview import Overview, thresholds_of
from ai_cache_extproc.config.model import Config
from ai_cache_extproc.model import Reason
from ai_cache_extproc.telemetry.merge import of
from ai_cache_extproc.telemetry.metrics import FAMILIES, Metrics

HIT, MISS = ("requests", "hit"), ("requests", "miss")
NEVER = float("-inf")


def test_what_is_kept_is_counted_by_some_family() -> None:
    """A metric that is renamed, or loses a label, takes its chart with it."""
    families = {family.name: family for family in FAMILIES}
    for kept in KEPT:
        family = families.get(kept.sample) or families[kept.sample.removesuffix("_bucket")]
        assert set(kept.labels) <= {*family.labels, *(("le",) if family.kind == "histogram" else ())}
        assert is_kept(kept.sample.removesuffix("_total").removesuffix("_bucket"))


def test_a_scrape_is_condensed_to_what_is_told_apart() -> None:
    """Summed over rules and dialects; other families are left out."""
    metrics = Metrics(CollectorRegistry())
    for rule, result in (("a", "hit"), ("b", "hit"), ("b", "miss")):
        metrics.exchange("openai_chat", rule, result)  # type: ignore[arg-type]  # a plain text here
    metrics.bypassed(Reason.NO_RULE)
    metrics.lookup(0.03)
    figures = condensed(of(metrics.collect()))
    assert (2.0, 1.0, 1.0) == (figures[HIT], figures[MISS], figures["bypasses", "no_rule"])
    assert (0.0, 1.0, 1.0) == tuple(figures["wait", bound] for bound in ("0.025", "0.05", "+Inf"))
    assert {series[0] for series in figures} <= {kept.word for kept in KEPT}


def test_the_oldest_sample_makes_room() -> None:
    """The memory that it takes is bounded in samples and in series."""
    history = History(samples_max=3, series_max=2)
    for number in range(5):
        history.take({HIT: number, MISS: 10.0 * number, ("a", "third"): 1.0}, float(number))
    view = history.since(NEVER, points_max=9)
    assert (2.0, 3.0, 4.0) == view.times_s
    assert [2.0, 3.0, 4.0] == view.column(HIT)
    assert [20.0, 30.0, 40.0] == view.column(MISS)
    assert [0.0, 0.0, 0.0] == view.column(("a", "third"))
    assert (2.0, 0.0) == (view.first(HIT), view.first(("a", "third")))


def test_a_series_that_begins_later_was_nothing_before() -> None:
    """So that its first count is an increase; one that is gone counts nothing either."""
    history = History()
    history.take({MISS: 1.0}, 0.0)
    history.take({HIT: 4.0}, 5.0)
    view = history.since(NEVER, points_max=9)
    assert ([0.0, 4.0], [1.0, 0.0]) == (view.column(HIT), view.column(MISS))


@pytest.mark.parametrize(("at_s", "first_s"), [(NEVER, 0.0), (-1.0, 0.0), (7.0, 7.0), (7.5, 7.0), (99.0, 9.0)])
def test_a_view_begins_with_the_last_sample_before_its_time(at_s: float, first_s: float) -> None:
    """What was counted by then is what the totals are counted from."""
    history = History()
    for number in range(10):
        history.take({HIT: number}, float(number))
    view = history.since(at_s, points_max=100)
    assert (first_s, 9.0) == (view.times_s[0], view.times_s[-1])
    assert first_s == view.first(HIT)


def test_intervals_stay_the_same_from_look_to_look() -> None:
    """What was drawn once is not drawn otherwise because time went on."""
    history = History(samples_max=1000)
    seen: set[float] = set()
    for number in range(400):
        history.take({HIT: number}, float(number))
        if number >= 300:
            view = history.since(number - 300.0, points_max=10)
            assert len(view.times_s) <= 12
            seen |= set(view.times_s[1:])
    assert all(time_s % 31 == 0 for time_s in seen)


def test_without_a_sample_there_is_nothing_to_see() -> None:
    """As in the first moment."""
    view = History().since(NEVER, points_max=5)
    assert ((), [], 0.0) == (view.times_s, view.column(HIT), view.first(HIT))
    told: Any = document(view, {}, 7.0, whole=True)
    assert [7.0] == told["times_s"]
    assert {"hit": 0, "miss": 0, "bypass": 0} == told["totals"]["requests"]
    assert (None, None, None, None) == tuple(
        told["totals"][name] for name in ("semantic", "similarity", "shadow", "wait_s")
    )


def told_of(before: Figures, now: Figures, *, whole: bool = False) -> Any:
    """The document where these had been counted 10 s ago."""
    history = History()
    history.take(before, 0.0)
    return document(history.since(NEVER, points_max=9), now, 10.0, whole=whole)


def test_totals_are_of_the_while_or_of_all() -> None:
    """What had been counted before it began is not in them, unless all is asked for."""
    before = {HIT: 3.0, ("tokens", "cache", "input"): 5.0, ("bypasses", "no_rule"): 1.0, ("hits", "exact"): 3.0}
    now = {
        HIT: 7.0,
        MISS: 2.0,
        ("hits", "exact"): 6.0,
        ("hits", "semantic"): 1.0,
        ("seconds",): 1.5,
        ("tokens", "cache", "input"): 9.0,
        ("tokens", "upstream", "input"): 50.0,
        ("cost", "USD"): 0.25,
        ("bypasses", "no_rule"): 1.0,
        ("bypasses", "too_large"): 2.0,
        ("bypasses", "a_third"): 5.0,
        ("stores", "stored", ""): 2.0,
        ("stores", "refused", "cut"): 0.0,
        ("models", "upstream", "llm", "m"): 50.0,
        ("models", "cache", "llm", "m"): 9.0,
    }
    told = told_of(before, now)
    totals = told["totals"]
    assert {"hit": 4.0, "miss": 2.0, "bypass": 0} == totals["requests"]
    assert {"exact": 3.0, "semantic": 1.0} == totals["hits"]
    assert {"input": 4.0, "output": 0.0, "cached": 0.0} == totals["tokens"]
    assert [("a_third", 5.0), ("too_large", 2.0)] == totals["bypasses"]
    assert [("stored", "", 2.0)] == totals["stores"]
    assert [{"provider": "llm", "model": "m", "upstream": 50.0, "cache": 9.0}] == totals["models"]
    assert ({"USD": 0.25}, 1.5) == (totals["cost"], totals["seconds"])
    assert {"exact": [3.0], "semantic": [1.0]} == told["series"]["hits"]
    assert 7.0 == told_of(before, now, whole=True)["totals"]["requests"]["hit"]


def test_similarities_are_told_by_bucket() -> None:
    """Not as they are counted, at or under a bound; and apart for hits and what was not used."""
    counted: Figures = {
        ("similarity", "hit", "0.9"): 1.0,
        ("similarity", "hit", "1.0"): 4.0,
        ("similarity", "hit", "+Inf"): 4.0,
    }
    told = told_of({}, {**counted, ("similarity", "rejected", "0.9"): 2.0, ("semantic", "below"): 2.0})["totals"]
    assert {"hit": [(0.9, 1.0), (1.0, 3.0), (None, 0.0)], "rejected": [(0.9, 2.0)]} == told["similarity"]
    assert {"below": 2.0} == told["semantic"]


def test_the_estimate_of_shadow_mode_says_how_sure_it_is() -> None:
    """Of those that were judged; one of 100 lies between 0.2 % and 5.4 % (Wilson's interval for 95 %)."""
    verdicts: Figures = {("shadow", "semantic", "same"): 90.0, ("shadow", "semantic", "alike"): 9.0}
    told = told_of(
        {},
        {**verdicts, ("shadow", "semantic", "different"): 1.0, ("shadow", "semantic", "unsure"): 50.0}
        | {("shadow", "exact", "unsure"): 1.0}
        | {("shadow_lookups", "hit"): 150.0, ("shadow_lookups", "below"): 50.0},
    )["totals"]["shadow"]
    assert (0.75, 200.0) == (told["would_hit"]["share"], told["would_hit"]["of"])
    wrong = told["pairs"]["semantic"]["wrong"]
    assert (0.01, 100.0) == (wrong["share"], wrong["of"])
    assert (0.0018, 0.0545) == (round(wrong["low"], 4), round(wrong["high"], 4))
    assert {"verdicts": {"unsure": 1.0}, "wrong": None} == told["pairs"]["exact"]


@pytest.mark.parametrize(
    ("buckets", "share", "expected"),
    [
        ([], 0.5, None),
        ([(1.0, 0.0), (float("inf"), 0.0)], 0.5, None),
        ([(1.0, 10.0), (float("inf"), 10.0)], 0.5, 0.5),
        ([(1.0, 5.0), (2.0, 10.0), (float("inf"), 10.0)], 0.75, 1.5),
        ([(1.0, 5.0), (float("inf"), 10.0)], 0.95, 1.0),
        ([(1.0, 10.0)], 2.0, 1.0),
    ],
    ids=["nothing", "no count", "first", "second", "beyond", "past the end"],
)
def test_a_quantile_lies_straight_between_two_bounds(
    buckets: list[tuple[float, float]], share: float, expected: float | None
) -> None:
    """As Prometheus has it, so that the page and a dashboard agree."""
    assert expected == quantile(buckets, share)


def test_waits_are_told_for_each_interval() -> None:
    """None where nobody waited in it."""
    history = History()
    for at_s, count in ((0.0, 0.0), (5.0, 4.0), (10.0, 4.0)):
        history.take({("wait", "0.1"): count, ("wait", "+Inf"): count}, at_s)
    now: Figures = {("wait", "0.1"): 6.0, ("wait", "+Inf"): 6.0}
    told: Any = document(history.since(NEVER, points_max=9), now, 15.0, whole=False)
    assert [0.05, None, 0.05] == told["series"]["wait_s"]["p50"]
    assert 0.095 == pytest.approx(told["totals"]["wait_s"]["p95"])


async def test_samples_are_taken_until_told_to_end() -> None:
    """One at once, the next after the interval; a look that fails is named, and leaves the last figures."""
    given: list[Figures | OSError] = [{HIT: 1.0}, OSError("no answer"), {HIT: 3.0}]
    looks = iter(given)
    over = asyncio.Event()

    async def look() -> Figures:
        found = next(looks, None)
        if found is None:
            over.set()
            await asyncio.Event().wait()
        if isinstance(found, OSError):
            raise found
        return found or {}

    history = History(interval_s=0.0)
    seconds = iter(map(float, range(100)))
    overview = Overview(look, clock=lambda: next(seconds), thresholds=dict, history=history)
    with capture_logs() as lines:
        keeping = asyncio.create_task(overview.keep())
        await over.wait()
        keeping.cancel()
    assert [1.0, 1.0, 3.0] == history.since(NEVER, points_max=9).column(HIT)
    assert ["no answer"] == [line["reason"] for line in lines if line["event"] == "history_gap"]


def test_thresholds_are_those_of_rules_that_match_by_meaning() -> None:
    """As written, else the embedder's; none where nobody knows."""
    rules = [
        {
            "name": "own",
            "layers": ["exact", "semantic"],
            "semantic": {"similarity_threshold": 0.9},
            "match": {"paths": ["/a"]},
        },
        {"name": "exact", "match": {"paths": ["/b"]}},
        {"name": "default", "layers": ["exact", "semantic"]},
    ]
    config = Config.model_validate({"embedder": {"type": "embedded"}, "rules": rules})
    assert {"own": 0.9, "default": 0.97} == thresholds_of(config, 0.97)
    assert {"own": 0.9} == thresholds_of(config, None)
