"""`aicache explain` and `check` about identity: what Envoy adds to a request can be given, and what widens is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.support.terminal import Terminal, terminal, written

RULES = """
rules:
  - name: claims
    match: {routes: [chat]}
    scope:
      credentials: []
      route: false
      identity:
        - {metadata: jwt, path: [payload, sub]}
        - {attribute: source.address, required: false}
  - name: other
    scope: {authority: false}
    match: {clusters: [llm]}
"""
CLAIM = '{"jwt": {"payload": {"sub": 7}}}'


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Terminal:
    """A terminal of its own."""
    return terminal(capsys, monkeypatch, tmp_path)


@pytest.fixture
def asked(tmp_path: Path) -> list[str]:
    """The arguments that every call here begins with."""
    body = tmp_path / "body.json"
    body.write_bytes(orjson.dumps({"model": "m", "messages": [{"role": "user", "content": "Why?"}]}))
    return ["explain", "-c", written(tmp_path, RULES), "-r", str(body)]


def test_explain_takes_attributes_and_metadata(run: Terminal, asked: list[str]) -> None:
    """As Envoy would send them; the parts that are there are named, and each counts."""
    claimed = [*asked, "--route", "chat", "--metadata", CLAIM]
    one = run.json(*claimed)
    assert ("lookup", ["metadata jwt payload.sub"]) == (one["outcome"], one["credentials"])
    two = run.json(*claimed, "--attribute", "source.address=10.0.0.1:5")
    assert ["metadata jwt payload.sub", "attribute source.address"] == two["credentials"]
    three = run.json(*claimed, "--attribute", "source.address=10.0.0.1:6")
    assert one["scope"] != two["scope"] == three["scope"]
    assert "7" not in str(one["credentials"])


def test_explain_says_which_part_is_missing(run: Terminal, asked: list[str]) -> None:
    """The sidecar's own word, and the part by name."""
    document = run.json(*asked, "--route", "chat", "-H", "authorization: a")
    assert ("bypass", "no_identity") == (document["outcome"], document["reason"])
    assert "it comes without metadata jwt payload.sub" == document["detail"]


def test_explain_takes_the_rule_that_a_route_names(run: Terminal, asked: list[str]) -> None:
    """Named, it applies whatever its match says; attributes give route and cluster too."""
    named = run.json(*asked, "--rule", "other", "-H", "authorization: a")
    assert ("lookup", "other") == (named["outcome"], named["rule"])
    assert "no_rule" == run.json(*asked, "--rule", "absent", "-H", "authorization: a")["reason"]
    clustered = run.json(*asked, "--attribute", "xds.cluster_name=llm", "-H", "authorization: a")
    assert "other" == clustered["rule"]
    routed = run.json(*asked, "--attribute", "xds.route_name=chat", "--metadata", CLAIM)
    assert "claims" == routed["rule"]


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["--attribute", "source.address"], "--attribute"),
        (["--attribute", "=x"], "--attribute"),
        (["--metadata", "{"], "--metadata"),
        (["--metadata", "[]"], "--metadata"),
    ],
    ids=["no value", "no name", "no json", "no object"],
)
def test_explain_refuses_what_envoy_cannot_send(
    run: Terminal, asked: list[str], arguments: list[str], name: str
) -> None:
    """With the option's name."""
    code, out, err = run(*asked, *arguments)
    assert (2, "") == (code, out)
    assert name in err


def test_check_says_who_shares(run: Terminal, tmp_path: Path) -> None:
    """Each rule in its own words, and a warning for each widening."""
    document: dict[str, Any] = run.json("check", written(tmp_path, RULES))
    claims, other = document["rules"]
    assert (
        "callers with the same ?key=, the same metadata jwt payload.sub and the same attribute source.address, on the same "
        "host by any route; callers without metadata jwt payload.sub are bypassed (no_identity)"
    ) == claims["shared by"]
    assert other["shared by"].endswith(
        "on the same route of any host; callers with none of them are bypassed (no_credential)"
    )
    warnings = "\n".join(document["warnings"])
    for words in ("differ only in authorization", "callers on different routes", "callers who ask different hosts"):
        assert words in warnings


def test_check_says_where_everything_is_shared(run: Terminal, tmp_path: Path) -> None:
    """Neither route nor host, and no credential at all."""
    rules = "{anonymous: shared, scope: {credentials: [], parameters: [], route: false, authority: false}}"
    document: dict[str, Any] = run.json("check", written(tmp_path, f"rules: [{rules}]"))
    assert "all callers, wherever they ask" == document["rules"][0]["shared by"]
