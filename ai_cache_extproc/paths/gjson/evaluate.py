"""A path walked through JSON text: the slow, exact way, as gjson goes.

Nothing is parsed beforehand and nothing validated; what a search finds in broken text is what gjson finds there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ai_cache_extproc.paths.gjson import modifiers
from ai_cache_extproc.paths.gjson.raw import (
    Span,
    container_end,
    elements,
    members,
    next_member,
    next_span,
    next_value,
    parse,
    run_end,
)
from ai_cache_extproc.paths.gjson.strings import unescaped
from ai_cache_extproc.paths.gjson.syntax import (
    Count,
    Each,
    Element,
    Lines,
    Literal,
    Member,
    Modifier,
    Multipath,
    Path,
    Select,
    Walk,
)
from ai_cache_extproc.paths.gjson.value import NOTHING, Kind, Value
from ai_cache_extproc.paths.gjson.work import Work

_DIG = b"dig"
_NO_CONTAINER = re.compile(rb"[^\[{]*+")
_BLANKS = b" \t\r\n"
_GET_STEPS = 6


class Search:
    """What the walk through one text has come to. Mutable. pipe: a search in `value` that is still to be made."""

    __slots__ = ("pipe", "value", "work")

    def __init__(self, work: Work) -> None:
        self.value = NOTHING
        self.pipe: Path | None = None
        self.work = work


def get(text: bytes, path: Path, work: Work) -> Value:
    """What a path leads to in a text. Raises PathBudget."""
    work.enter()
    rest: Path | None = path
    value = NOTHING
    while rest is not None:
        work.spend(_GET_STEPS)
        begin = rest.begin
        match begin:
            case Walk() | Lines():
                search = Search(work)
                _walk(text, begin, search)
                value, rest = search.value, search.pipe
                text = value.raw
                continue
            case Modifier():
                text = _modified(text, begin, work)
            case Literal():
                text = begin.text
            case Multipath():
                text = _gathered(text, begin, work)
        rest = begin.rest
        if rest is None:
            value = Value(Kind.JSON, text) if isinstance(begin, Multipath) else parse(text, work)
    work.leave()
    return value


def _modified(text: bytes, modifier: Modifier, work: Work) -> bytes:
    if modifier.name == _DIG:
        return b"[%b]" % b",".join(value.raw for value in _everywhere(parse(text, work), modifier.path, work))
    return modifiers.apply(modifier.name, text, modifier.argument, work)


def _everywhere(value: Value, path: Path, work: Work) -> Iterator[Value]:
    """What a path leads to in a value and in all that is inside it."""
    found = get(value.raw, path, work)
    if found.exists:
        yield found
    work.enter()
    if value.is_array:
        for element in elements(value.raw, work):
            yield from _everywhere(element, path, work)
    elif value.is_object:
        for _, member in members(value.raw, work):
            yield from _everywhere(member, path, work)
    work.leave()


def _gathered(text: bytes, multipath: Multipath, work: Work) -> bytes:
    found: list[bytes] = []
    for selector in multipath.selectors:
        value = get(text, selector.path, work)
        if value.exists:
            # With its key, then with the others.
            work.copy(2, 3 * len(value.raw))
            found.append(selector.key + value.raw)
    opening, closing = multipath.brackets
    return opening + b",".join(found) + closing


def _walk(text: bytes, begin: Walk | Lines, search: Search) -> None:
    if isinstance(begin, Lines):
        _in_array(text, 0, begin.path, search)
    else:
        # Whatever stands before it: gjson even looks inside of a string.
        at = run_end(_NO_CONTAINER, text, 0, search.work)
        if at < len(text):
            _inside(text, at, begin.path, search)


def _inside(text: bytes, at: int, path: Path, search: Search) -> tuple[int, bool]:
    """Look inside the container at `at`; gives where the walk has come to, and whether it is at its end."""
    search.work.enter()
    look = _in_object if text[at : at + 1] == b"{" else _in_array
    found = look(text, at + 1, path, search)
    search.work.leave()
    return found


def _in_object(text: bytes, at: int, path: Path, search: Search) -> tuple[int, bool]:
    part, work = path.in_object, search.work
    if part.pipe is not None:
        search.pipe = part.pipe
    while True:
        key, escaped, (kind, start, end) = next_member(text, at, work)
        if kind is None or end < 0:
            return start, False
        matches = _is_named(key, escaped, part, work)
        if kind is Kind.JSON:
            if matches and part.then is not None:
                at, found = _inside(text, start, part.then, search)
                if found:
                    return at, True
                continue
            end = container_end(text, start, work)
        if matches and part.then is None:
            work.copy(0, end - start)
            search.value = Value(kind, text[start:end])
            return end, True
        at = end


def _is_named(key: bytes, escaped: bool, part: Member, work: Work) -> bool:
    if part.glob is not None:
        return part.glob.matches(unescaped(key, work), work)
    return unescaped(key, work) == part.name if escaped else key == part.written


def _in_array(text: bytes, at: int, path: Path, search: Search) -> tuple[int, bool]:
    part = path.in_array
    match part:
        case Element():
            return _element(text, at, part, search)
        case Count():
            return _count(text, at, part, search)
        case Each():
            return _each(text, at, part, search)
        case Select():
            return _select(text, at, part, search)


def _element(text: bytes, at: int, part: Element, search: Search) -> tuple[int, bool]:
    work, index = search.work, 0
    if part.pipe is not None:
        search.pipe = part.pipe
    while True:
        kind, start, end = next_span(text, at, work, in_array=True)
        if kind is None or end < 0:
            return start + 1, False
        matches, index = index == part.number, index + 1
        if kind is Kind.JSON:
            if matches and part.then is not None:
                at, found = _inside(text, start, part.then, search)
                if found:
                    return at, True
                continue
            end = container_end(text, start, work)
        if matches and part.then is None:
            work.copy(0, end - start)
            search.value = Value(kind, text[start:end])
            return end, True
        at = end


def _spans(text: bytes, at: int, work: Work) -> Iterator[Span]:
    """The values up to the next `]`. The last one has no kind, and begins where the `]` is.

    Without a last one a string has no end: then nothing is known of the array.
    """
    while at <= len(text):
        kind, start, end = next_span(text, at, work, in_array=True)
        if kind is None:
            yield None, start, start + 1
            return
        if kind is Kind.JSON:
            end = container_end(text, start, work)
        if end < 0:
            return
        yield kind, start, end
        at = end


def _count(text: bytes, at: int, part: Count, search: Search) -> tuple[int, bool]:
    if part.pipe is not None:
        search.pipe = part.pipe
    number, end = 0, len(text)
    for number, (kind, _, end) in enumerate(_spans(text, at, search.work)):
        if kind is None:
            search.value = Value(Kind.NUMBER, b"%d" % number)
            return end, True
    return end, False


def _each(text: bytes, at: int, part: Each, search: Search) -> tuple[int, bool]:
    work = search.work
    spans = list(_spans(text, at, work))
    if not spans or spans[-1][0] is not None:
        return len(text), False
    _, close, end = spans.pop()
    last = spans[-1][2] if spans else at
    # A comma too many: gjson takes whatever comes next for one more element.
    beyond = next_value(text, last, work) if text[last:close].strip(_BLANKS) else None
    elements_raw = [text[start:stop] for _, start, stop in spans] + ([beyond[0].raw] if beyond else [])
    found: list[bytes] = []
    for raw in elements_raw:
        value = get(raw, part.path, work)
        if value.exists:
            work.copy(2, len(raw) + 2 * len(value.raw))
            found.append(value.raw)
    if part.pipe is not None:
        search.pipe = part.pipe
    search.value = Value(Kind.JSON, b"[%b]" % b",".join(found))
    return end, True


def _select(text: bytes, at: int, part: Select, search: Search) -> tuple[int, bool]:
    work = search.work
    if part.pipe is not None:
        search.pipe = part.pipe
    chosen: list[bytes] = []
    end = len(text)
    for kind, start, end in _spans(text, at, work):
        if kind is None:
            if part.all and not search.value.exists:
                search.value = Value(Kind.JSON, b"[%b]" % b",".join(chosen))
            return end, False
        work.copy(4, end - start)
        value = Value(kind, text[start:end])
        if not _is_asked_for(value, part, work):
            continue
        if part.then is not None:
            value = get(value.raw, part.then, work)
            search.pipe = part.then_pipe or search.pipe
        if not part.all:
            search.value = value
            return end, True
        if value.exists:
            chosen.append(value.raw)
    return end, False


def _is_asked_for(value: Value, part: Select, work: Work) -> bool:
    if value.kind is Kind.JSON:
        return part.condition.holds_for(get(value.raw, part.path, work), work)
    return not part.path.text and part.condition.holds_for(value, work)
