"""Whether a text is valid JSON in gjson's eyes: to any depth, with halves of surrogate pairs, and beyond UTF-8."""

from __future__ import annotations

import re
from enum import Enum, auto

import orjson

from ai_cache_extproc.paths.gjson.raw import run_end
from ai_cache_extproc.paths.gjson.work import Work

_ELEMENTS_SHIFT = 2
_STRING_BYTES = 4096
_ESCAPE_BYTES = 6
_BLANKS = re.compile(rb"[ \t\n\r]*+")
_IN_SCALAR = re.compile(rb"[-+.0-9A-Za-z]*+")
_SCALAR = re.compile(rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?|true|false|null")
_IN_STRING = re.compile(rb'(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+')


class _Next(Enum):
    """What may come next."""

    VALUE = auto()
    VALUE_OR_END = auto()
    KEY = auto()
    KEY_OR_END = auto()
    COLON = auto()
    AFTER_VALUE = auto()


_VALUES = (_Next.VALUE, _Next.VALUE_OR_END)
_KEYS = (_Next.KEY, _Next.KEY_OR_END)


def is_valid(text: bytes, work: Work) -> bool:
    """Whether the whole of `text` is one value. Raises PathBudget."""
    work.read(0, len(text))
    # What takes orjson's time is how many values it makes.
    values = text.count(b",") + text.count(b"[") + text.count(b"{")
    work.read(values >> _ELEMENTS_SHIFT, len(text))
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        # It refuses more than gjson does.
        return _is_valid_by_hand(text, work)
    return True


def _is_valid_by_hand(text: bytes, work: Work) -> bool:
    at, expected = 0, _Next.VALUE
    brackets = bytearray()
    while True:
        work.spend(4)
        at = run_end(_BLANKS, text, at, work)
        sign = text[at : at + 1]
        if expected is _Next.AFTER_VALUE and not brackets:
            return not sign
        following = _following(expected, sign, brackets)
        if following is None:
            return False
        expected = following
        at = at + 1 if sign in b"{}[]:," else _plain_end(text, at, work)
        if at < 0:
            return False


def _following(expected: _Next, sign: bytes, brackets: bytearray) -> _Next | None:
    """What may come after what begins with `sign`; opens and closes brackets. None where it may not stand."""
    match sign:
        case b"[" | b"{" if expected in _VALUES:
            brackets += sign
            return _Next.VALUE_OR_END if sign == b"[" else _Next.KEY_OR_END
        case b"]" if expected in {_Next.VALUE_OR_END, _Next.AFTER_VALUE} and brackets.endswith(b"["):
            brackets.pop()
            return _Next.AFTER_VALUE
        case b"}" if expected in {_Next.KEY_OR_END, _Next.AFTER_VALUE} and brackets.endswith(b"{"):
            brackets.pop()
            return _Next.AFTER_VALUE
        case b":" if expected is _Next.COLON:
            return _Next.VALUE
        case b"," if expected is _Next.AFTER_VALUE:
            return _Next.KEY if brackets.endswith(b"{") else _Next.VALUE
        case b"{" | b"}" | b"[" | b"]" | b":" | b"," | b"":
            return None
        case b'"' if expected in _KEYS:
            return _Next.COLON
        case _:
            return _Next.AFTER_VALUE if expected in _VALUES else None


def _plain_end(text: bytes, at: int, work: Work) -> int:
    """The end of the string, number or literal at `at`; negative where it is none."""
    if text[at : at + 1] == b'"':
        return _string_end(text, at + 1, work)
    end = run_end(_IN_SCALAR, text, at, work)
    return end if _SCALAR.fullmatch(text, at, end) else -1


def _string_end(text: bytes, at: int, work: Work) -> int:
    while True:
        match = _IN_STRING.match(text, at, at + _STRING_BYTES)
        assert match is not None
        work.search(1, match.end() - at)
        end = match.end()
        if text[end : end + 1] == b'"':
            return end + 1
        # Else the search stopped at the end of what it may look at, perhaps before half an escape.
        if end + _ESCAPE_BYTES <= at + _STRING_BYTES or end == at:
            return -1
        at = end
