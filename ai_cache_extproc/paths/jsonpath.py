"""JSONPath through the library jsonpath-python, kept to what is quick and to what cannot be turned against us.

The library walks; what it would hand to `eval`, filters, is decided here. Its walks are counted, and none shares state
with another.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from copy import copy
from functools import partial
from typing import cast

import jsonpath as library  # type: ignore[import-untyped]  # it publishes no types
import orjson

from ai_cache_extproc.paths.found import JSONPATH_NODES_MAX, Found, PathBudget, PathError, encoded
from ai_cache_extproc.paths.jsonpath_filters import Filter, compile_filter

VISITS_PER_NODE = 2.5
"""How many values one search may pass, on a body of any size, for each of `nodes_max`: 5 000, about 5 ms."""

# How much may be found at once, in values and, for long ones, 64 characters: `$..*` finds what is deep many times.
_WEIGHT_PER_NODE = 25
_DESCENT, _FILTER, _SLICE = "..", "?(", ":"
_SEGMENT = re.compile(
    r"""
    (?P<descent>\.\.(?=[^.]))?
    (?:
        (?:(?<=\.\.)|\.)(?P<name>\*|[^\s.,:;*?@$#/'"`()\[\]]+)
        |\[(?P<plain>\*|[0-9]+|-?[0-9]*:-?[0-9]*(?::-?[0-9]*)?)\]
        |\[(?P<quoted>'[^';`#]*')\]
        |\[(?P<filter>\?\((?:[^'"\[\]]|'[^']*'|"[^"]*"|\[[^\[\]]*\])*\))\]
    )
    """,
    re.VERBOSE,
)
_ADVICE = (
    (r"\[-[0-9]+\]", "an index from the end; write a slice, as [-1:]"),
    (r'\["', "double quotes around a name; write ['name']"),
    (r"\[\?[^(]", "a filter without round brackets; write [?(@.name == 'x')]"),
    (r"\[\?", "a filter whose quotes or brackets do not close"),
    (r"\[[(/]", "sorting and extracting fields are refused; take the whole value"),
    (r"\[[^]]*,", "several names or numbers at once are refused; write a path for each"),
    (r"\['", "quotes that do not close, or one of ; ` # in a name; write the path in GJSON"),
    (r"", "cannot be read; write .name, ['name'], [0], [0:2], [*], ..name or [?(...)]"),
)

# It logs what it walks through where the environment asks for it, and brings a handler of its own.
_logger = logging.getLogger("jsonpath")
_logger.handlers.clear()
_logger.setLevel(logging.WARNING)


class JSONPath:
    """A `paths.found.Path`. One value found is itself; of several, a JSON array is made.

    nodes_max: values in a body up to which `..` and filters are walked; the other limits follow from it.
    """

    def __init__(self, text: str, *, nodes_max: int = JSONPATH_NODES_MAX) -> None:
        """Raises PathError for what the library cannot do, or only at a price."""
        encoded(text)
        segments = list(_segments(text))
        filters = {
            segment: compile_filter(segment.removeprefix(_FILTER).removesuffix(")"))
            for segment in segments
            if segment.startswith(_FILTER)
        }
        self._walk = _Walk(text, filters, visits_max=int(nodes_max * VISITS_PER_NODE))
        if self._walk.segments != segments:
            raise PathError(f"{text!r}: jsonpath-python reads it as {self._walk.segments}; write the path in GJSON")
        self._everywhere = bool(filters) or _DESCENT in segments
        self._nodes_max = nodes_max

    def find(self, document: bytes | str, tree: object | None = None) -> Found | None:
        """What the path leads to in `document`, or None; also where that is no JSON. Raises PathBudget."""
        if tree is None:
            try:
                tree = orjson.loads(document)
            except orjson.JSONDecodeError:
                return None
        if self._everywhere and _has_more_values(tree, self._nodes_max):
            raise PathBudget(f"`..` and filters are for bodies of at most {self._nodes_max} values")
        try:
            matches = self._matches(tree)
            if not matches:
                return None
            if len(matches) > 1 and sum(map(_Scale().weigh, matches)) > self._nodes_max * _WEIGHT_PER_NODE:
                raise PathBudget("the path finds the same values inside of each other too often")
            value = matches[0] if len(matches) == 1 else matches
            return Found(_string(value), partial(_json, value))
        except RecursionError:
            raise PathBudget("the body is nested too deeply for JSONPath") from None

    def _matches(self, tree: object) -> list[object]:
        if not isinstance(tree, dict | list):
            return [] if self._walk.segments else [tree]
        # The library keeps what it finds in itself.
        return cast("list[object]", copy(self._walk).parse(tree))


class _Walk(library.JSONPath):  # type: ignore[misc]  # it publishes no types
    """The library's walk, counted, with filters of our own."""

    def __init__(self, text: str, filters: Mapping[str, Filter], *, visits_max: int) -> None:
        super().__init__(text)
        self._filters = filters
        self._visits_left = visits_max
        self._length_max = visits_max

    def _trace(self, obj: object, i: int, path: str) -> None:
        segment = self.segments[i] if i < self.lpath else ""
        self._visits_left -= 1
        # The library copies an array to cut a slice out of it.
        copied = isinstance(obj, list) and len(obj) > self._length_max and _SLICE in segment
        if copied or self._visits_left < 0:
            raise PathBudget(f"the path passes more than {self._length_max} values")
        asked = self._filters.get(segment)
        if asked is None:
            super()._trace(obj, i, path)
            return
        for value in _candidates(obj):
            if asked(value):
                self._trace(value, i + 1, path)


def _candidates(value: object) -> list[object]:
    """What a filter is asked about: the elements of an array; of an object itself and, as the library does, its values."""
    if isinstance(value, dict):
        return [value, *value.values()]
    return value if isinstance(value, list) else []


def _segments(text: str) -> Iterator[str]:
    """The path as the library is to cut it. Raises PathError where it holds what is refused."""
    at = 1
    while at < len(text):
        match = _SEGMENT.match(text, at)
        if match is None:
            advice = next(advice for pattern, advice in _ADVICE if re.match(pattern, text[at:]))
            raise PathError(f"{text!r}, at {text[at:]!r}: {advice}")
        if match["descent"]:
            yield _DESCENT
        yield match["name"] or match["plain"] or match["quoted"] or match["filter"]
        at = match.end()


def _has_more_values(tree: object, most: int) -> bool:
    """Whether a tree holds more than so many values, itself included; level by level, so that nothing recurses."""
    count, level = 1, [tree]
    while level:
        containers = [value for value in level if isinstance(value, dict | list)]
        count += sum(map(len, containers))
        if count > most:
            return True
        level = [child for value in containers for child in (value.values() if isinstance(value, dict) else value)]
    return False


class _Scale:
    """Weighs parsed values, each container once: what is found may share nearly everything."""

    def __init__(self) -> None:
        self._known: dict[int, int] = {}

    def weigh(self, value: object) -> int:
        """One for each value inside, itself included, and for each 64 characters."""
        if isinstance(value, str):
            return 1 + (len(value) >> 6)
        if not isinstance(value, dict | list):
            return 1
        weight = self._known.get(id(value))
        if weight is None:
            inside = value.values() if isinstance(value, dict) else value
            weight = self._known[id(value)] = 1 + sum(map(self.weigh, inside))
        return weight


def _string(value: object) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else _json(value)


def _json(value: object) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        # Integers over 64 bits, and what is nested more than 254 levels deep.
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
