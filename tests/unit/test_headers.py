"""What is said on an answer, and how the fields that decide caching are read."""

from __future__ import annotations

import pytest

from ai_cache_extproc.cache.fields import directives, length_of, media_type
from ai_cache_extproc.config.labels import NAMED, Labels
from ai_cache_extproc.config.model import Config
from ai_cache_extproc.config.rules import Rule
from ai_cache_extproc.config.snapshot import Snapshot
from ai_cache_extproc.extproc.headers import Labelling, hit_metadata, labelling_of
from ai_cache_extproc.model import Bypass, Captured, Entry, Hit, Identity, Miss, Mode, Reason, Replay

IDENTITY = Identity("aicache:0:s:d", bytes(range(32)), "aicache:0:s:d:lease")
CAPTURED = Captured(Mode.JSON, "application/json", b"{}", 1, 2, 0)
ENTRY = Entry("openai_chat", "m", "default", (CAPTURED,))
REPLAY = Replay("application/json", b"{}", CAPTURED)


LABELLING = Labelling(Labels())


def test_a_semantic_hit_says_how_similar() -> None:
    """Similarity has four decimals in the header and all of them in the metadata."""
    hit = Hit(IDENTITY, ENTRY, REPLAY, age_s=1, ttl_s=2, similarity=0.97654321)
    headers = dict(LABELLING.hit(hit, "default"))
    assert "0.9765" == headers["x-ai-cache-similarity"]
    assert headers["cache-status"].endswith("; detail=semantic")
    assert 0.97654321 == dict(hit_metadata(hit, "default"))["similarity"]


def test_a_stale_hit_says_so() -> None:
    """A negative `ttl` and the word stand in `Cache-Status`, the seconds in the metadata; a fresh hit has neither."""
    stale = Hit(IDENTITY, ENTRY, REPLAY, age_s=70, ttl_s=-10)
    status = f'aicache; hit; ttl=-10; key="{IDENTITY.id}"; detail=stale'
    headers = dict(LABELLING.hit(stale, "default"))
    assert (status, "70") == (headers["cache-status"], headers["age"])
    assert 10 == dict(hit_metadata(stale, "default"))["stale_s"]
    fresh = Hit(IDENTITY, ENTRY, REPLAY, age_s=60, ttl_s=0)
    fresh_status = dict(LABELLING.hit(fresh, "default"))["cache-status"]
    assert f'aicache; hit; ttl=0; key="{IDENTITY.id}"; detail=exact' == fresh_status
    assert "stale_s" not in hit_metadata(fresh, "default")


HIT = Hit(IDENTITY, ENTRY, REPLAY, age_s=1, ttl_s=2)
MISS = Miss(IDENTITY)


def names(labelling: Labelling, rule: str = "default") -> set[str]:
    """Every header that any outcome is labelled with."""
    semantic = Hit(IDENTITY, ENTRY, REPLAY, age_s=1, ttl_s=2, similarity=0.5)
    missed = labelling.miss(MISS, rule, refresh=False, reason=Reason.STATUS, status=500)
    bypassed = labelling.bypass(Bypass(Reason.NO_STORE))
    headers = (*labelling.hit(semantic, rule), *missed[0], *missed[1], *bypassed[0], *bypassed[1])
    return {name for name, _ in headers} - {"content-type"}


@pytest.mark.parametrize("label", NAMED)
def test_each_label_has_the_name_it_is_given(label: str) -> None:
    """A label is found under its configured name, and nowhere if it has none."""
    every = names(LABELLING)
    assert {f"x-ai-cache-{word}" for word in NAMED} | {"cache-status", "age"} == every
    usual = f"x-ai-cache-{label}"
    assert (every - {usual}) | {"x-my-label"} == names(Labelling(Labels.model_validate({label: "X-My-Label"})))
    assert every - {usual} == names(Labelling(Labels.model_validate({label: None})))


@pytest.mark.parametrize(("switch", "name"), [("standard_cache_status", "cache-status"), ("standard_age", "age")])
def test_the_standards_can_be_turned_off(switch: str, name: str) -> None:
    """`Cache-Status` and `Age` each have a switch."""
    assert names(LABELLING) - {name} == names(Labelling(Labels.model_validate({switch: False})))


def test_a_hit_may_say_its_layer() -> None:
    """`HIT-L1` for the same question, `HIT-L2` for one of the same meaning; a miss stays a miss."""
    labelling = Labelling(Labels(layer_words=True))
    semantic = Hit(IDENTITY, ENTRY, REPLAY, age_s=1, ttl_s=2, similarity=0.5)
    assert ["HIT-L1", "HIT-L2"] == [dict(labelling.hit(hit, "r"))["x-ai-cache-status"] for hit in (HIT, semantic)]
    set_, _ = labelling.miss(MISS, "r", refresh=False, reason=None, status=200)
    assert "MISS" == dict(set_)["x-ai-cache-status"]


def test_a_hidden_rule_says_the_same_of_hits_and_misses() -> None:
    """Only the key is left, which says nothing of what is kept; a bypass stays as it is, and so do other rules."""
    labelling = Labelling(Labels(hide_shared=True), hidden=frozenset({"open"}))
    key = ("x-ai-cache-key", IDENTITY.id)
    assert (("content-type", "application/json"), key) == labelling.hit(HIT, "open")
    assert ((key,), ()) == labelling.miss(MISS, "open", refresh=True, reason=Reason.STORE_TIMEOUT, status=200)
    assert LABELLING.bypass(Bypass(Reason.NO_STORE)) == labelling.bypass(Bypass(Reason.NO_STORE))
    assert LABELLING.hit(HIT, "mine") == labelling.hit(HIT, "mine")


def test_only_shared_rules_are_hidden() -> None:
    """A rule is hidden if it shares more widely than its callers' credentials do, and only if that is asked for."""
    rules = (Rule(name="open", anonymous="shared"), Rule(name="mine"))
    hidden = labelling_of(Snapshot(Config(rules=rules, labels=Labels(hide_shared=True))))
    shown = labelling_of(Snapshot(Config(rules=rules)))
    said = [[len(labels.hit(HIT, name)) for name in ("open", "mine")] for labels in (hidden, shown)]
    assert [[2, 6], [6, 6]] == said


def test_a_configuration_is_read_once() -> None:
    """The labels of one snapshot are one object."""
    snapshot = Snapshot(Config())
    assert labelling_of(snapshot) is labelling_of(snapshot)


def test_the_entry_id_is_short() -> None:
    """The id is the digest's first 32 hex digits."""
    assert "000102030405060708090a0b0c0d0e0f" == IDENTITY.id


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("no-store", {"no-store": ""}),
        (" No-Cache ,, max-age=0", {"no-cache": "", "max-age": "0"}),
        ('private="set-cookie", max-age = 5', {"private": "set-cookie", "max-age": "5"}),
        ("max-age=5, Max-Age=9", {"max-age": "5"}),
    ],
)
def test_cache_control(text: str, expected: dict[str, str]) -> None:
    """Directives are read without regard to case, blanks and empty members."""
    assert expected == directives(text)


@pytest.mark.parametrize(
    ("text", "expected"), [("12", 12), ("", None), ("-1", None), ("1e3", None), ("9" * 5000, None)]
)
def test_content_length(text: str, expected: int | None) -> None:
    """A length is a plain number of sane size, or none."""
    assert expected == length_of({"content-length": text})


def test_media_type() -> None:
    """Parameters and case of a content type do not matter."""
    assert "text/event-stream" == media_type({"content-type": "Text/Event-Stream; charset=utf-8"})
