"""Which layouts of an index fit which rules, and that the names of dialects are those there are."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from pydantic import ValidationError

from ai_cache_extproc.config.model import Config
from ai_cache_extproc.config.semantic import Dialect
from ai_cache_extproc.config.template import HigressValues
from ai_cache_extproc.dialects import Dialects
from ai_cache_extproc.dialects.base import ConversingDialect

INDEX: dict[str, Any] = {"type": "qdrant", "url": "http://q:6333", "layout": "higress"}
SHARED: dict[str, Any] = {"anonymous": "shared", "scope": {"credentials": [], "parameters": []}, "template": {}}


def document(index: dict[str, Any], rule: dict[str, Any]) -> dict[str, Any]:
    """With one rule that matches by meaning."""
    rules = [{"layers": ["exact", "semantic"], **rule}]
    return {"embedder": {"type": "embedded"}, "index": index, "rules": rules, "envoy": {"message_timeout_ms": 9000}}


@pytest.mark.parametrize(
    ("index", "rule"),
    [
        (INDEX, SHARED | {"higress": {}}),
        (INDEX | {"partitioned": False}, SHARED | {"higress": {"partitioned": False}}),
        (INDEX | {"layout": "native"}, {}),
        ({"type": "redisearch", "url": "redis://r:6379", "layout": "apisix"}, {}),
    ],
    ids=["higress", "unpartitioned", "native", "apisix"],
)
def test_what_fits(index: dict[str, Any], rule: dict[str, Any]) -> None:
    """Points of rules without an answer of their own lead to the store."""
    assert Config.model_validate(document(index, rule)).rules[0].is_semantic


@pytest.mark.parametrize(
    ("index", "rule", "place", "reason"),
    [
        (INDEX, {}, "layout", "only rules with `higress` keep in clear; write `native`"),
        (INDEX | {"partitioned": False}, SHARED | {"higress": {}}, "partitioned", "so that nothing is kept apart"),
    ],
    ids=["native rule", "partitioned rule"],
)
def test_what_does_not_fit_is_refused(index: dict[str, Any], rule: dict[str, Any], place: str, reason: str) -> None:
    """At the index, with the name of the rule."""
    with pytest.raises(ValidationError) as raised:
        Config.model_validate(document(index, rule))
    text = str(raised.value)
    assert reason in text
    assert f"index.{place}" in text or place in text
    assert 'rule "default"' in text


def test_callers_who_are_kept_apart_are_not_mixed_by_meaning() -> None:
    """`share: credential` and `partitioned: false` contradict each other."""
    with pytest.raises(ValidationError, match="mixes the callers"):
        HigressValues.model_validate({"share": "credential", "partitioned": False})


def test_the_dialects_that_can_be_named_are_those_with_words() -> None:
    """And the template of a rule."""
    built_in = Dialects(1000).built_in
    names = {dialect.name for dialect in built_in if isinstance(dialect, ConversingDialect)}
    assert names | {"template"} == set(get_args(Dialect))
