"""Who may share: credentials by name and value, on one route and authority."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from ai_cache_extproc.config.rules import Rule
from ai_cache_extproc.config.scope import CREDENTIAL_HEADERS
from ai_cache_extproc.keys.scope import scope_of
from ai_cache_extproc.model import Bypass, Reason, RequestHead

NOBODY = Bypass(Reason.NO_CREDENTIAL)


def scope(
    rule: Rule | None = None,
    *,
    path: str = "/v1/chat/completions",
    authority: str = "api.example.com",
    route: str = "",
    headers: Mapping[str, str] | None = None,
    **named: str,
) -> bytes | Bypass:
    """The scope of a request with these parts; underscores in the names of headers are hyphens."""
    headers = {**(headers or {}), **{name.replace("_", "-"): value for name, value in named.items()}}
    return scope_of(RequestHead("POST", path, authority, headers, route), rule or Rule())


def test_without_a_credential_nobody_shares() -> None:
    """No credential, or only empty ones, is no scope."""
    assert NOBODY == scope()
    assert NOBODY == scope(authorization="", cookie="")
    assert NOBODY == scope(path="/v1?key=&other=1&&key")
    assert NOBODY == scope(x_team="red")


def test_a_rule_may_let_anonymous_requests_share() -> None:
    """Then all of them are in one scope, apart from everyone with a credential."""
    rule = Rule(anonymous="shared")
    shared = scope(rule)
    assert isinstance(shared, bytes)
    assert shared == scope(rule, authorization="", path="/other?key=")
    assert shared != scope(rule, authorization="a")
    assert scope(authorization="a") == scope(rule, authorization="a")


@pytest.mark.parametrize("name", CREDENTIAL_HEADERS)
def test_every_credential_header_keeps_callers_apart(name: str) -> None:
    """Name and value both count."""
    scopes = [
        scope(headers=headers) for headers in ({name: "a"}, {name: "b"}, {name: "a", "x-api-key": "z", "cookie": "z"})
    ]
    assert all(isinstance(one, bytes) for one in scopes)
    assert 3 == len(set(scopes))


def test_everything_that_says_who_asks_where_tells_scopes_apart() -> None:
    """Each of these requests is in a scope of its own."""
    scopes = [
        scope(authorization="a"),
        scope(x_api_key="a"),
        scope(authorization="a", x_api_key="a"),
        scope(authorization="a", route="r"),
        scope(authorization="a", authority="other.example.com"),
        scope(authorization="a", authority="api.example.com:8443"),
        scope(path="/v1?key=a"),
        scope(path="/v1?key=b"),
        scope(path="/v1?Key=a"),
        scope(path="/v1?%6bey=a"),
        scope(path="/v1?key=a&key=b"),
        scope(path="/v1?key=b&key=a"),
        scope(path="/v1?key=a", authorization="a"),
        scope(authorization="\udcff"),
    ]
    assert all(isinstance(one, bytes) for one in scopes)
    assert len(scopes) == len(set(scopes))


def test_what_is_the_same_place_is_one_scope() -> None:
    """The case of the authority, other headers, other parameters and the order of the rule's list do not count."""
    reverse = Rule.model_validate({"scope": {"credentials": CREDENTIAL_HEADERS[::-1]}})
    expected = scope(authorization="a", cookie="c")
    assert expected == scope(authorization="a", cookie="c", authority="API.Example.COM", path="/v1/other?b=1")
    assert expected == scope(reverse, authorization="a", cookie="c", x_request_id="1")


def test_a_rule_may_name_other_credentials() -> None:
    """A replaced list is the whole list."""
    rule = Rule.model_validate({"scope": {"credentials": ["x-consumer"], "parameters": ["token"]}})
    assert NOBODY == scope(rule, authorization="a", path="/v1?key=a")
    assert scope(rule, x_consumer="red", authorization="a") == scope(rule, x_consumer="red", authorization="b")
    assert scope(rule, path="/v1?token=a") != scope(rule, path="/v1?token=b")
