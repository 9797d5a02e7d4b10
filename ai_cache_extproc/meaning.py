"""The values of matching by meaning: what is compared of a question, where, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Unfit(StrEnum):
    """Why a question is not matched by its meaning, only exactly. A closed set: also a metric label."""

    TOOLS = "tools"
    NOT_TEXT = "not_text"
    STRUCTURED = "structured"
    CODE = "code"
    TOO_LONG = "too_long"
    EMPTY_TEXT = "empty_text"


Place = tuple[str | int, ...]
"""Where a value stands in a parsed body: member names and positions, from the outside."""


@dataclass(frozen=True, slots=True)
class Window:
    """The part of a question that is compared by its meaning. places: of its texts, in the order of `text`."""

    text: str
    places: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as the semantic layer knows it. partition: 32 hex digits, equal where all but `text` is the same."""

    partition: str
    text: str


@dataclass(frozen=True, slots=True)
class Judged:
    """What came of matching a question by its meaning. result: of a closed set (`telemetry/meaning.py`).

    similarity: of the best candidate; klass, guard: how it differed, and what forbade it (`cache/guards`).
    """

    result: str
    similarity: float | None = None
    klass: str = ""
    guard: str = ""
