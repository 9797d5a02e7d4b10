"""What a rule may say of layers, controls and tags."""

from __future__ import annotations

from ai_cache_extproc.config.controls import BypassOn, Controls
from ai_cache_extproc.config.rules import Rule


def test_a_rule_may_name_its_layer() -> None:
    """`exact` is what a rule has without a word."""
    assert Rule() == Rule.model_validate({"layers": ["exact"]})


def test_header_names_have_no_case() -> None:
    """They are compared as Envoy shows them."""
    rule = Rule.model_validate(
        {"bypass_on": [{"header": "X-Team", "equals": "Off"}], "controls": {"ttl_header": "X-TTL", "honour": []}}
    )
    assert (BypassOn(header="x-team", equals="Off"),) == rule.bypass_on
    assert Controls(ttl_header="x-ttl", honour=()) == rule.controls
