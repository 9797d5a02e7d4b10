"""A path walked through parsed JSON: the fast way, for names, numbers, counts, queries, `@reverse` and `@this`.

It comes to what the walk through the text comes to, or says that only the text can tell: patterns, whatever makes a
text of its own, what looks into a string, and results that are cut out of the document as they are written.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ai_cache_extproc.paths.gjson.numbers import format_number
from ai_cache_extproc.paths.gjson.syntax import (
    ArrayPart,
    Count,
    Element,
    Member,
    Modifier,
    Path,
    Select,
    Walk,
    path_to,
)
from ai_cache_extproc.paths.gjson.value import Kind
from ai_cache_extproc.paths.gjson.work import Work

_REVERSE = b"reverse"
_SAME = frozenset((b"this", b"valid", _REVERSE))
_INTEGERS_BELOW = 2.0**63


class Outcome(Enum):
    """Where a walk comes to that comes to no value."""

    MISSING = "nothing is there"
    ASK_TEXT = "only the text can tell"


MISSING, ASK_TEXT = Outcome.MISSING, Outcome.ASK_TEXT


@dataclass(slots=True)
class Place:
    """Where a walk has come to. Mutable while it goes on.

    steps: the names and numbers that lead there from the root; None if the value is no part of the document.
    turned: whether the value is an array that counts from its end. remade: whether its text is not the document's.
    """

    value: object
    steps: tuple[str | int, ...] | None = ()
    turned: bool = False
    remade: bool = False

    def go(self, step: str | int, value: object) -> None:
        """Go to a value inside."""
        self.value = value
        self.turned = self.remade = False
        if self.steps is not None:
            self.steps += (step,)

    def leave(self, value: object) -> None:
        """Go to a value that is no part of the document."""
        self.value = value
        self.turned = self.remade = False
        self.steps = None

    def reverse(self) -> None:
        """Turn an array round. The order of an object's members shows only in its text."""
        self.turned ^= isinstance(self.value, list)
        self.remade |= isinstance(self.value, dict | list)

    @property
    def path(self) -> Path | None:
        """A path straight to it; None for the root and for what does not stand in the document as it is."""
        return None if self.remade or not self.steps else path_to(self.steps)


_Reached = tuple[Outcome | None, Path | None, Path | None]
"""What a step came to, if that is no value; what to look for inside of the value; the search to make in it."""


def walk(path: Path, tree: object, work: Work) -> Place | Outcome:
    """Where `path` leads to in a parsed document without repeated keys. Raises PathBudget."""
    place, rest = Place(tree), path
    while True:
        begin = rest.begin
        pipe: Path | None
        if isinstance(begin, Walk):
            outcome, pipe = _inside(begin.path, place, work)
            if outcome is not None:
                return outcome if pipe is None else ASK_TEXT
        elif isinstance(begin, Modifier) and begin.name in _SAME:
            pipe = begin.rest
            if begin.name == _REVERSE:
                place.reverse()
        else:
            return ASK_TEXT
        if pipe is None:
            return place
        rest = pipe


def _inside(path: Path, place: Place, work: Work) -> tuple[Outcome | None, Path | None]:
    """Go from container to container. Gives the Outcome, if that is no value, and the search to make next."""
    while True:
        value = place.value
        if isinstance(value, dict):
            outcome, then, pipe = _to_member(value, path.in_object, place)
        elif isinstance(value, list):
            outcome, then, pipe = _to_element(value, path.in_array, place, work)
        else:
            return ASK_TEXT, None
        if outcome is not None or then is None:
            return outcome, pipe
        if not isinstance(place.value, dict | list):
            return MISSING, None
        path = then


def _to_member(members: dict[str, object], part: Member, place: Place) -> _Reached:
    if part.glob is not None:
        return ASK_TEXT, None, None
    if part.name not in members:
        return MISSING, None, part.pipe
    place.go(part.name, members[part.name])
    return None, part.then, part.pipe


def _to_element(array: list[object], part: ArrayPart, place: Place, work: Work) -> _Reached:
    if isinstance(part, Element):
        if part.number is None or part.number >= len(array):
            return MISSING, None, part.pipe
        index = len(array) - 1 - part.number if place.turned else part.number
        place.go(index, array[index])
        return None, part.then, part.pipe
    if isinstance(part, Count):
        place.leave(len(array))
        return None, None, part.pipe
    if isinstance(part, Select):
        outcome, pipe = _select(array, part, place, work)
        return outcome, None, pipe
    return ASK_TEXT, None, None


def _select(array: list[object], part: Select, place: Place, work: Work) -> tuple[Outcome | None, Path | None]:
    if part.all and part.then is not None:
        return ASK_TEXT, None
    work.enter()
    chosen: list[object] = []
    numbers = range(len(array))
    for index in reversed(numbers) if place.turned else numbers:
        work.spend(3)
        element = array[index]
        asked = _is_asked_for(element, part, work)
        if asked is None:
            return ASK_TEXT, None
        if asked and part.all:
            chosen.append(element)
        elif asked:
            work.leave()
            place.go(index, element)
            return (None, part.pipe) if part.then is None else _then(part.then, place, work, part.then_pipe)
    work.leave()
    if not part.all:
        return MISSING, part.pipe
    place.leave(chosen)
    return None, part.pipe


def _then(path: Path, place: Place, work: Work, pipe: Path | None) -> tuple[Outcome | None, Path | None]:
    """Go on inside of an element that a query chose."""
    # What is inside of a string is looked for in its text.
    inside = walk(path, place.value, work) if isinstance(place.value, dict | list) else ASK_TEXT
    if isinstance(inside, Outcome):
        return inside, pipe
    steps = None if place.steps is None or inside.steps is None else place.steps + inside.steps
    place.value, place.steps, place.turned, place.remade = inside.value, steps, inside.turned, inside.remade
    return None, pipe


def _is_asked_for(element: object, part: Select, work: Work) -> bool | None:
    """Whether an element is; None where only the text can tell."""
    found: object = element
    if isinstance(element, dict) and part.path.name is not None:
        found = element.get(part.path.name, MISSING)
    elif isinstance(element, dict | list):
        there = walk(part.path, element, work)
        if there is ASK_TEXT:
            return None
        found = there.value if isinstance(there, Place) else there
    elif part.path.text:
        return False
    if isinstance(found, str):
        return part.condition.holds(Kind.STRING, found, work)
    if isinstance(found, bool):
        return part.condition.holds(Kind.TRUE if found else Kind.FALSE, None, work)
    if isinstance(found, int | float):
        return part.condition.holds(Kind.NUMBER, float(found), work)
    if found is MISSING:
        return part.condition.holds(None, None, work)
    return part.condition.holds(Kind.NULL if found is None else Kind.JSON, None, work)


def string_of(value: object) -> str | None:
    """A parsed value as text; None where it depends on how the document spells it."""
    match value:
        case str():
            return value
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case int() if value != 0:
            return str(value)
        case float() if abs(value) < _INTEGERS_BELOW:
            return format_number(value)
        case _:
            # A container, a zero that may have a sign, an integer of more than 64 bits.
            return None
