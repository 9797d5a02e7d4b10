"""Which rule applies to a request, and how a configuration is replaced."""

from __future__ import annotations

import pytest

from ai_cache_extproc.config.model import Config
from ai_cache_extproc.config.snapshot import Snapshot, SnapshotSource
from ai_cache_extproc.model import RequestHead

HEAD = RequestHead(
    method="POST",
    path="/v1/chat/completions?api-version=1",
    authority="api.example.com:8443",
    headers={"x-team": "red", "x-empty": ""},
    route="llm-route",
)


def rule_name(*matches: dict[str, object]) -> str | None:
    """The name of the rule (r0, r1, ...) that applies to HEAD."""
    rules = [{"name": f"r{index}", "match": match} for index, match in enumerate(matches)]
    rule = Snapshot(Config.model_validate({"rules": rules})).rule_for(HEAD)
    return None if rule is None else rule.name


@pytest.mark.parametrize(
    "match",
    [
        {},
        {"routes": ["llm-*"]},
        {"hosts": ["API.example.com"]},
        {"paths": ["/v1/chat/completions"]},
        {"headers": {"X-Team": "r*"}},
        {"headers": {"x-empty": "*"}},
        {
            "routes": ["other", "llm-route"],
            "hosts": ["*:8443"],
            "paths": ["*/completions"],
            "headers": {"x-team": "red"},
        },
    ],
)
def test_a_rule_applies_where_every_list_matches(match: dict[str, object]) -> None:
    """Each list has to match, by any of its patterns; the query and the case of the host do not count."""
    assert "r0" == rule_name(match)


@pytest.mark.parametrize(
    "match",
    [
        {"routes": ["other"]},
        {"hosts": ["example.com"]},
        {"paths": ["/v1/chat"]},
        {"headers": {"x-team": "blue"}},
        {"headers": {"x-absent": "*"}},
        {"routes": ["llm-route"], "paths": ["/other"]},
    ],
)
def test_a_rule_does_not_apply_where_one_list_does_not_match(match: dict[str, object]) -> None:
    """One list without a match is enough; an absent header matches nothing, not even a star."""
    assert rule_name(match) is None


def test_the_first_rule_that_matches_applies() -> None:
    """Order decides, not how exact a rule is."""
    assert rule_name({"routes": ["other"]}, {}, {"routes": ["llm-route"]}) == "r1"


def test_a_rule_that_is_named_applies_whatever_matches() -> None:
    """Only by its whole name; an unknown one is no rule, even where one is for everything."""
    rules = [{"name": "all"}, {"name": "other", "match": {"routes": ["elsewhere"]}}]
    snapshot = Snapshot(Config.model_validate({"rules": rules}))
    found = [snapshot.rule_for(HEAD, named) for named in ("", "all", "other", "othe", "Other")]
    assert ["all", "all", "other", None, None] == [rule and rule.name for rule in found]


def test_without_rules_nothing_applies() -> None:
    """An empty list of rules caches nothing."""
    assert rule_name() is None


def test_a_replaced_configuration_leaves_the_old_snapshot_as_it_was() -> None:
    """Who took a snapshot keeps it; who asks later gets the next version."""
    source = SnapshotSource(Config())
    before = source.current
    after = source.replace(Config(key_prefix="other:"))
    assert after is source.current
    assert (1, 2) == (before.version, after.version)
    assert ("aicache:", "other:") == (before.config.key_prefix, after.config.key_prefix)
