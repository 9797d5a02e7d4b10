"""JSON that arrives in pieces, added up. Any stream of objects; what the objects mean is declared by who knows the API.

How members add up is declared, never guessed: a member that comes twice without a rule for it, or contradicts itself,
makes the whole impossible to add up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto

import orjson

from ai_cache_extproc.dialects.openai_chat_answer import index_of, is_empty, not_understood

# How deep two objects of one name are united member by member; below that they must be equal.
_UNITED_DEPTH_MAX = 4


class Rule(Enum):
    """How the values of one member add up."""

    TEXT = auto()
    """Strings, joined."""
    LIST = auto()
    """Lists, joined."""
    REPEATED = auto()
    """Said any number of times, always the same; objects are united."""
    FIRST = auto()
    LATEST = auto()
    ONCE = auto()
    DROPPED = auto()


@dataclass(frozen=True, slots=True)
class Shape:
    """An object that arrives in pieces: the rules of its members, and of members that are not named."""

    rules: Mapping[str, Rule | Shape | Each]
    rest: Rule = Rule.ONCE


@dataclass(frozen=True, slots=True)
class Each:
    """A list of objects that arrive in pieces, told apart by their index."""

    shape: Shape


def added_up(pieces: Iterable[Mapping[str, object]], shape: Shape) -> dict[str, object]:
    """The object that all pieces make. Raises DialectError(ANSWER_NOT_UNDERSTOOD) where they make none with certainty."""
    whole = _Pieces(shape)
    try:
        for piece in pieces:
            whole.add(piece)
        return whole.whole()
    except orjson.JSONEncodeError as error:
        raise not_understood("nested too deep") from error


class _Text:
    """A string while its pieces arrive."""

    def __init__(self) -> None:
        self._pieces: list[str] = []

    def add(self, piece: object) -> None:
        if not isinstance(piece, str):
            raise not_understood("a text goes on as something else")
        self._pieces.append(piece)

    def whole(self) -> str:
        return "".join(self._pieces)


class _List:
    """A list while its pieces arrive."""

    def __init__(self) -> None:
        self._items: list[object] = []

    def add(self, piece: object) -> None:
        if not isinstance(piece, list):
            raise not_understood("a list goes on as something else")
        self._items.extend(piece)

    def whole(self) -> list[object]:
        return self._items


class _Indexed:
    """A list of objects while pieces of any of them arrive."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._objects: dict[int, _Pieces] = {}

    def add(self, piece: object) -> None:
        if not isinstance(piece, list):
            raise not_understood("a list goes on as something else")
        for part in piece:
            if not isinstance(part, dict):
                raise not_understood("a list holds more than objects")
            index = index_of(part)
            pieces = self._objects.get(index)
            if pieces is None:
                pieces = self._objects[index] = _Pieces(self._shape)
            pieces.add(part)

    def whole(self) -> list[object]:
        return [pieces.whole() for _, pieces in sorted(self._objects.items())]


class _Pieces:
    """An object while its pieces arrive; its members in the order in which they first came."""

    def __init__(self, shape: Shape) -> None:
        self._rules = shape.rules
        self._rest = shape.rest
        self._members: dict[str, object] = {}

    def add(self, piece: object) -> None:
        if not isinstance(piece, dict):
            raise not_understood("an object goes on as something else")
        members = self._members
        for name, value in piece.items():
            known = members.get(name)
            if value is None and name in members:
                continue
            rule = self._rules.get(name, self._rest)
            if rule is Rule.DROPPED:
                continue
            if is_empty(value):
                # An empty value says that the member exists; of two kinds of empty the one that is not null stays.
                if known is None:
                    members[name] = value
            elif is_empty(known):
                members[name] = _begun(rule, value)
            elif isinstance(known, _Growing):
                known.add(value)
            else:
                members[name] = _said_again(rule, known, value)

    def whole(self) -> dict[str, object]:
        return {name: value.whole() if isinstance(value, _Growing) else value for name, value in self._members.items()}


_Growing = _Text | _List | _Indexed | _Pieces


def _begun(rule: Rule | Shape | Each, value: object) -> object:
    """A member's first value: one that takes more pieces, where its rule and its kind allow."""
    growing: _Growing
    match rule, value:
        case Rule.TEXT, str():
            growing = _Text()
        case Rule.LIST, list():
            growing = _List()
        case Shape(), dict():
            growing = _Pieces(rule)
        case Each(shape), list():
            growing = _Indexed(shape)
        case _:
            return value
    growing.add(value)
    return growing


def _said_again(rule: Rule | Shape | Each, known: object, value: object) -> object:
    """What stands after a second value of a member that does not grow."""
    if rule is Rule.REPEATED:
        return _united(known, value, _UNITED_DEPTH_MAX)
    if rule is Rule.LATEST:
        return value
    if rule is Rule.FIRST:
        # Azure's first chunk, about the prompt, was created at 0.
        return known or value
    raise not_understood("a member comes twice")


def _united(known: object, value: object, depth: int) -> object:
    """What two sayings of one thing make: objects are united, everything else must be equal."""
    if isinstance(known, str) and known == value:
        return known
    if isinstance(known, dict) and isinstance(value, dict) and depth:
        new = {name: _united(known[name], part, depth - 1) if name in known else part for name, part in value.items()}
        return known | new
    if is_empty(value):
        return known
    if not is_empty(known) and orjson.dumps(known) != orjson.dumps(value):
        raise not_understood("a member contradicts itself")
    return value
