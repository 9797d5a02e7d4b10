"""What a client asks of the cache: read from its headers, and held against a kept answer."""

from __future__ import annotations

import math

import pytest

from ai_cache_extproc.cache.wishes import NO_WISH, Wish, wish_of
from ai_cache_extproc.config.controls import Controls
from ai_cache_extproc.config.rules import Rule
from ai_cache_extproc.model import Captured, Mode

ALL = Rule(
    controls=Controls(honour=("no-store", "no-cache", "max-age", "min-fresh", "only-if-cached"), ttl_header="x-ttl")
)


@pytest.mark.parametrize(
    ("cache_control", "expected"),
    [
        ("", NO_WISH),
        ("no-transform, max-stale=60", NO_WISH),
        ("no-store", Wish(no_store=True)),
        ("No-Cache", Wish(refresh=True)),
        ("max-age=60", Wish(max_age_s=60)),
        ('max-age="60"', Wish(max_age_s=60)),
        ("max-age=060", Wish(max_age_s=60)),
        ("max-age=0", Wish(refresh=True, max_age_s=0)),
        ("max-age", Wish(refresh=True, max_age_s=0)),
        ("max-age=-1", Wish(refresh=True, max_age_s=0)),
        ("max-age=1.5", Wish(refresh=True, max_age_s=0)),
        ("max-age=٣", Wish(refresh=True, max_age_s=0)),
        ("max-age=1, max-age=60", Wish(max_age_s=1)),
        ("max-age=" + "9" * 5000, Wish(max_age_s=2**31)),
        ("max-age=9999999999", Wish(max_age_s=2**31)),
        ("min-fresh=5", Wish(min_fresh_s=5)),
        ("min-fresh=soon", Wish(min_fresh_s=math.inf)),
        ("only-if-cached, max-age=9", Wish(only_if_cached=True, max_age_s=9)),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)
def test_cache_control_is_read_strictly(cache_control: str, expected: Wish) -> None:
    """RFC 9111, 5.2.1 and 1.2.2; what cannot be read is taken as the strictest number, and the first of two counts."""
    assert expected == wish_of({"cache-control": cache_control}, ALL)


@pytest.mark.parametrize("word", ["no-store", "no-cache", "max-age=0", "min-fresh=9", "only-if-cached"])
def test_what_a_rule_does_not_honour_is_not_there(word: str) -> None:
    """Each word is obeyed only where `honour` names it."""
    deaf = Rule(controls=Controls(honour=()))
    assert NO_WISH is wish_of({"cache-control": word}, deaf)
    assert NO_WISH != wish_of({"cache-control": word}, ALL)


def test_the_default_set_leaves_out_only_if_cached() -> None:
    """Without a word clients can make their answer fresher or keep it out, and get no answer refused."""
    assert ("no-store", "no-cache", "max-age", "min-fresh") == Rule().controls.honour
    assert NO_WISH is wish_of({"cache-control": "only-if-cached"}, Rule())


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("60", Wish(ttl_s=60)),
        (" 60 ", Wish(ttl_s=60)),
        ("0", Wish(no_store=True, ttl_s=0)),
        ("", Wish(ignored=("x-ttl",))),
        ("1h", Wish(ignored=("x-ttl",))),
        ("-5", Wish(ignored=("x-ttl",))),
        ("60, 70", Wish(ignored=("x-ttl",))),
    ],
)
def test_a_lifetime_is_whole_seconds_or_ignored(value: str, expected: Wish) -> None:
    """0 keeps nothing; what is no number leaves the rule's own lifetime, and is named."""
    assert expected == wish_of({"x-ttl": value}, ALL)


def test_no_header_is_a_lifetime_unless_a_rule_says_so() -> None:
    """The name of the header is configuration."""
    assert NO_WISH is wish_of({"x-ttl": "60"}, Rule())


def captured(created_s: float, expires_s: float) -> Captured:
    """An answer with these times."""
    return Captured(Mode.JSON, "application/json", b"{}", created_s, expires_s, 0)


@pytest.mark.parametrize(
    ("wish", "answer", "expected"),
    [
        (Wish(max_age_s=10), captured(90, 200), True),
        (Wish(max_age_s=10), captured(89.9, 200), False),
        (Wish(max_age_s=10), captured(95, 100), False),
        (Wish(max_age_s=10), captured(-math.inf, math.inf), False),
        (Wish(min_fresh_s=100), captured(0, 200), True),
        (Wish(min_fresh_s=100.1), captured(0, 200), False),
        (Wish(min_fresh_s=1), captured(-math.inf, math.inf), False),
        (Wish(min_fresh_s=math.inf), captured(0, 200), False),
        (Wish(only_if_cached=True), captured(0, 50), True),
    ],
    ids=["young", "old", "stale", "age unknown", "long", "short", "end unknown", "forever", "nothing asked"],
)
def test_an_answer_suits_or_does_not(wish: Wish, answer: Captured, expected: bool) -> None:
    """Young enough, for long enough, and not stale; what is not known does not suit."""
    assert expected is wish.suits(answer, 100)


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        (NO_WISH, True),
        (Wish(only_if_cached=True), True),
        (Wish(refresh=True), False),
        (Wish(max_age_s=60), False),
        (Wish(min_fresh_s=60), False),
    ],
    ids=["none", "only-if-cached", "no-cache", "max-age", "min-fresh"],
)
def test_who_asks_for_freshness_takes_nothing_stale(wish: Wish, expected: bool) -> None:
    """RFC 9111, 5.2.1.1: `max-age` without `max-stale` wants no stale answer, and `max-stale` is not honoured."""
    assert expected is wish.takes_stale
