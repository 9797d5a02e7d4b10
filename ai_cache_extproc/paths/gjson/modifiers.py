"""gjson's modifiers: each makes a text of a text. `@dig`, which searches, stands where searches are made."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache

from ai_cache_extproc.paths.gjson.pretty import Style, pretty, ugly
from ai_cache_extproc.paths.gjson.raw import SPACES, elements, members, parse
from ai_cache_extproc.paths.gjson.strings import quoted
from ai_cache_extproc.paths.gjson.valid import is_valid
from ai_cache_extproc.paths.gjson.value import NOTHING, Kind, Value
from ai_cache_extproc.paths.gjson.work import Work, unlimited

_TRUE_WORDS = frozenset(("1", "t", "true"))
_INTEGER = re.compile(r"-?[0-9]{1,18}")
_INTEGER_MAX = 2**53


def apply(name: bytes, text: bytes, argument: bytes, work: Work) -> bytes:
    """What the modifier of this name makes of `text`; nothing where it can make nothing. Raises PathBudget."""
    work.copy(4, len(text))
    return _MODIFIERS[name](text, argument, work)


@lru_cache(maxsize=256)
def _options(argument: bytes) -> Mapping[str, Value]:
    """The members of an argument that is an object; of those with the same key the last."""
    value = parse(argument, unlimited())
    if not value.is_object:
        return {}
    return {key.string(unlimited()): member for key, member in members(value.raw, unlimited())}


def _flag(value: Value) -> bool:
    match value.kind:
        case Kind.STRING:
            return value.text(unlimited()).lower() in _TRUE_WORDS
        case Kind.NUMBER:
            return value.number != 0
        case _:
            return value.kind is Kind.TRUE


def _integer(value: Value) -> int:
    match value.kind:
        case Kind.STRING:
            text = value.text(unlimited())
            return int(text) if _INTEGER.fullmatch(text) else 0
        case Kind.NUMBER:
            return int(max(-_INTEGER_MAX, min(_INTEGER_MAX, value.number)))
        case _:
            return int(value.kind is Kind.TRUE)


def _this(text: bytes, _argument: bytes, _work: Work) -> bytes:
    return text


def _reverse(text: bytes, _argument: bytes, work: Work) -> bytes:
    value = parse(text, work)
    if value.is_array:
        return _array(reversed([element.raw for element in elements(value.raw, work)]))
    if value.is_object:
        return _object(reversed(list(members(value.raw, work))))
    return text


def _ugly(text: bytes, _argument: bytes, work: Work) -> bytes:
    return ugly(text, work)


def _pretty(text: bytes, argument: bytes, work: Work) -> bytes:
    style = Style()
    options = _options(argument)
    return pretty(
        text,
        Style(
            width=_integer(options["width"]) if "width" in options else style.width,
            prefix=_blanks(options["prefix"]) if "prefix" in options else style.prefix,
            indent=_blanks(options["indent"]) if "indent" in options else style.indent,
            sort_keys=_flag(options.get("sortKeys", NOTHING)),
        ),
        work,
    )


def _blanks(value: Value) -> bytes:
    return bytes(sign for sign in value.string(unlimited()).encode() if sign in b" \t\n\r")


def _valid(text: bytes, _argument: bytes, work: Work) -> bytes:
    return text if is_valid(text, work) else b""


def _flatten(text: bytes, argument: bytes, work: Work) -> bytes:
    value = parse(text, work)
    if not value.is_array:
        return text
    deep = _flag(_options(argument).get("deep", NOTHING))
    return _array(raw for raw in _flat(value.raw, deep, work) if raw)


def _flat(array: bytes, deep: bool, work: Work) -> Iterator[bytes]:
    work.enter()
    for element in elements(array, work):
        if not element.is_array:
            yield element.raw.strip()
        elif deep:
            yield from _flat(element.raw, deep, work)
        else:
            yield _inside(element.raw).strip()
    work.leave()


def _join(text: bytes, argument: bytes, work: Work) -> bytes:
    value = parse(text, work)
    if not value.is_array:
        return text
    objects = (element.raw for element in elements(value.raw, work) if element.is_object)
    if _flag(_options(argument).get("preserve", NOTHING)):
        return b"{%b}" % b",".join(map(_inside, objects))
    joined: dict[str, tuple[Value, Value]] = {}
    for raw in objects:
        for key, member in members(raw, work):
            name = key.text(work)
            # The key as it is first written, with the last value.
            joined[name] = (joined[name][0] if name in joined else key, member)
    return _object(joined.values())


def _inside(container: bytes) -> bytes:
    """What stands between the brackets; the last byte is cut off whether it is one or not."""
    trimmed = container.strip(SPACES)
    return trimmed[1:-1] if len(trimmed) > 1 else trimmed


def _keys(text: bytes, _argument: bytes, work: Work) -> bytes:
    value = parse(text, work)
    if value.is_object:
        return _array(key.raw for key, _ in members(value.raw, work))
    return _array(b"null" for _ in _elements_or_itself(value, work))


def _values(text: bytes, _argument: bytes, work: Work) -> bytes:
    value = parse(text, work)
    if value.is_array:
        return text
    if value.is_object:
        return _array(member.raw for _, member in members(value.raw, work))
    return _array(element.raw for element in _elements_or_itself(value, work))


def _elements_or_itself(value: Value, work: Work) -> Iterator[Value]:
    if value.is_array:
        yield from elements(value.raw, work)
    elif value.exists:
        yield value


def _tostr(text: bytes, _argument: bytes, work: Work) -> bytes:
    return quoted(text, work)


def _fromstr(text: bytes, _argument: bytes, work: Work) -> bytes:
    return parse(text, work).string(work).encode() if is_valid(text, work) else b""


def _group(text: bytes, _argument: bytes, work: Work) -> bytes:
    value = parse(text, work)
    if not value.is_object:
        return b""
    rows: list[list[bytes]] = []
    for key, member in members(value.raw, work):
        if member.is_array:
            for index, element in enumerate(elements(member.raw, work)):
                if index == len(rows):
                    rows.append([])
                rows[index].append(b"%b:%b" % (key.raw, element.raw))
    return _array(b"{%b}" % b",".join(row) for row in rows)


def _array(raws: Iterator[bytes]) -> bytes:
    return b"[%b]" % b",".join(raws)


def _object(pairs: Iterable[tuple[Value, Value]]) -> bytes:
    return b"{%b}" % b",".join(b"%b:%b" % (key.raw, value.raw) for key, value in pairs)


_MODIFIERS: Mapping[bytes, Callable[[bytes, bytes, Work], bytes]] = {
    b"this": _this,
    b"reverse": _reverse,
    b"ugly": _ugly,
    b"pretty": _pretty,
    b"valid": _valid,
    b"flatten": _flatten,
    b"join": _join,
    b"keys": _keys,
    b"values": _values,
    b"tostr": _tostr,
    b"fromstr": _fromstr,
    b"group": _group,
}
