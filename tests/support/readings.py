"""How four parsers read one body: ours, the standard library's, orjson's, and GJSON on the bytes themselves."""

from __future__ import annotations

import json
import math
from typing import Never

import orjson

from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.keys.canonical import canonical, parse
from ai_cache_extproc.paths import compile_path

DEPTH_MAX = 128


def same(left: object, right: object) -> bool:
    """Whether two parsed values are the same, types and the sign of zero included."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(value, right[key]) for key, value in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, float) and isinstance(right, float):
        return left == right and math.copysign(1, left) == math.copysign(1, right)
    return type(left) is type(right) and left == right


def _no_constant(text: str) -> Never:
    raise ValueError(text)


def first_wins(body: bytes) -> object:
    """As a parser reads that keeps the first of two members with one name."""
    return json.loads(body, parse_constant=_no_constant, object_pairs_hook=lambda pairs: dict(reversed(pairs)))


def keyed(body: bytes) -> dict[str, object] | None:
    """What a body is keyed by; None where it is bypassed. Anything but a DialectError is a fault."""
    try:
        return parse(body, depth_max=DEPTH_MAX)
    except DialectError:
        return None


def assert_one_reading(body: bytes) -> bool:
    """Assert that a body is bypassed, or read alike by everyone; whether it was keyed."""
    value = keyed(body)
    if value is None:
        return False
    assert same(value, json.loads(body, parse_constant=_no_constant))
    assert same(value, first_wins(body))
    assert same(value, orjson.loads(body))
    text = canonical(value)
    assert same(value, keyed(text))
    for name, member in value.items():
        if name:
            assert_found_alike(body, value, name, member)
    return True


def assert_found_alike(body: bytes, value: dict[str, object], name: str, member: object) -> None:
    """Assert that a path leads to the member in the bytes as they came, and to the same in what was parsed of them."""
    path = compile_path(_escaped(name))
    in_text, in_tree = path.find(body), path.find(body, value)
    assert in_text is not None, name
    assert in_tree is not None, name
    assert same(member, json.loads(in_text.raw)), name
    assert (in_text.string, in_text.raw) == (in_tree.string, in_tree.raw), name


def _escaped(name: str) -> str:
    """The name as a path that means nothing else."""
    return "".join(f"\\{letter}" if letter.isascii() and not letter.isalnum() else letter for letter in name)
