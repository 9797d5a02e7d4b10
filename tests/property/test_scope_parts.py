"""No two different lists of components give the same scope, whatever rules they come from."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ai_cache_extproc.config.rules import Rule
from ai_cache_extproc.keys.scope import scope_of
from ai_cache_extproc.model import Bypass, Reason, RequestHead

# Few, so that equal lists come up; strange, so that a careless join would take different ones for the same.
NAMES = st.sampled_from(["x-a", "x-b", "authorization", "identity header", "header"])
HEADERS = st.sampled_from(["x-a", "x-b", "authorization", "cookie"])
TEXTS = st.sampled_from(["", "a", "b", "a\x00", "\xff", "header", "x-a", "\x00\x00\x00\x00\x00\x00\x00\x01a", "\udcff"])
CLAIMS = st.recursive(
    st.none() | st.booleans() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=3,
)
PARTS = st.one_of(
    st.builds(lambda name, required: {"header": name, "required": required}, HEADERS, st.booleans()),
    st.builds(lambda name, required: {"parameter": name, "required": required}, st.sampled_from("ab"), st.booleans()),
    st.builds(lambda name, required: {"attribute": name, "required": required}, NAMES, st.booleans()),
    st.builds(
        lambda namespace, path, required: {"metadata": namespace, "path": path, "required": required},
        st.sampled_from("nm"),
        st.lists(st.sampled_from("ab"), min_size=1, max_size=2),
        st.booleans(),
    ),
)
RULES = st.builds(
    lambda credentials, parameters, identity, route, authority: Rule.model_validate(
        {
            "anonymous": "shared",
            "scope": {
                "credentials": credentials,
                "parameters": parameters,
                "identity": identity,
                "route": route,
                "authority": authority,
            },
        }
    ),
    st.lists(HEADERS, max_size=2),
    st.lists(st.sampled_from("ab"), max_size=1),
    st.lists(PARTS, max_size=3),
    st.booleans(),
    st.booleans(),
)
HEADS = st.builds(
    lambda query, authority, headers, route, attributes, metadata: RequestHead(
        "POST", "/v1?" + "&".join(query), authority, headers, route, "", attributes, metadata
    ),
    st.lists(st.sampled_from(["a=1", "A=1", "a=2", "b=1", "a=", "b"]), max_size=3),
    st.sampled_from(["", "llm", "LLM"]),
    st.dictionaries(HEADERS, TEXTS, max_size=3),
    TEXTS,
    st.dictionaries(NAMES, TEXTS, max_size=2),
    st.dictionaries(st.sampled_from("nm"), CLAIMS, max_size=2),
)


def parameters(head: RequestHead, names: tuple[str, ...]) -> list[tuple[str, str]]:
    """The non-empty fields of the query with these names, in any case."""
    fields = [field.partition("=") for field in head.path.partition("?")[2].split("&")]
    return [(name, value) for name, _, value in fields if name.lower() in names and value]


def claim(value: object) -> object:
    """What a value of the metadata says, its type included; None where it says nothing."""
    match value:
        case bool():
            return "switch", value
        case float():
            return ("number", value) if math.isfinite(value) else None
        case str():
            return ("text", value) if value else None
        case _:
            return ("json", json.dumps(value, sort_keys=True)) if value else None


def found(head: RequestHead, part: dict[str, Any]) -> object:
    """The value of one part of the identity; None where it is missing."""
    if part["header"] is not None:
        return head.headers.get(part["header"]) or None
    if part["parameter"] is not None:
        return parameters(head, (part["parameter"],)) or None
    if part["attribute"] is not None:
        return head.attributes.get(part["attribute"]) or None
    value: Any = head.metadata.get(part["metadata"])
    for key in part["path"]:
        value = value.get(key) if isinstance(value, dict) else None
    return claim(value)


def components(head: RequestHead, rule: Rule) -> object | None:
    """The list of components as plain values; None where a required one is missing."""
    scope = rule.scope
    parts = [part.model_dump() for part in scope.identity]
    if any(part["required"] and found(head, part) is None for part in parts):
        return None
    identity = [
        (
            [part["header"], part["parameter"], part["attribute"], part["metadata"], list(part["path"])],
            found(head, part),
        )
        for part in parts
    ]
    return (
        head.route if scope.route else None,
        head.authority.lower() if scope.authority else None,
        {name: head.headers[name] for name in scope.credentials if head.headers.get(name)},
        parameters(head, scope.parameters),
        sorted(identity, key=repr),
    )


def check(head: RequestHead, rule: Rule, other_head: RequestHead, other_rule: Rule) -> None:
    """The scopes are the same exactly where the components are."""
    one, two = components(head, rule), components(other_head, other_rule)
    scope, other = scope_of(head, rule), scope_of(other_head, other_rule)
    assert (one is None) is (scope == Bypass(Reason.NO_IDENTITY))
    assert (two is None) is (other == Bypass(Reason.NO_IDENTITY))
    if one is not None and two is not None:
        assert (one == two) is (scope == other)


@settings(max_examples=400)
@given(HEADS, RULES, HEADS, RULES)
def test_any_two_requests_under_any_two_rules(
    head: RequestHead, rule: Rule, other_head: RequestHead, other_rule: Rule
) -> None:
    """Different lists, different scopes, across rules too."""
    check(head, rule, other_head, other_rule)


@settings(max_examples=400)
@given(HEADS, HEADS, RULES)
def test_any_two_requests_under_one_rule(head: RequestHead, other_head: RequestHead, rule: Rule) -> None:
    """Different lists, different scopes; the same list, the same scope."""
    check(head, rule, other_head, rule)


@settings(max_examples=200)
@given(HEADS, RULES, RULES)
def test_one_request_under_two_rules(head: RequestHead, rule: Rule, other_rule: Rule) -> None:
    """What a rule leaves out of its scope is not the same as what is empty."""
    check(head, rule, head, other_rule)
