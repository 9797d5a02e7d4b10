"""What `check` says of controls and labels, and which headers Envoy must let the sidecar change."""

from __future__ import annotations

import re
from typing import Any

import pytest

from ai_cache_extproc.cli.mutations import MAY_CHANGE, may_change
from ai_cache_extproc.cli.plan_controls import labels_row, rule_rows, warnings
from ai_cache_extproc.config.labels import TAGS_HEADER
from ai_cache_extproc.config.model import Config
from ai_cache_extproc.config.rules import Rule


def labelled(**labels: Any) -> Config:
    """A configuration with these labels."""
    return Config.model_validate({"labels": labels})


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"age": None, "similarity": None, "key": None, "reason": None}, "x-ai-cache-status, cache-status and age"),
        (
            {"age": None, "similarity": None, "key": None, "reason": None, "standard_age": False, "layer_words": True},
            "x-ai-cache-status and cache-status; hits say HIT-L1 or HIT-L2",
        ),
        (
            dict.fromkeys(("status", "age", "similarity", "key", "reason"))
            | {"standard_age": False, "standard_cache_status": False, "layer_words": True, "hide_shared": True},
            "none; under shared rules only what is the same on hits and misses",
        ),
    ],
    ids=["standards", "layers", "none"],
)
def test_the_plan_names_the_answer_headers(labels: dict[str, Any], expected: str) -> None:
    """Those that there are."""
    assert ("answer headers", expected) == labels_row(labelled(**labels))


def rows(**rule: Any) -> dict[str, str]:
    """A rule's part of the plan."""
    return dict(rule_rows(Rule.model_validate(rule)))


def test_the_plan_of_a_rule_says_what_clients_may_ask() -> None:
    """By default, with everything, and with nothing; a value that may be a secret is not shown."""
    assert {"clients may ask": "Cache-Control no-store, no-cache, max-age and min-fresh"} == rows()
    assert {
        "clients may ask": "nothing by Cache-Control; a shorter lifetime by x-ttl",
        "bypassed": "requests with a listed x-key or x-team",
        "answers": "up to 1 KiB are kept",
        "tags": "team:red and those that the answer names, in clear",
    } == rows(
        controls={"honour": [], "ttl_header": "x-ttl", "trust_answer_tags": True},
        bypass_on=[{"header": name, "equals": "secret"} for name in ("x-team", "x-key", "x-team")],
        answer_bytes_max=1024,
        tags=["team:red"],
    )
    assert "none is kept" == rows(answer_bytes_max=0)["answers"]
    assert "docs, in clear" == rows(tags=["docs"])["tags"]


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({}, []),
        ({"rules": [{"controls": {"honour": ["no-cache"]}}]}, ["no-store"]),
        ({"rules": [{"enabled": False, "controls": {"honour": []}}]}, []),
        ({"rules": [{"controls": {"honour": ["no-store", "only-if-cached"]}}]}, []),
        (
            {"rules": [{"anonymous": "shared", "controls": {"honour": ["no-store", "only-if-cached"]}}]},
            ["pays nothing"],
        ),
        ({"labels": {"status": "x-gateway-cache", "age": "x-ai-cache-seconds"}}, ["x-gateway-cache"]),
    ],
    ids=["default", "no-store", "disabled", "own scope", "shared scope", "labels"],
)
def test_what_to_think_twice_about(document: dict[str, Any], expected: list[str]) -> None:
    """Storing what clients ask not to store, an oracle that costs nothing, a label that Envoy drops; each with a fix."""
    found = list(warnings(Config.model_validate(document)))
    assert [True] * len(expected) == [word in sentence for word, sentence in zip(expected, found, strict=True)]
    assert all(";" in sentence for sentence in found)


@pytest.mark.parametrize("name", ["x-gateway-cache", "x.odd+name*", "x-ai-cache-other", "cache-status2"])
def test_envoy_may_change_each_label_and_nothing_like_it(name: str) -> None:
    """The expression has a configured name letter by letter, and needs nothing for what it allows already."""
    expression = may_change(labelled(status=name))
    assert re.fullmatch(expression, name)
    assert re.fullmatch(expression, TAGS_HEADER)
    assert not re.fullmatch(expression, f"{name}x") or name.startswith("x-ai-cache-")
    assert not re.fullmatch(expression, "authorization")
    assert (expression == MAY_CHANGE) is name.startswith("x-ai-cache-")


def test_the_default_labels_need_no_other_rule() -> None:
    """The shipped files go with the default configuration."""
    assert MAY_CHANGE == may_change(Config())
