"""As much of GraphQL as Weaviate's `Get` and `Aggregate` queries take, for the stand-in."""

from __future__ import annotations

import re
from typing import Any

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|[A-Za-z_]\w*|[{}\[\]():]')


def aggregated(query: str) -> str:
    """The class of `{ Aggregate { NAME { meta { count } } } }`."""
    words = _TOKEN.findall(query)
    assert words == ["{", "Aggregate", "{", words[3], "{", "meta", "{", "count", "}", "}", "}", "}"], query
    return str(words[3])


def got(query: str) -> tuple[str, dict[str, Any], list[str]]:
    """The class, the arguments and the properties of `{ Get { NAME(...) { ... _additional { id distance } } } }`."""
    words = _TOKEN.findall(query)
    assert words[:3] == ["{", "Get", "{"], query
    assert words[4] == "(", query
    arguments, at = _members(words, 5, ")")
    fields = words[at + 1 : words.index("_additional")]
    assert words[at] == "{", query
    end = words.index("_additional")
    assert words[end:] == ["_additional", "{", "id", "distance", "}", "}", "}", "}"], query
    return str(words[3]), arguments, fields


def _members(words: list[str], at: int, closing: str) -> tuple[dict[str, Any], int]:
    members: dict[str, Any] = {}
    while words[at] != closing:
        assert words[at + 1] == ":", words[at : at + 3]
        members[words[at]], at = _value(words, at + 2)
    return members, at + 1


def _value(words: list[str], at: int) -> tuple[Any, int]:
    word = words[at]
    if word == "{":
        return _members(words, at + 1, "}")
    if word == "[":
        values, at = [], at + 1
        while words[at] != "]":
            value, at = _value(words, at)
            values.append(value)
        return values, at + 1
    if word.startswith('"'):
        return word[1:-1], at + 1
    if re.fullmatch(r"-?\d+", word):
        return int(word), at + 1
    # An enumeration's word stands without quotes.
    return (word if word[0].isalpha() else float(word)), at + 1
