"""Identity beyond credentials: headers, parameters, Envoy's attributes and metadata, each closed where it is missing."""

from __future__ import annotations

import math
from typing import Any

import pytest

from ai_cache_extproc.config.rules import Rule, widenings
from ai_cache_extproc.config.scope import CREDENTIAL_HEADERS
from ai_cache_extproc.keys.scope import is_known_by_token, is_present, scope_of
from ai_cache_extproc.model import Bypass, Reason, RequestHead

JWT = "envoy.filters.http.jwt_authn"
UNKNOWN = Bypass(Reason.NO_IDENTITY)
NOBODY = Bypass(Reason.NO_CREDENTIAL)
SUBJECT = {"metadata": JWT, "path": ["jwt", "sub"]}
PARTS: dict[str, dict[str, Any]] = {
    "header": {"header": "X-Team"},
    "parameter": {"parameter": "Team"},
    "attribute": {"attribute": "connection.uri_san_peer_certificate"},
    "metadata": SUBJECT,
}


def rule(*identity: dict[str, Any], **members: Any) -> Rule:
    """A rule with these parts of identity; further fields of its scope by keyword."""
    anonymous = members.pop("anonymous", "bypass")
    return Rule.model_validate({"anonymous": anonymous, "scope": {"identity": identity, **members}})


def head(
    team: str | None = None,
    *,
    parameter: str | None = None,
    attributes: dict[str, str] | None = None,
    claims: object = None,
    **fields: str,
) -> RequestHead:
    """A request with a team in a header or a parameter, attributes, and claims of a token."""
    headers = fields if team is None else {"x-team": team, **fields}
    path = "/v1/chat/completions" if parameter is None else f"/v1/chat/completions?team={parameter}"
    metadata = {} if claims is None else {JWT: {"jwt": claims}}
    return RequestHead("POST", path, "llm", headers, "", "", attributes or {}, metadata)


def of(kind: str, value: str | None) -> RequestHead:
    """A request whose identity of this kind has this value."""
    match kind:
        case "header":
            return head(value)
        case "parameter":
            return head(parameter=value)
        case "attribute":
            return head(attributes={} if value is None else {"connection.uri_san_peer_certificate": value})
        case _:
            return head(claims={} if value is None else {"sub": value})


@pytest.mark.parametrize("kind", PARTS)
def test_a_required_part_that_is_missing_is_a_bypass(kind: str) -> None:
    """Absent or empty: with a credential beside it, and where anonymous requests share, too."""
    for value in (None, ""):
        for asked in (rule(PARTS[kind]), rule(PARTS[kind], anonymous="shared")):
            assert UNKNOWN == scope_of(of(kind, value), asked)
            with_credential = of(kind, value)
            with_credential.headers["authorization"] = "a"  # type: ignore[index]  # a dict here
            assert UNKNOWN == scope_of(with_credential, asked)
        assert not is_present(of(kind, value), rule(PARTS[kind]).scope.identity[0])


@pytest.mark.parametrize("kind", PARTS)
def test_a_part_that_is_present_says_who_is_calling(kind: str) -> None:
    """No credential is needed beside it, and its value keeps callers apart."""
    asked = rule(PARTS[kind], credentials=[], parameters=[])
    scopes = [scope_of(of(kind, value), asked) for value in ("a", "b", "a ", "A")]
    assert all(isinstance(scope, bytes) for scope in scopes)
    assert 4 == len(set(scopes))
    assert is_present(of(kind, "a"), asked.scope.identity[0])


@pytest.mark.parametrize("kind", PARTS)
def test_absence_of_what_is_not_required_is_a_part_of_its_own(kind: str) -> None:
    """Those without it share with nobody who has it; alone it makes nobody known."""
    part = PARTS[kind] | {"required": False}
    asked = rule(part, anonymous="shared")
    without = scope_of(of(kind, None), asked)
    assert isinstance(without, bytes)
    assert without == scope_of(of(kind, ""), asked)
    assert without not in {scope_of(of(kind, value), asked) for value in ("\xff", "ÿ", "none", "\udcff")}
    assert NOBODY == scope_of(of(kind, None), rule(part))


def test_the_same_value_in_another_place_is_another_caller() -> None:
    """A credential, a header, a parameter, an attribute and a claim of one value share nothing."""
    attribute = {"attribute": "x-team"}
    claim = {"metadata": "x-team", "path": ["x-team"]}
    scopes = [
        scope_of(head("a"), rule(credentials=["x-team"])),
        scope_of(head("a"), rule({"header": "x-team"})),
        scope_of(head(parameter="a"), rule({"parameter": "team"})),
        scope_of(head(parameter="a"), rule(parameters=["team"])),
        scope_of(head(attributes={"x-team": "a"}), rule(attribute)),
        scope_of(
            RequestHead("POST", "/v1/chat/completions", "llm", {}, metadata={"x-team": {"x-team": "a"}}), rule(claim)
        ),
    ]
    assert all(isinstance(scope, bytes) for scope in scopes)
    assert len(scopes) == len(set(scopes))


@pytest.mark.parametrize("separator", ["", ",", ", ", ":", "|", "\n", "\x00", "\x1f", "%2C", "\\,"], ids=repr)
def test_no_value_forges_a_boundary(separator: str) -> None:
    """One value that spells out the parts of another caller is not that caller, whatever might join them."""

    def in_scope(route: str, authority: str, **fields: str) -> bytes | Bypass:
        return scope_of(RequestHead("POST", "/v1", authority, fields, route), rule({"header": "x-team"}))

    two = in_scope("r", "h", **{"authorization": "a", "cookie": "b", "x-team": "t"})
    spelled = separator.join(("a", "header", "cookie", "b"))
    with_team = separator.join(("b", "identity header", "x-team", "t"))
    others = [
        in_scope("r", "h", **{"authorization": spelled, "x-team": "t"}),
        in_scope("r", "h", **{"authorization": "a", "cookie": with_team, "x-team": "t"}),
        in_scope(separator.join(("r", "h")), "", **{"authorization": "a", "cookie": "b", "x-team": "t"}),
        in_scope("", separator.join(("r", "h")), **{"authorization": "a", "cookie": "b", "x-team": "t"}),
        in_scope("r", separator.join(("h", "header", "authorization", "a")), **{"cookie": "b", "x-team": "t"}),
    ]
    assert two not in others
    assert len(others) == len(set(others))


def test_the_order_of_the_parts_does_not_count() -> None:
    """A rule that names them the other way round finds the same entries."""
    asked = head("a", claims={"sub": "s"})
    first, second = rule(PARTS["header"], SUBJECT), rule(SUBJECT, PARTS["header"])
    assert scope_of(asked, first) == scope_of(asked, second)


def test_the_port_of_a_peer_does_not_count() -> None:
    """It is another with each connection; of any other attribute all counts."""
    asked = rule({"attribute": "source.address"})
    scopes = {scope_of(head(attributes={"source.address": f"10.0.0.1:{port}"}), asked) for port in (1, 65_000)}
    assert 1 == len(scopes)
    for other in ("10.0.0.2:1", "[::1]:1", "/run/socket"):
        scopes.add(scope_of(head(attributes={"source.address": other}), asked))
    assert 4 == len(scopes)
    destination = rule({"attribute": "destination.address"})
    ports = {scope_of(head(attributes={"destination.address": f"10.0.0.1:{port}"}), destination) for port in (1, 2)}
    assert 2 == len(ports)


def test_claims_of_different_types_are_different() -> None:
    """Text that looks like a number, a switch or a list is none."""
    values: list[object] = [
        "1",
        1.0,
        True,
        "true",
        0.0,
        False,
        ["a"],
        '["a"]',
        {"a": 1.0},
        [math.nan],
        [None],
        ["a", "b"],
    ]
    scopes = {scope_of(head(claims={"sub": value}), rule(SUBJECT)) for value in values}
    assert len(values) == len(scopes)
    assert all(isinstance(scope, bytes) for scope in scopes)
    assert scope_of(head(claims={"sub": -0.0}), rule(SUBJECT)) == scope_of(head(claims={"sub": 0.0}), rule(SUBJECT))
    assert scope_of(head(claims={"sub": 1}), rule(SUBJECT)) == scope_of(head(claims={"sub": 1.0}), rule(SUBJECT))


@pytest.mark.parametrize(
    "claims",
    [
        None,
        {},
        {"sub": None},
        {"sub": ""},
        {"sub": []},
        {"sub": {}},
        {"sub": math.nan},
        {"sub": math.inf},
        "sub",
        ["sub"],
    ],
    ids=repr,
)
def test_a_claim_that_says_nothing_is_missing(claims: object) -> None:
    """Also where something else stands on the way to it."""
    assert UNKNOWN == scope_of(head(claims=claims, authorization="a"), rule(SUBJECT))


def test_route_and_host_count_unless_they_are_taken_out() -> None:
    """Each alone; what is taken out is no empty name either."""
    here = RequestHead("POST", "/v1", "llm", {"authorization": "a"}, "r")
    other_route = RequestHead("POST", "/v1", "llm", {"authorization": "a"}, "s")
    other_host = RequestHead("POST", "/v1", "other", {"authorization": "a"}, "r")
    nowhere = RequestHead("POST", "/v1", "", {"authorization": "a"})
    strict, no_route, no_host = rule(), rule(route=False), rule(authority=False)
    assert 3 == len({scope_of(each, strict) for each in (here, other_route, other_host)})
    assert scope_of(here, no_route) == scope_of(other_route, no_route) != scope_of(other_host, no_route)
    assert scope_of(here, no_host) == scope_of(other_host, no_host) != scope_of(other_route, no_host)
    everywhere = rule(route=False, authority=False)
    scopes = [scope_of(each, asked) for each in (here, nowhere) for asked in (strict, no_route, no_host)]
    assert len(scopes) == len(set(scopes))
    assert scope_of(here, everywhere) == scope_of(nowhere, everywhere)
    assert scope_of(here, everywhere) not in scopes


def test_every_widening_is_said() -> None:
    """A sentence for each: credentials left out, a header that anyone may send, the route, the host."""
    wide = Rule.model_validate(
        {
            "name": "wide",
            "scope": {
                "credentials": CREDENTIAL_HEADERS[1:],
                "identity": [{"header": "x-team"}, SUBJECT, {"parameter": "team"}],
                "route": False,
                "authority": False,
            },
        }
    )
    expected = [
        'rule "wide": callers that differ only in authorization share answers',
        (
            'rule "wide": whoever sends header x-team says who they are; Envoy must set or remove it before the cache, '
            "or take an attribute or metadata"
        ),
        (
            'rule "wide": whoever sends ?team= says who they are; Envoy must set or remove it before the cache, '
            "or take an attribute or metadata"
        ),
        'rule "wide": callers on different routes share answers',
        'rule "wide": callers who ask different hosts share answers',
    ]
    assert expected == list(widenings((wide,)))
    assert [] == list(widenings((rule({"header": "x-team"}),)))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln", True),
        ("eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.", True),
        ("Bearer sk-proj-abc", False),
        ("Bearer eyJhbGciOiJIUzI1NiJ9", False),
        ("", False),
    ],
    ids=["bearer", "unsigned", "api key", "one part", "nothing"],
)
def test_a_token_is_known_by_its_shape(value: str, expected: bool) -> None:
    """A JWT among the credentials; one that the rule leaves out does not count."""
    asked = head(authorization=value)
    assert expected is is_known_by_token(asked, Rule())
    assert not is_known_by_token(asked, rule(credentials=["x-api-key"]))
