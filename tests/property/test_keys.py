"""Identity over made-up requests: nothing that differs shares a key, nothing that is the same is told apart."""

from __future__ import annotations

import json
import math
from decimal import Decimal

import orjson
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from ai_cache_extproc.config.rules import Rule
from ai_cache_extproc.config.scope import CREDENTIAL_HEADERS
from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.keys.canonical import canonical, parse
from ai_cache_extproc.keys.identity import Keyring, fingerprint, identify
from ai_cache_extproc.keys.parts import joined, split_target
from ai_cache_extproc.keys.scope import scope_of
from ai_cache_extproc.model import Bypass, Mode, Question, RequestHead

DEPTH_MAX = 32
RULE = Rule()
ANSWER_HEADERS = ("openai-beta", "openai-project")

words = st.text("ab=&:,\x00\n0é\U0001f600", max_size=4)
integers = st.integers(-(2**63), 2**64 - 1)
floats = st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | integers | floats | st.text(max_size=8)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4))
bodies = st.dictionaries(st.sampled_from(["model", "messages", "stream", "n", "user", ""]) | words, values, max_size=5)
credentials = st.dictionaries(st.sampled_from(CREDENTIAL_HEADERS), words, max_size=3)
fields = st.lists(
    st.tuples(st.sampled_from(["key", "Key", "%6bey", "a", "b"]), st.sampled_from(["", "1", "2"])), max_size=4
)


def same(left: object, right: object) -> bool:
    """Whether two parsed values are the same, types and the sign of zero included."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(value, right[key]) for key, value in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, float) and isinstance(right, float):
        return left == right and math.copysign(1, left) == math.copysign(1, right)
    return type(left) is type(right) and left == right


def path_of(query: list[tuple[str, str]]) -> str:
    """A `:path` with this query."""
    return "/v1/chat/completions" + ("?" if query else "") + "&".join(f"{name}={value}" for name, value in query)


def printed(body: dict[str, object], head: RequestHead | None = None) -> bytes:
    """The fingerprint of a chat request."""
    head = head or RequestHead("POST", "/v1/chat/completions", "api.example.com", {})
    question = Question("openai_chat", "m", Mode.JSON, parse(orjson.dumps(body), depth_max=DEPTH_MAX))
    return fingerprint(question, head, RULE, ANSWER_HEADERS)


@given(st.lists(st.binary(max_size=12)), st.lists(st.binary(max_size=12)))
@example([b""], [])
@example([b"\0" * 8], [b"", b""])
def test_joined_parts_can_be_told_apart(left: list[bytes], right: list[bytes]) -> None:
    """Two lists of parts give the same bytes only if they are the same list."""
    assert (left == right) is (joined(left) == joined(right))


@given(words, words, credentials, fields, words, words, credentials, fields)
def test_different_callers_never_share_a_scope(
    route: str,
    authority: str,
    headers: dict[str, str],
    query: list[tuple[str, str]],
    other_route: str,
    other_authority: str,
    other_headers: dict[str, str],
    other_query: list[tuple[str, str]],
) -> None:
    """Scopes are equal exactly where route, authority, and present credentials by name and value are."""
    rule = Rule(anonymous="shared")
    one = scope_of(RequestHead("POST", path_of(query), authority, headers, route), rule)
    two = scope_of(RequestHead("POST", path_of(other_query), other_authority, other_headers, other_route), rule)

    def who(route: str, authority: str, headers: dict[str, str], query: list[tuple[str, str]]) -> object:
        present = {name: value for name, value in headers.items() if value}
        return route, authority.lower(), present, [field for field in query if field[0] not in "ab" and field[1]]

    expected = who(route, authority, headers, query) == who(other_route, other_authority, other_headers, other_query)
    assert expected is (one == two)


@given(credentials, fields)
def test_who_shows_no_credential_is_in_no_scope(headers: dict[str, str], query: list[tuple[str, str]]) -> None:
    """A scope exists exactly where some credential has a value."""
    shown = any(headers.values()) or any(name not in "ab" and value for name, value in query)
    scope = scope_of(RequestHead("POST", path_of(query), "", headers), RULE)
    assert shown is not isinstance(scope, Bypass)


@given(bodies, bodies)
def test_bodies_share_a_fingerprint_only_if_they_are_the_same_but_for_stream(
    left: dict[str, object], right: dict[str, object]
) -> None:
    """The fingerprint of a body depends on everything in it except `stream`."""
    one, two = ({key: value for key, value in body.items() if key != "stream"} for body in (left, right))
    assert same(one, two) is (printed(left) == printed(right))
    assert printed(left) == printed(one)


@given(st.data(), bodies)
def test_spelling_does_not_change_a_fingerprint(data: st.DataObject, body: dict[str, object]) -> None:
    """Order of keys, blanks and escapes do not count."""
    items = data.draw(st.permutations(list(body.items())))
    spelled = json.dumps(
        dict(items), indent=data.draw(st.none() | st.integers(0, 3)), ensure_ascii=data.draw(st.booleans())
    )
    question = Question("openai_chat", "m", Mode.JSON, parse(spelled.encode(), depth_max=DEPTH_MAX))
    head = RequestHead("POST", "/v1/chat/completions", "api.example.com", {})
    assert printed(body) == fingerprint(question, head, RULE, ANSWER_HEADERS)


@given(st.data(), bodies)
def test_any_change_of_one_value_changes_the_fingerprint(data: st.DataObject, body: dict[str, object]) -> None:
    """Whichever field is changed, added or taken away."""
    names = [name for name in body if name != "stream"]
    assume(names)
    name = data.draw(st.sampled_from(names))
    changed = {**body, name: data.draw(values)}
    assume(not same(body[name], changed[name]))
    assert printed(body) != printed(changed)
    assert printed(body) != printed({key: value for key, value in body.items() if key != name})
    assert printed(body) != printed({**body, name + "x\x01": None})


@given(fields, fields)
def test_queries_share_a_fingerprint_only_if_no_upstream_can_tell_them_apart(
    left: list[tuple[str, str]], right: list[tuple[str, str]]
) -> None:
    """Credentials are out; of the rest, only the order between different names is free."""

    def read(query: list[tuple[str, str]]) -> list[tuple[str, str]]:
        kept = [(name, value) for name, value in query if name in "ab" or not value]
        return sorted(kept, key=lambda field: field[0] if field[0] in "ab" else "key")

    prints = [printed({}, RequestHead("POST", path_of(query), "", {})) for query in (left, right)]
    assert (read(left) == read(right)) is (prints[0] == prints[1])


@given(st.dictionaries(st.sampled_from(ANSWER_HEADERS), words), st.dictionaries(st.sampled_from(ANSWER_HEADERS), words))
def test_headers_that_change_answers_change_the_fingerprint(left: dict[str, str], right: dict[str, str]) -> None:
    """Name, value and presence of each count."""
    prints = [printed({}, RequestHead("POST", "/", "", {**headers, "accept": "x"})) for headers in (left, right)]
    assert (left == right) is (prints[0] == prints[1])


@given(st.text(max_size=30))
def test_no_path_is_too_odd(target: str) -> None:
    """Every path comes apart, and none of it is lost."""
    split = split_target(target, ("key",))
    path, mark, query = target.partition("?")
    given_fields = query.split("&") if mark else []
    assert path == split.path
    assert sorted(given_fields) == sorted([*split.query, *(f"{name}={value}" for name, value in split.credentials)])


@given(
    st.binary(max_size=60),
    st.binary(max_size=60),
    st.binary(min_size=32, max_size=64),
    st.binary(min_size=32, max_size=64),
)
def test_keys_meet_only_where_everything_meets(scope: bytes, other: bytes, secret: bytes, other_secret: bytes) -> None:
    """Scope, fingerprint and secret all go into the key, which is plain ASCII."""
    assume(secret.rstrip(b"\0") != other_secret.rstrip(b"\0"))
    ring, other_ring = (Keyring(secret=one, prefix="p:", epoch=0) for one in (secret, other_secret))
    print_of = bytes(32)
    identity = identify(ring, scope, print_of)
    assert identity.key.isascii()
    assert (scope == other) is (identity == identify(ring, other, print_of))
    assert identity.key != identify(other_ring, scope, print_of).key


spellings = st.sampled_from(
    ["1", "-0", "1.50", "15e-1", "1E400", "2" * 20, "0.1" + "0" * 20, "01", "NaN", "1e-7", "-1.0", "9" * 25]
)
texts = st.sampled_from(
    ['"a"', '"\\u0061"', '"\\ud800"', '"\\ud83d\\ude00"', '"\u00e9"', '"\x01"', '"b', "true", "null"]
)
blanks = st.sampled_from(["", "", "", " ", "\n", "\t", "\x0b", "\ufeff"])


@st.composite
def documents(draw: st.DrawFn) -> str:
    """Something like JSON, with what parsers differ on strewn in."""
    parts = st.recursive(
        spellings | texts,
        lambda inner: (
            st.lists(inner, max_size=3).map(lambda items: "[" + ",".join(items) + "]")
            | st.lists(st.tuples(texts, blanks, inner), max_size=3).map(
                lambda pairs: "{" + ",".join(f"{key}:{blank}{value}" for key, blank, value in pairs) + "}"
            )
        ),
        max_leaves=8,
    )
    return (
        draw(blanks)
        + "{"
        + '"k":'
        + draw(blanks)
        + draw(parts)
        + "}"
        + draw(blanks)
        + draw(st.sampled_from(["", "", "x"]))
    )


def no_constant(text: str) -> None:
    """What the standard library takes beside JSON."""
    raise ValueError(text)


def assert_read_alike(body: bytes) -> None:
    """Whatever is accepted, both independent parsers accept and read as we do."""
    try:
        value = parse(body, depth_max=DEPTH_MAX)
    except DialectError:
        return
    text = canonical(value)
    assert same(value, json.loads(body, parse_constant=no_constant))
    assert same(value, orjson.loads(body))
    assert same(value, parse(text, depth_max=DEPTH_MAX))
    assert text == canonical(parse(text, depth_max=DEPTH_MAX))


@given(documents())
def test_what_is_accepted_is_read_alike_by_others(document: str) -> None:
    """Two parsers that are not ours agree on every accepted body, and its canonical form reads back the same."""
    assert_read_alike(document.encode("utf-8", "surrogatepass"))


@given(st.binary(max_size=40), st.sampled_from([b"", b'{"a":']), st.sampled_from([b"", b"}"]))
def test_bytes_at_random_are_refused_or_read_alike(noise: bytes, before: bytes, after: bytes) -> None:
    """Whatever arrives, the outcome is a value or a DialectError."""
    assert_read_alike(before + noise + after)


@given(bodies)
def test_every_plain_body_is_accepted(body: dict[str, object]) -> None:
    """A body within the limits is never refused, with blanks or without."""
    for spelled in (orjson.dumps(body), json.dumps(body).encode()):
        assert same(body, parse(spelled, depth_max=DEPTH_MAX))


@given(bodies, st.data())
def test_a_repeated_key_is_found_wherever_it_stands(body: dict[str, object], data: st.DataObject) -> None:
    """With whatever values, the same or not."""
    key, first, second = data.draw(words), data.draw(values), data.draw(values)
    twice = f"{{{json.dumps(key)}:{json.dumps(first)},{json.dumps(key, ensure_ascii=False)}:{json.dumps(second)}}}"
    spelled = json.dumps({**body, "here": "<>"}).replace('"<>"', twice)
    with pytest.raises(DialectError) as caught:
        parse(spelled.encode(), depth_max=DEPTH_MAX)
    assert "duplicate_key" == caught.value.reason


@given(floats)
def test_every_double_survives(number: float) -> None:
    """A number in Python's shortest spelling, or with all its 17 digits where they are exact, is taken."""
    assert repr(number) == repr(parse(f'{{"a": {number!r}}}'.encode(), depth_max=2)["a"])


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_a_number_is_taken_exactly_if_a_double_keeps_it(number: Decimal) -> None:
    """Accepted means that the shortest spelling of the double is the same decimal number."""
    text = str(number).replace("E+", "e")
    assume(any(mark in text.lower() for mark in ".e") and len(text) < 64)
    read, reason = None, ""
    try:
        read = parse(f'{{"a": {text}}}'.encode(), depth_max=2)["a"]
    except DialectError as error:
        reason = error.reason
    kept = Decimal(repr(float(text))) == number
    assert (kept, "" if kept else "number") == (read is not None, reason)
