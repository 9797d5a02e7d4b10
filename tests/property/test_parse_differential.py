"""No body is keyed in one way and read in another: hostile bodies are bypassed, or every parser reads them alike."""

from __future__ import annotations

import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.hostile import MUTATIONS, hostile
from tests.support.readings import assert_one_reading, keyed
from tests.support.soak import either


@settings(max_examples=either(500, 20_000), deadline=None)
@given(st.randoms(use_true_random=False))
def test_a_hostile_body_is_bypassed_or_read_alike(chance: random.Random) -> None:
    """By the standard library, by who keeps the first of two members, by orjson, and by GJSON on the bytes themselves."""
    assert_one_reading(hostile(chance))


def test_many_hostile_bodies_from_one_seed() -> None:
    """The same on every machine, and with enough of both kinds: bodies that are keyed, and bodies that are not."""
    chance = random.Random(20)
    count = either(3_000, 200_000)
    kept = sum(assert_one_reading(hostile(chance)) for _ in range(count))
    assert 0.1 < kept / count < 0.6


@settings(deadline=None)
@given(st.binary(max_size=80))
@example(b'{"a":1,"a":1}')
@example(b'{"a":1,"\\u0061":2}')
@example(b'{"a": 1, "b": {"c": 1, "c": 2}}')
@example(b'{"seed":123456789012345678901234567890}')
@example(b'\xef\xbb\xbf{"a":1}')
@example(b'{"a":1}{"a":2}')
@example(b'{"a":"\xff"}')
def test_bytes_are_bypassed_or_read_alike(body: bytes) -> None:
    """Whatever arrives."""
    assert_one_reading(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"messages":["a"],"messages":["b"]}',
        b'{"messages": ["a"], "messages": ["b"]}',
        b'{"messages":["a"],"\\u006dessages":["b"]}',
        b'{"seed":123456789012345678901234567890}',
        b'{"seed":-9223372036854775809}',
        b'{"temperature":0.1000000000000000055511151231257827}',
        b'{"n":NaN}',
        b'\xef\xbb\xbf{"n":1}',
        b'{"n":1}{"n":2}',
        b'{"n":1} x',
        b'{"n":"\xff"}',
        b'{"n":"\\ud800"}',
    ],
    ids=[
        "two members",
        "two members with blanks",
        "two spellings of one name",
        "big integer",
        "integer below 64 bits",
        "more digits than a double has",
        "NaN",
        "BOM",
        "two bodies",
        "trailing text",
        "invalid UTF-8",
        "half a surrogate pair",
    ],
)
def test_what_parsers_differ_on_is_bypassed(body: bytes) -> None:
    """Each difference that has divided two parsers of our kind."""
    assert keyed(body) is None


def test_each_mutation_changes_something() -> None:
    """A generator whose mutations do nothing would prove nothing."""
    chance = random.Random(1)
    body = b'{"model":"m","n":1}'
    for mutation in set(MUTATIONS):
        assert any(mutation(body, chance) != body for _ in range(20)), mutation.__name__
