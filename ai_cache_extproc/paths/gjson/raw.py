"""JSON text read one value at a time, without asking whether the whole is valid, as gjson does.

Nothing here loops over characters in Python: each step is one search in C, over a bounded stretch, and paid for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ai_cache_extproc.paths.gjson.value import NOTHING, Kind, Value
from ai_cache_extproc.paths.gjson.work import Work

SPACES = bytes(range(0x21))
"""What gjson skips as white space: every byte up to the blank."""

# How many bytes one search may take: a longer run is read in several, so that the budget is asked in between.
_RUN_BYTES = 4096
_TOKENS_BYTES = 512
_PLAIN_BYTES = 65_536
_QUOTE, _BACKSLASH = b'"', b"\\"
_SIGNS = b'"[]{}()'
_HEADS = rb'"{\[ntf+\-0-9iIN'
_SPACES = re.compile(rb"[\x00-\x20]*+")
_NOT_A_VALUE = re.compile(rb"[^%b]*+" % _HEADS)
_NOT_AN_ELEMENT = re.compile(rb"[^%b\]]*+" % _HEADS)
_NOT_A_KEY = re.compile(rb'[^"}]*+')
_IN_STRING = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_IN_NUMBER = re.compile(rb"[^\x00-\x20,\]}]*+")
_IN_LITERAL = re.compile(rb"[a-z]*+")
# Long strings are not for this pattern: it would read them and give up at their length.
_TO_BRACKETS = re.compile(
    rb'(?:[^"()\[\]{}]++|"[^"\\]{0,99}+(?:\\.[^"\\]{0,99}+)*+")*+(?:([(\[{]++)|([)\]}]++))?',
    re.DOTALL,
)
# Nearly every value is short and plain, and found whole in one search; each group is a kind.
_PLAIN_VALUE = rb'(?:("[^"\\]*+")|([+\-0-9iIN][^\x00-\x20,\]}]*+)|(t[a-z]*+)|(f[a-z]*+)|(nu[a-z]*+))?'
_VALUE = re.compile(_NOT_A_VALUE.pattern + _PLAIN_VALUE)
_ELEMENT = re.compile(_NOT_AN_ELEMENT.pattern + _PLAIN_VALUE)
_MEMBER = re.compile(rb'[^"}]*+"([^"\\]*+)"' + _VALUE.pattern)
_KINDS = {
    **dict.fromkeys(b"+-0123456789iIN", Kind.NUMBER),
    **dict.fromkeys(b"{[", Kind.JSON),
    ord("n"): Kind.NULL,
    ord("t"): Kind.TRUE,
    ord("f"): Kind.FALSE,
    ord('"'): Kind.STRING,
}
_KINDS_OF_GROUPS = (Kind.STRING, Kind.NUMBER, Kind.TRUE, Kind.FALSE, Kind.NULL)


Span = tuple[Kind | None, int, int]
"""Where a value stands: its kind, begin and end. Without a kind there is none, and the search for it ended at begin.

The end of an object or array is not looked for, and given as its begin. The end of a string that has none is negative.
"""


def string_end(text: bytes, start: int, work: Work) -> int:
    """The end of a string whose inside begins at `start`, past its quote; negative if it has none."""
    while True:
        quote = text.find(_QUOTE, start)
        work.copy(2, (len(text) if quote < 0 else quote) - start)
        if quote < 0:
            return -1
        if quote == start or text[quote - 1] != _BACKSLASH[0] or _backslashes(text, start, quote, work) % 2 == 0:
            return quote + 1
        # Where one quote is escaped, others are: go on by pattern for a while. `start` is never inside an escape.
        match = _IN_STRING.match(text, quote + 1, quote + 1 + _TOKENS_BYTES)
        assert match is not None
        work.search(2, match.end() - quote)
        start = match.end()


def _backslashes(text: bytes, start: int, end: int, work: Work) -> int:
    """How many backslashes stand directly before `end`, counted back to `start`."""
    width = 16
    while True:
        work.search(1, width)
        tail = text[max(start, end - width) : end]
        count = len(tail) - len(tail.rstrip(_BACKSLASH))
        if count < width:
            return count
        width *= 16


def container_end(text: bytes, start: int, work: Work) -> int:
    """The end of what opens at `start`, by counting brackets of any kind outside strings.

    The end of the text if nothing closes it, and one more if a string in it has no end.
    """
    depth, at, size = 1, start + 1, len(text)
    while at < size:
        match = _TO_BRACKETS.match(text, at, at + _TOKENS_BYTES)
        assert match is not None
        work.search(3, match.end() - at)
        at = match.end()
        if match.lastindex is None:
            # A string that the pattern leaves alone, or a long row of numbers.
            work.spend(2)
            at = string_end(text, at + 1, work) if text[at : at + 1] == _QUOTE else _plain_end(text, at, work)
            if at < 0:
                return size + 1
            continue
        length = at - match.start(match.lastindex)
        if match.lastindex == 1:
            depth += length
        elif length < depth:
            depth -= length
        else:
            return at - length + depth
    return size


def _plain_end(text: bytes, start: int, work: Work) -> int:
    """How far, at least, neither a string nor a bracket stands."""
    end = min(start + _PLAIN_BYTES, len(text))
    for sign in _SIGNS:
        found = text.find(sign, start, end)
        end = end if found < 0 else found
    work.copy(5, 4 * (end - start))
    return end


def run_end(pattern: re.Pattern[bytes], text: bytes, start: int, work: Work) -> int:
    """Where the run of `pattern`, any number of single bytes, ends. Raises PathBudget."""
    while True:
        match = pattern.match(text, start, start + _RUN_BYTES)
        assert match is not None
        end = match.end()
        work.search(1, end - start)
        if end < start + _RUN_BYTES:
            return end
        start = end


def next_span(text: bytes, at: int, work: Work, *, in_array: bool = False) -> Span:
    """Where the next value from `at` on stands, whatever stands before it; in an array nothing but a `]`."""
    limit = at + _TOKENS_BYTES
    match = (_ELEMENT if in_array else _VALUE).match(text, at, limit)
    assert match is not None
    work.search(4, match.end() - at)
    if match.lastindex is not None and match.end() < limit:
        return _KINDS_OF_GROUPS[match.lastindex - 1], match.start(match.lastindex), match.end()
    start = match.start(match.lastindex) if match.lastindex is not None else match.end()
    if start == limit:
        start = run_end(_NOT_AN_ELEMENT if in_array else _NOT_A_VALUE, text, start, work)
    return span_at(text, start, work)


def span_at(text: bytes, at: int, work: Work) -> Span:
    """The value that begins right at `at`."""
    kind = _KINDS.get(text[at]) if at < len(text) else None
    if kind is None:
        return None, at, at
    if kind is Kind.STRING:
        return kind, at, string_end(text, at + 1, work)
    if kind is Kind.JSON:
        return kind, at, at
    if kind is Kind.NULL and text[at + 1 : at + 2] not in {b"u", b""}:
        # `nan` begins like `null`.
        kind = Kind.NUMBER
    return kind, at, run_end(_IN_NUMBER if kind is Kind.NUMBER else _IN_LITERAL, text, at + 1, work)


def next_member(text: bytes, at: int, work: Work) -> tuple[bytes, bool, Span]:
    """The next member from `at` on: its key's inside, whether that has escapes, and where its value stands.

    There is none where the value has no kind: the object ends there.
    """
    limit = at + _TOKENS_BYTES
    match = _MEMBER.match(text, at, limit)
    if match is None:
        return _long_member(text, at, work)
    work.search(4, match.end() - at)
    group = match.lastindex or 1
    if group > 1 and match.end() < limit:
        return match[1], False, (_KINDS_OF_GROUPS[group - 2], match.start(group), match.end())
    start = match.start(group) if group > 1 else match.end()
    if start == limit:
        start = run_end(_NOT_A_VALUE, text, start, work)
    return match[1], False, span_at(text, start, work)


def _long_member(text: bytes, at: int, work: Work) -> tuple[bytes, bool, Span]:
    """The same for a key with escapes, a long one, or none."""
    quote = run_end(_NOT_A_KEY, text, at, work)
    if text[quote : quote + 1] != _QUOTE:
        return b"", False, (None, quote + 1, quote + 1)
    end = string_end(text, quote + 1, work)
    if end < 0:
        return b"", False, (None, len(text), len(text))
    work.copy(4, 2 * (end - quote))
    key = text[quote + 1 : end - 1]
    return key, _BACKSLASH in key, span_at(text, run_end(_NOT_A_VALUE, text, end, work), work)


def parse(text: bytes, work: Work) -> Value:
    """The value that a text begins with. An object or array is all that follows, to the end of the text."""
    work.copy(2, len(text))
    at = run_end(_SPACES, text, 0, work)
    if text[at : at + 1] in {b"{", b"["}:
        return Value(Kind.JSON, text[at:])
    kind, _, end = span_at(text, at, work)
    if kind is None:
        return NOTHING
    return Value(kind, text[at:], closed=False) if end < 0 else Value(kind, text[at:end])


def next_value(text: bytes, at: int, work: Work) -> tuple[Value, int] | None:
    """The next value from `at` on, whatever stands before it, and its end."""
    kind, start, end = next_span(text, at, work)
    if kind is Kind.JSON:
        end = container_end(text, start, work)
    if kind is None or end < 0:
        return None
    work.copy(3, end - start)
    return Value(kind, text[start:end]), end


def elements(array: bytes, work: Work) -> Iterator[Value]:
    """The elements of an array, as modifiers see them: not its closing bracket ends them, but the text."""
    at = 1
    while found := next_value(array, at, work):
        value, end = found
        yield value
        at = end + 1


def members(object: bytes, work: Work) -> Iterator[tuple[Value, Value]]:
    """The members of an object, key and value, as modifiers see them: to the end of the text."""
    at = 1
    while (quote := object.find(_QUOTE, at)) >= 0:
        end = string_end(object, quote + 1, work)
        found = None if end < 0 else next_value(object, end, work)
        if found is None:
            return
        value, after = found
        yield Value(Kind.STRING, object[quote:end]), value
        at = after + 1
