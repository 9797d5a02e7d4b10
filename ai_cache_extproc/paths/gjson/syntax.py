"""GJSON paths, taken apart as they are walked, each part once.

What a part means depends on what it meets: `a#b` is a name in an object and nothing in an array, `@x` is a name where
no modifier is called so. So a path has three readings: how a search begins, what is next in an object, and what is
next in an array.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache

from ai_cache_extproc.paths.gjson.brackets import (
    argument_end,
    last_name,
    split_at_pipe,
    split_query,
    split_selectors,
)
from ai_cache_extproc.paths.gjson.glob import Glob
from ai_cache_extproc.paths.gjson.query import Condition
from ai_cache_extproc.paths.gjson.raw import container_end
from ai_cache_extproc.paths.gjson.strings import quoted, unescaped
from ai_cache_extproc.paths.gjson.valid import is_valid
from ai_cache_extproc.paths.gjson.work import unlimited

MODIFIERS = frozenset(
    (
        *(b"this", b"reverse", b"ugly", b"pretty", b"valid", b"flatten", b"join"),
        *(b"keys", b"values", b"tostr", b"fromstr", b"group", b"dig"),
    )
)

_SEPARATORS = (b".", b"|")
_MEMBER = re.compile(rb"(?:[^.|\\]++|\\.)*+", re.DOTALL)
_SPECIAL = re.compile(rb"[.|*?\\#@!\[\]{}()]")
_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)
_WILD = re.compile(rb"(?:[^\\*?]++|\\.)*+[*?]", re.DOTALL)
_ELEMENT = re.compile(rb"[^.|]*+")
_WORD = re.compile(rb"[^.|:]*+")
_LITERALS = frozenset((b"true", b"false", b"null", b"nan", b"inf"))
_OPENS_LITERAL = tuple(bytes((sign,)) for sign in b'{["+-0123456789')
_UNFIT_FOR_NAMES = re.compile(rb"[\x00-\x1f\[\]{}()#|!]")


@dataclass(frozen=True, slots=True)
class Modifier:
    """`@name:argument`: makes another text of the text; the rest is looked for in that. rest: None for all of it.

    path: the argument as a path, for `@dig`.
    """

    name: bytes
    argument: bytes
    path: Path
    rest: Path | None


@dataclass(frozen=True, slots=True)
class Literal:
    """`!value`: a text of its own in the place of the text."""

    text: bytes
    rest: Path | None


@dataclass(frozen=True, slots=True)
class Selector:
    """One path of a multipath. key: with its colon, as it is written before the value; empty in an array."""

    key: bytes
    path: Path


@dataclass(frozen=True, slots=True)
class Multipath:
    """`{a,"b":c}` or `[a,b]`: a text made of what several paths find. brackets: the two of them."""

    brackets: tuple[bytes, bytes]
    selectors: tuple[Selector, ...]
    rest: Path | None


@dataclass(frozen=True, slots=True)
class Lines:
    """`..`: the text is read as the inside of an array, one value after another."""

    path: Path


@dataclass(frozen=True, slots=True)
class Walk:
    """Neither: the text's first object or array is walked."""

    path: Path


Begin = Modifier | Literal | Multipath | Lines | Walk


@dataclass(frozen=True, slots=True)
class Member:
    """What is next in an object: the member of this name, or the first that the pattern matches and that leads on.

    written: the name as a key without escapes is written.
    then: looked for inside the member. pipe: a search of its own, in what was found, or in nothing. Never both.
    """

    name: str
    written: bytes
    glob: Glob | None
    then: Path | None
    pipe: Path | None


@dataclass(frozen=True, slots=True)
class Element:
    """What is next in an array: the element of this number. number: None if the part is none, and finds nothing."""

    number: int | None
    then: Path | None
    pipe: Path | None


@dataclass(frozen=True, slots=True)
class Count:
    """`#` alone: how many elements there are."""

    pipe: Path | None


@dataclass(frozen=True, slots=True)
class Each:
    """`#.path`: an array of what the path finds in each element. pipe: a search in that array."""

    path: Path
    pipe: Path | None


@dataclass(frozen=True, slots=True)
class Select:
    """`#(...)` or, for all, `#(...)#`: the elements in which `path` finds what the condition asks for.

    then: looked for in each of them. then_pipe: a search in the result, but only if an element was found.
    pipe: a search in the result, found or not.
    """

    path: Path
    condition: Condition
    all: bool
    then: Path | None = None
    then_pipe: Path | None = None
    pipe: Path | None = None


ArrayPart = Element | Count | Each | Select


class Path:
    """A path, or what is left of one. Immutable; what is read of it is kept."""

    def __init__(self, text: bytes) -> None:
        self.text = text

    @cached_property
    def begin(self) -> Begin:
        """How a search begins. A single sign is always a name."""
        text = self.text
        if len(text) > 1:
            begin: Begin | None = None
            match text[:1]:
                case b"@":
                    begin = _modifier(text)
                case b"!":
                    begin = _literal(text)
                case b"[" | b"{":
                    begin = _multipath(text)
                case _:
                    pass
            if begin is not None:
                return begin
            if text.startswith(b".."):
                return Lines(Path(text[2:]))
        return Walk(self)

    @cached_property
    def name(self) -> str | None:
        """The name of a member, if the path is that and no more."""
        member = self.in_object
        plain = isinstance(self.begin, Walk) and member.glob is None and member.then is None and member.pipe is None
        return member.name if plain else None

    @cached_property
    def in_object(self) -> Member:
        """What the first part means in an object."""
        text = self.text
        match = _MEMBER.match(text)
        assert match is not None
        written = _ESCAPE.sub(rb"\1", match[0])
        name = written.decode("utf-8", "replace")
        then, pipe = _after(text, match.end())
        # Once any sign of it is wild all are: the backslashes have gone.
        return Member(name, written, Glob.of(name) if _WILD.match(match[0]) else None, then, pipe)

    @cached_property
    def in_array(self) -> ArrayPart:
        """What the first part means in an array."""
        text = self.text
        if text.startswith(b"#."):
            split = split_at_pipe(text[2:])
            return Each(Path(text[2:]), None) if split is None else Each(Path(split[0]), Path(split[1]))
        if text.startswith((b"#(", b"#[")):
            return _select(text)
        match = _ELEMENT.match(text)
        assert match is not None
        part, end = match[0], match.end()
        if b"#" not in part:
            then, pipe = _after(text, end)
            return Element(_number(part), then, pipe)
        # With a `#` in it a part is never followed by a modifier after a dot.
        rest = Path(text[end + 1 :])
        pipe = rest if text[end : end + 1] == b"|" else None
        then = rest if text[end : end + 1] == b"." else None
        return Count(pipe) if part == b"#" else Element(None, then, pipe)


@lru_cache(maxsize=256)
def path_to(steps: tuple[str | int, ...]) -> Path | None:
    """The path that leads from name to name and number to number; None where two empty names would mean lines."""
    text = b".".join(_SPECIAL.sub(rb"\\\g<0>", str(step).encode()) for step in steps)
    return None if text.startswith(b"..") else Path(text)


def _after(text: bytes, end: int) -> tuple[Path | None, Path | None]:
    """What follows a part that ends at `end`: to look for inside, or to search in it; a dot may mean either."""
    separator, rest = text[end : end + 1], text[end + 1 :]
    if separator == b"|" or (separator == b"." and _begins_anew(rest)):
        return None, Path(rest)
    return (Path(rest) if separator == b"." else None), None


def _begins_anew(text: bytes) -> bool:
    """Whether a dot before `text` is as good as a pipe."""
    if text.startswith(b"@"):
        match = _WORD.match(text, 1)
        assert match is not None
        return match[0] in MODIFIERS
    return text.startswith((b"[", b"{"))


def _rest(text: bytes) -> Path | None:
    return Path(text[1:]) if text.startswith(_SEPARATORS) else None


def _modifier(text: bytes) -> Modifier | None:
    match = _WORD.match(text, 1)
    assert match is not None
    name, rest, argument = match[0], text[match.end() :], b""
    if name not in MODIFIERS:
        return None
    if rest.startswith(b":"):
        end = argument_end(rest[1:])
        argument, rest = rest[1 : end + 1], rest[end + 1 :]
    return Modifier(name, argument, Path(argument), _rest(rest))


def _literal(text: bytes) -> Literal | None:
    if text[1:].startswith(_OPENS_LITERAL):
        # gjson counts the first sign as an opening bracket, whatever it is.
        end = container_end(text, 1, unlimited())
        return Literal(text[1:end], _rest(text[end:]))
    match = _ELEMENT.match(text, 1)
    assert match is not None
    return Literal(match[0], _rest(text[match.end() :])) if match[0].lower() in _LITERALS else None


def _multipath(text: bytes) -> Multipath | Walk:
    split = split_selectors(text)
    if split is None:
        return Walk(Path(b""))
    selectors, rest = split
    if rest and not rest.startswith(_SEPARATORS):
        # What the multipath finds is forgotten, and the rest walks the text.
        return Walk(Path(rest))
    is_object = text.startswith(b"{")
    return Multipath(
        brackets=(b"{", b"}") if is_object else (b"[", b"]"),
        selectors=tuple(
            Selector(_key(selector.name, selector.path) + b":" if is_object else b"", Path(selector.path))
            for selector in selectors
        ),
        rest=_rest(rest),
    )


def _key(name: bytes, path: bytes) -> bytes:
    """The key for what a path finds: the given one, or the path's last name where that is fit to be one."""
    if name:
        return name if name.startswith(b'"') and is_valid(name, unlimited()) else quoted(name, unlimited())
    last = last_name(path)
    return quoted(b"_" if _UNFIT_FOR_NAMES.search(last) else last, unlimited())


def _select(text: bytes) -> Select:
    query = split_query(text)
    if query is None:
        # Brackets that do not close ask for any value that is no container.
        return Select(Path(b""), Condition("", ""), all=False)
    operand = query.operand
    if len(operand) >= 2 and operand.startswith(b'"') and operand.endswith(b'"'):
        operand = operand[1:-1]
        meant = unescaped(operand, unlimited()) if query.escaped else operand.decode("utf-8", "replace")
    else:
        meant = operand.decode("utf-8", "replace")
    # What else stands between the bracket and the separator is passed over.
    match = _ELEMENT.match(text, query.end)
    assert match is not None
    separator, rest = text[match.end() : match.end() + 1], text[match.end() + 1 :]
    split = split_at_pipe(rest) if separator == b"." else None
    then, then_pipe = split or (rest, None)
    return Select(
        Path(query.path),
        Condition(query.operator.decode(), meant),
        all=text[query.end : query.end + 1] == b"#",
        then=Path(then) if separator == b"." else None,
        then_pipe=None if then_pipe is None else Path(then_pipe),
        pipe=Path(rest) if separator == b"|" else None,
    )


def _number(part: bytes) -> int | None:
    # No array is so long that 18 digits do not count it.
    return int(part) if part.isdigit() and len(part.lstrip(b"0")) <= 18 else None
