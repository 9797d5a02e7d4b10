"""Patterns with `*`, compiled once; matching takes time in proportion to the text, whatever the pattern."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_PORT = re.compile(r":[0-9*]+$")


@dataclass(frozen=True, slots=True)
class Wildcard:
    """A pattern cut at its stars. pieces: at least one; one alone is the whole text."""

    pieces: tuple[str, ...]

    @classmethod
    def of(cls, pattern: str) -> Wildcard:
        """Compile `pattern`; `*` stands for any run of characters, none included."""
        return cls(tuple(pattern.split("*")))

    def matches(self, text: str) -> bool:
        """Whether the whole of `text` is of this shape."""
        first, *rest = self.pieces
        if not rest:
            return text == first
        last = rest.pop()
        if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
            return False
        start, end = len(first), len(text) - len(last)
        # The leftmost place of each piece leaves the most room for the next: nothing has to be tried twice.
        for piece in rest:
            found = text.find(piece, start, end)
            if found < 0:
                return False
            start = found + len(piece)
        return True


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Patterns of which one must match; none at all match everything."""

    exact: frozenset[str]
    wildcards: tuple[Wildcard, ...]

    @classmethod
    def of(cls, patterns: Iterable[str]) -> AnyOf:
        """Compile patterns; those without a star are looked up, not tried."""
        patterns = tuple(patterns)
        return cls(
            frozenset(pattern for pattern in patterns if "*" not in pattern),
            tuple(Wildcard.of(pattern) for pattern in patterns if "*" in pattern),
        )

    @property
    def empty(self) -> bool:
        """Whether there is no pattern."""
        return not self.exact and not self.wildcards

    def matches(self, text: str) -> bool:
        """Whether any pattern matches."""
        return text in self.exact or any(wildcard.matches(text) for wildcard in self.wildcards)


@dataclass(frozen=True, slots=True)
class Hosts:
    """Patterns of an authority, without case. Those that name a port stand apart from those that do not."""

    with_port: AnyOf
    without_port: AnyOf

    @classmethod
    def of(cls, patterns: Iterable[str]) -> Hosts:
        """Compile patterns of hosts."""
        lowered = [pattern.lower() for pattern in patterns]
        return cls(
            AnyOf.of(pattern for pattern in lowered if _PORT.search(pattern)),
            AnyOf.of(pattern for pattern in lowered if not _PORT.search(pattern)),
        )

    @property
    def empty(self) -> bool:
        """Whether there is no pattern."""
        return self.with_port.empty and self.without_port.empty

    def matches(self, authority: str) -> bool:
        """Whether any pattern matches `authority` with its port, or without where the pattern names none."""
        lowered = authority.lower()
        return self.with_port.matches(lowered) or self.without_port.matches(_PORT.sub("", lowered))
