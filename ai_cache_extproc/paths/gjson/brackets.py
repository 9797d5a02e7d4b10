"""Where the parts of a path end that stand in brackets: queries, multipaths, arguments, and the pipe behind them.

The brackets of a path are counted in three slightly different ways; they are gjson's, and results depend on them.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ai_cache_extproc.paths.gjson.raw import SPACES, container_end, string_end
from ai_cache_extproc.paths.gjson.work import unlimited

_OPENING, _CLOSING = (b"(", b"[", b"{"), (b")", b"]", b"}")
_TOKEN = re.compile(rb'\\.|"(?:[^"\\]++|\\.)*+"?|.', re.DOTALL)
_OPERATORS = (b"!=", b"!%", b"<=", b">=", b"==", b"<", b">", b"=", b"%")
_OPERATOR_SIGNS = (b"!", b"=", b"<", b">", b"%")
_OPENS_ARGUMENT = re.compile(rb'[|{\["(]')


def bracket_end(text: bytes, start: int) -> int:
    """The end of what opens at `start`, a bracket or a quote; the end of the text if nothing closes it."""
    if text[start : start + 1] != b'"':
        return min(container_end(text, start, unlimited()), len(text))
    end = string_end(text, start + 1, unlimited())
    return len(text) if end < 0 else end


def nesting(text: bytes) -> int:
    """How many brackets of a path are open at once."""
    depth = most = 0
    for token in _TOKEN.finditer(text):
        if token[0] in _OPENING:
            depth += 1
            most = max(most, depth)
        elif token[0] in _CLOSING:
            depth = max(0, depth - 1)
    return most


class QueryText(NamedTuple):
    """A query cut up. end: past its closing bracket. escaped: whether a backslash stands in one of its strings."""

    path: bytes
    operator: bytes
    operand: bytes
    end: int
    escaped: bool


def split_query(text: bytes) -> QueryText | None:
    """Cut up the query that `text` begins with, `#(` or `#[`; None if its brackets do not close."""
    depth, operator_at, escaped = 1, 0, False
    for token in _TOKEN.finditer(text, 2):
        sign = token[0]
        if depth == 1 and not operator_at and sign in _OPERATOR_SIGNS:
            operator_at = token.start()
        elif sign in {b"(", b"["}:
            depth += 1
        elif sign in {b")", b"]"}:
            depth -= 1
            if depth == 0:
                return _query(text, operator_at or token.start(), token.start(), escaped)
        elif sign.startswith(b'"'):
            escaped = escaped or b"\\" in sign
    return None


def _query(text: bytes, operator_at: int, close: int, escaped: bool) -> QueryText:
    path, rest = text[2:operator_at].strip(SPACES), text[operator_at:close].strip(SPACES)
    operator = next((known for known in _OPERATORS if rest.startswith(known)), rest if len(rest) == 1 else b"")
    return QueryText(
        path=path,
        operator=b"=" if operator == b"==" else operator,
        operand=rest[len(operator) :].strip(SPACES),
        end=close + 1,
        escaped=escaped,
    )


class SelectorText(NamedTuple):
    """One of a multipath's paths. name: as written before its colon, empty if there is none."""

    name: bytes
    path: bytes


def split_selectors(text: bytes) -> tuple[list[SelectorText], bytes] | None:
    """The paths of the multipath that `text` begins with, and what follows it; None if its brackets do not close."""
    selectors: list[SelectorText] = []
    depth, start, colon, modifier = 1, 1, 0, False
    for token in _TOKEN.finditer(text, 1):
        sign, at = token[0], token.start()
        if sign in _OPENING:
            depth += 1
        elif sign in _CLOSING:
            depth -= 1
        elif depth == 1 and sign == b":" and not modifier and not colon:
            colon = at
        elif sign == b"@" and text[at - 1 : at] in {b".", b"|"}:
            # The colon after it begins the modifier's argument.
            modifier = True
        if depth == 0 or (depth == 1 and sign == b","):
            selectors.append(SelectorText(text[start : max(start, colon)], text[colon + 1 if colon else start : at]))
            start, colon, modifier = at + 1, 0, False
        if depth == 0:
            return selectors, text[at + 1 :]
    return None


def argument_end(text: bytes) -> int:
    """Where a modifier's argument, with which `text` begins, ends: with its bracket or string, else at a pipe."""
    if text[:1] in {b"{", b"[", b'"'}:
        return bracket_end(text, 0)
    at = 0
    while (found := _OPENS_ARGUMENT.search(text, at)) and found[0] != b"|":
        at = bracket_end(text, found.start())
    return found.start() if found else len(text)


def split_at_pipe(text: bytes) -> tuple[bytes, bytes] | None:
    """What stands before and after the first `|` that is not inside brackets; None if there is none.

    This is for what follows `#.` and `#(...).`: it is done for each element, the rest once for all of them.
    """
    if text.startswith(b"{"):
        end = bracket_end(text, 1) if b"|" in text else len(text)
        return (text[:end], text[end + 1 :]) if text[end : end + 1] == b"|" else None
    at = 0
    while at < len(text):
        match text[at : at + 1]:
            case b"|":
                return text[:at], text[at + 1 :]
            case b"\\":
                at += 2
            case b"." if at == len(text) - 1:
                return None
            case b"." if text[at + 1 : at + 2] == b"#":
                # What follows the `#` is passed over unseen, even a pipe.
                at = _selection_end(text, at + 2)
            case _:
                at += 1
    return None


def _selection_end(text: bytes, start: int) -> int:
    pair = {b"(": b")", b"[": b"]"}
    opening = text[start : start + 1]
    if opening not in pair:
        return start + 1
    depth = 1
    for token in _TOKEN.finditer(text, start + 1):
        if token[0] == opening:
            depth += 1
        elif token[0] == pair[opening]:
            depth -= 1
        if depth == 0:
            return token.end()
    return len(text)


def last_name(path: bytes) -> bytes:
    """The last part of a path, by which its value is called."""
    for at in range(len(path) - 1, -1, -1):
        if path[at] in b".|" and path[at - 1 : at] != b"\\":
            return path[at + 1 :]
    return path
