"""JSON bodies on which parsers differ: good ones, mutated in the ways that have divided parsers before."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

Mutation = Callable[[bytes, random.Random], bytes]

SEEDS: tuple[dict[str, object], ...] = (
    {"model": "m", "messages": [{"role": "user", "content": "What is a star?"}], "temperature": 0.5, "seed": 7},
    {"model": "m", "messages": [{"role": "system", "content": 'a"b\\c'}, {"role": "user", "content": "é\U0001f600\n"}]},
    {"model": "m", "input": [[1, 2, 3], [4.5, -0.0, 1e300]], "user": "", "n": 1, "stream": True, "tools": []},
    {"a": {"b": {"c": [{"d": None}, {"e": False}, {}]}}, "A": 1, "a.b": 2, "": 3, "0": 4},
)
NUMBERS = (
    "0", "-0", "-0.0", "1.0", "1e0", "1E+2", "01", "+1", ".5", "5.", "1e", "0x10", "1_000", "NaN", "Infinity", "-Infinity",
    "9007199254740993", "18446744073709551615", "18446744073709551616", "-9223372036854775809", "1e309", "1e-400",
    "123456789012345678901234567890", "0.1000000000000000055511151231257827", "4.9e-324", "2.2250738585072011e-308",
)  # fmt: skip
TOKENS = (
    b'"', b"\\", b'\\"', b"\\u0000", b"\\ud800", b"\\udc00", b"\\ud83d\\ude00", b"\\u002e", b"\\/", b"\\x41", b"\\u00e9",
    b"{", b"}", b"[", b"]", b",", b":", b"\x00", b"\x01", b"\x0b", b"\x0c", b"\x1f", b"\x7f", b"\x80", b"\xff", b"\xc0\xaf",
    b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xef\xbb\xbf", b"\xc2\xa0", b"\xe2\x80\xa8", b" ", b"\t", b"\r\n", b"//", b"/*",
    b"#", b"'", b"true", b"True", b"null", b"undefined", b'"a":1,', b"{}", b"[]", b'{"a":1}',
)  # fmt: skip


def spelled(value: dict[str, object], chance: random.Random) -> bytes:
    """A good body in one of its spellings."""
    text = json.dumps(
        value,
        ensure_ascii=chance.random() < 0.5,
        separators=chance.choice([(",", ":"), (", ", ": "), (" ,\n", "\t: ")]),
    )
    return text.encode("utf-8", "surrogatepass")


def _again(body: bytes, chance: random.Random) -> bytes:
    """Put a member in front of an object, under a name that may be there already, in another spelling even."""
    at = chance.choice([index for index, byte in enumerate(body) if byte == 0x7B] or [0])
    name = chance.choice(['"model"', '"messages"', '"\\u006dodel"', '"a"', '""', '"stream"', '"\\u0061"', '"A"'])
    value = chance.choice(["1", '"x"', "null", "[]", "{}"])
    return body[: at + 1] + f"{name}:{value},".encode() + body[at + 1 :]


def _number(body: bytes, chance: random.Random) -> bytes:
    """Put another number in the place of one."""
    places = [index for index, byte in enumerate(body) if chr(byte).isdigit()]
    if not places:
        return body
    at = chance.choice(places)
    return body[:at] + chance.choice(NUMBERS).encode() + body[at + 1 :]


def _token(body: bytes, chance: random.Random) -> bytes:
    """Insert what divides parsers, anywhere."""
    at = chance.randrange(len(body) + 1)
    return body[:at] + chance.choice(TOKENS) + body[at:]


def _lost(body: bytes, chance: random.Random) -> bytes:
    """Lose a few bytes."""
    at = chance.randrange(len(body) + 1)
    return body[:at] + body[at + chance.randint(1, 4) :]


def _flipped(body: bytes, chance: random.Random) -> bytes:
    """Change one byte."""
    if not body:
        return body
    at = chance.randrange(len(body))
    return body[:at] + bytes([chance.randrange(256)]) + body[at + 1 :]


def _around(body: bytes, chance: random.Random) -> bytes:
    """Put something before or behind."""
    extra = chance.choice(TOKENS)
    return extra + body if chance.random() < 0.5 else body + extra


def _encoded(body: bytes, chance: random.Random) -> bytes:
    """Another encoding."""
    text = body.decode("utf-8", "replace")
    return text.encode(chance.choice(["utf-16", "utf-16-be", "utf-32", "latin-1", "utf-8-sig"]), "replace")


def _nested(body: bytes, chance: random.Random) -> bytes:
    """Wrap it in brackets, a few or many."""
    levels = chance.choice([1, 3, 200, 300])
    return b'{"a":' * levels + body + b"}" * chance.choice([levels, levels, levels - 1])


def _doubled(body: bytes, _chance: random.Random) -> bytes:
    """Two bodies, one behind the other."""
    return body + body


MUTATIONS: tuple[Mutation, ...] = (
    _again, _again, _number, _number, _token, _token, _token, _lost, _flipped, _around, _encoded, _nested, _doubled,
)  # fmt: skip


def hostile(chance: random.Random) -> bytes:
    """A body that was good, mutated up to four times; sometimes not at all."""
    body = spelled(chance.choice(SEEDS), chance)
    for _ in range(chance.choice([0, 1, 1, 1, 2, 2, 3, 4])):
        body = chance.choice(MUTATIONS)(body, chance)
    return body
