"""How many callers there are, and how it shows that their credentials rotate."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from ai_cache_extproc.telemetry.metrics import Metrics
from ai_cache_extproc.telemetry.scopes import ScopesSeen, rotation


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_a_scope_is_new_once() -> None:
    """Until it was away for a window at least."""
    clock = Clock()
    seen = ScopesSeen(clock, window_s=10)
    assert [True, False, True] == [seen.saw(scope) for scope in (b"a", b"a", b"b")]
    clock.now_s = 11
    assert [False, True, 3] == [seen.saw(b"a"), seen.saw(b"c"), seen.count()]
    clock.now_s = 22
    assert [2, True, False] == [seen.count(), seen.saw(b"b"), seen.saw(b"a")]


def test_after_a_long_silence_all_are_new() -> None:
    """Nobody is remembered for longer than two windows."""
    clock = Clock()
    seen = ScopesSeen(clock, window_s=10)
    seen.saw(b"a")
    clock.now_s = 20
    assert [0, True] == [seen.count(), seen.saw(b"a")]


def test_beyond_the_bound_nothing_grows() -> None:
    """What is there stays known; further scopes are not counted."""
    seen = ScopesSeen(Clock(), scopes_max=2)
    assert [True, True, False, False] == [seen.saw(scope) for scope in (b"a", b"b", b"c", b"a")]
    assert 2 == seen.count()


def test_both_figures_are_metrics() -> None:
    """Scopes by what they are known by, and how many there are."""
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics.scopes.saw(b"a")
    metrics.new_scope("token")
    shown = [
        registry.get_sample_value("aicache_scopes_new_total", {"credential": "token"}),
        registry.get_sample_value("aicache_scopes_new_total", {"credential": "other"}),
        registry.get_sample_value("aicache_scopes_seen"),
    ]
    assert [1, 0, 1] == shown


@pytest.mark.parametrize(
    ("tokens", "others", "calls", "expected"),
    [
        (199, 0, 199, None),
        (5, 50, 1000, None),
        (60, 0, 1000, "60 of 1000 LLM calls came with a JWT for the first time"),
        (0, 600, 1000, "600 of 1000 LLM calls came from a caller not seen for an hour"),
        (0, 400, 1000, None),
    ],
    ids=["too few calls", "steady callers", "tokens are renewed", "nobody comes back", "many callers"],
)
def test_rotation_is_said_where_the_figures_show_it(tokens: int, others: int, calls: int, expected: str | None) -> None:
    """A few tokens among many calls are renewed ones; many unknown callers may be just that."""
    said = rotation(tokens=tokens, others=others, calls=calls)
    assert said is None if expected is None else said is not None and said.startswith(expected)
