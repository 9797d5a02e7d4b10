"""A value as it stands in JSON text, of one of gjson's types."""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple

from ai_cache_extproc.paths.gjson.numbers import format_number, parse_number
from ai_cache_extproc.paths.gjson.strings import decoded, unescaped
from ai_cache_extproc.paths.gjson.work import Work

_DIGITS = re.compile(rb"-?[0-9]*+")


class Kind(Enum):
    """gjson's types of values, by its names for them."""

    NULL = "Null"
    FALSE = "False"
    NUMBER = "Number"
    STRING = "String"
    TRUE = "True"
    JSON = "JSON"


_WORDS = {Kind.NULL: "", Kind.TRUE: "true", Kind.FALSE: "false"}


class Value(NamedTuple):
    """A value as it stands in a text. closed: whether a string has its end."""

    kind: Kind
    raw: bytes
    closed: bool = True

    @property
    def exists(self) -> bool:
        """Whether anything was found; `null` was."""
        return self.kind is not Kind.NULL or bool(self.raw)

    @property
    def is_array(self) -> bool:
        """Whether it begins as an array."""
        return self.kind is Kind.JSON and self.raw.startswith(b"[")

    @property
    def is_object(self) -> bool:
        """Whether it begins as an object."""
        return self.kind is Kind.JSON and self.raw.startswith(b"{")

    @property
    def number(self) -> float:
        """What it counts as; 0 where it is no number."""
        return parse_number(self.raw)

    def text(self, work: Work) -> str:
        """A string as it is meant. Raises PathBudget."""
        return unescaped(self.raw[1:-1] if self.closed else self.raw[1:], work)

    def string(self, work: Work) -> str:
        """A string as it is meant, null as nothing, an integer and a container as written. Raises PathBudget."""
        if self.kind is Kind.STRING:
            return self.text(work)
        if self.kind in _WORDS:
            return _WORDS[self.kind]
        if self.kind is Kind.NUMBER and not _DIGITS.fullmatch(self.raw):
            return format_number(self.number)
        return decoded(self.raw, work)


NOTHING = Value(Kind.NULL, b"")
