"""How old an answer may be: early refresh by chance, and answers past their lifetime. Pure functions of the time."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_cache_extproc.cache.admission import Admitted, admit
from ai_cache_extproc.cache.freshness import hit_of, is_due, may_serve_stale, stale_hit_of
from ai_cache_extproc.config.model import Config, Rule
from ai_cache_extproc.config.snapshot import Snapshot
from ai_cache_extproc.dialects import Dialects
from ai_cache_extproc.model import Captured, Entry, Identity, Mode, Question, RequestHead

CREATED_S, EXPIRES_S = 1000.0, 1100.0
BODY = (
    b'{"id":"1","choices":[{"index":0,"message":{"role":"assistant","content":"x"},"finish_reason":"stop"}],"usage":{}}'
)
CAPTURED = Captured(Mode.JSON, "application/json", BODY, CREATED_S, EXPIRES_S, elapsed_s=2.0)
ENTRY = Entry("openai_chat", "m", "default", (CAPTURED,))
IDENTITY = Identity("aicache:0:s:d", bytes(32), "flight")
QUESTION = Question("openai_chat", "m", Mode.JSON, {"model": "m", "messages": []})
EAGER = Rule(early_refresh=1)


def admitted(rule: Rule) -> Admitted:
    """A request under this rule."""
    headers = {"content-type": "application/json", "authorization": "Bearer x"}
    head = RequestHead("POST", "/v1/chat/completions", "llm.test", headers)
    given = admit(head, end_of_stream=False, snapshot=Snapshot(Config(rules=(rule,))), dialects=Dialects(10_000))
    assert isinstance(given, Admitted)
    return given


def lead_of(chance: float, *, rule: Rule = EAGER, elapsed_s: float = 2.0) -> float:
    """How long before the expiry a request with this chance begins to go ahead, in seconds; found by halving."""
    source = replace(CAPTURED, elapsed_s=elapsed_s)
    early, late = EXPIRES_S - 1000, EXPIRES_S
    for _ in range(24):
        middle = (early + late) / 2
        if is_due(rule, source, middle, chance):
            late = middle
        else:
            early = middle
    return EXPIRES_S - late


@given(now_s=st.floats(0, EXPIRES_S, exclude_max=True), chance=st.floats(0, 1))
def test_without_eagerness_or_without_a_cost_nobody_goes_ahead(now_s: float, chance: float) -> None:
    """A factor of 0 turns it off; an answer that took no time is not worth it."""
    assert not is_due(Rule(early_refresh=0), CAPTURED, now_s, chance)
    assert not is_due(EAGER, replace(CAPTURED, elapsed_s=0), now_s, chance)
    assert not is_due(EAGER, replace(CAPTURED, elapsed_s=-1), now_s, chance)


def test_an_answer_for_ever_is_never_refreshed() -> None:
    """There is no expiry to go ahead of."""
    assert not is_due(EAGER, replace(CAPTURED, expires_s=math.inf), 1e12, 0.0)


@given(now_s=st.floats(CREATED_S, EXPIRES_S, exclude_max=True), chance=st.floats(0, 1))
def test_who_goes_ahead_once_goes_ahead_later_too(now_s: float, chance: float) -> None:
    """The nearer the expiry, and the smaller the chance drawn, the more likely."""
    if is_due(EAGER, CAPTURED, now_s, chance):
        assert is_due(EAGER, CAPTURED, now_s + 1, chance)
        assert is_due(EAGER, CAPTURED, now_s, chance / 2)


def test_the_extremes_of_chance() -> None:
    """A chance of 1 waits for the expiry itself; one of 0 goes ahead by a bounded time, not for ever."""
    assert not is_due(EAGER, CAPTURED, EXPIRES_S - 1e-6, 1.0)
    assert is_due(EAGER, CAPTURED, EXPIRES_S, 1.0)
    assert 2.0 * -math.log(1e-12) == pytest.approx(lead_of(0.0))


@pytest.mark.parametrize(("beta", "elapsed_s"), [(1.0, 2.0), (0.5, 2.0), (3.0, 0.2), (10.0, 1.0)])
def test_the_lead_is_spread_as_xfetch_says(beta: float, elapsed_s: float) -> None:
    """Over many draws it is exponential with mean beta times the upstream's time, and standard deviation the same."""
    draw = random.Random(1)
    rule = Rule(early_refresh=beta)
    leads = [lead_of(draw.random(), rule=rule, elapsed_s=elapsed_s) for _ in range(10_000)]
    mean = beta * elapsed_s
    assert mean == pytest.approx(fmean(leads), rel=0.03)
    assert mean == pytest.approx(math.sqrt(fmean((lead - mean) ** 2 for lead in leads)), rel=0.05)
    assert math.log(2) * mean == pytest.approx(sorted(leads)[5000], rel=0.05)


def test_a_hit_says_its_age_and_what_is_left() -> None:
    """Whole seconds, rounded down; a clock that was set back gives no negative age."""
    asked = admitted(Rule())
    for now_s, age_s, ttl_s in ((1000.0, 0, 100), (1000.9, 0, 99), (1099.5, 99, 0), (900.0, 0, 200)):
        hit = hit_of(asked, QUESTION, IDENTITY, ENTRY, now_s)
        assert hit is not None
        assert (age_s, ttl_s, False) == (hit.age_s, hit.ttl_s, hit.due)
    assert hit_of(asked, QUESTION, IDENTITY, ENTRY, EXPIRES_S) is None


def test_what_is_not_known_is_not_said() -> None:
    """An entry that says neither when it came nor when it goes has no age and no end."""
    asked = admitted(Rule(stale_if_error_s=10))
    entry = replace(ENTRY, captures=(replace(CAPTURED, created_s=-math.inf, expires_s=math.inf),))
    for hit in (
        hit_of(asked, QUESTION, IDENTITY, entry, 1e9),
        stale_hit_of(asked, QUESTION, IDENTITY, entry, 1e9),
    ):
        assert hit is not None
        assert (None, None) == (hit.age_s, hit.ttl_s)


def test_a_stale_hit_says_how_stale() -> None:
    """Its ttl is negative, rounded away from zero, so that it is told from a fresh one; up to the rule's limit."""
    asked = admitted(Rule(stale_if_error_s=60))
    for now_s, age_s, ttl_s in ((1100.0, 100, 0), (1100.5, 100, -1), (1159.5, 159, -60)):
        assert may_serve_stale(asked, ENTRY, now_s)
        hit = stale_hit_of(asked, QUESTION, IDENTITY, ENTRY, now_s)
        assert hit is not None
        assert (age_s, ttl_s) == (hit.age_s, hit.ttl_s)
    assert not may_serve_stale(asked, ENTRY, 1160.0)
    assert stale_hit_of(asked, QUESTION, IDENTITY, ENTRY, 1160.0) is None


def test_without_a_word_nothing_stale_is_served() -> None:
    """By default the lifetime is the end; inside it an answer may still stand in for a failing upstream."""
    asked = admitted(Rule())
    assert not may_serve_stale(asked, ENTRY, EXPIRES_S)
    assert stale_hit_of(asked, QUESTION, IDENTITY, ENTRY, EXPIRES_S) is None
    assert stale_hit_of(asked, QUESTION, IDENTITY, ENTRY, EXPIRES_S - 1) is not None


def test_a_capture_that_cannot_answer_is_no_hit() -> None:
    """A mode that cannot be made from what is kept is missed, fresh or stale."""
    asked = admitted(Rule(stale_if_error_s=60))
    question = replace(QUESTION, mode=Mode.STREAM)
    entry = replace(ENTRY, captures=(replace(CAPTURED, body=b"{}"),))
    assert hit_of(asked, question, IDENTITY, entry, CREATED_S) is None
    assert stale_hit_of(asked, question, IDENTITY, entry, EXPIRES_S) is None
