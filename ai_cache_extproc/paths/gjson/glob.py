"""Patterns of gjson: `*` is any run of characters, `?` is one character, a backslash takes a sign as it stands.

A text is searched for each piece between two stars once, from left to right: no pattern takes exponential time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ai_cache_extproc.paths.gjson.work import Work

_SIGN = re.compile(r"\\(.)|(.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Piece:
    """What stands between two stars. literal: the text, if it holds no `?`. length: in characters, always the same."""

    length: int
    literal: str | None
    pattern: re.Pattern[str]

    def find(self, text: str, start: int, end: int, work: Work) -> int:
        """The first place between `start` and `end`, or a negative number."""
        if self.literal is not None:
            work.search(2, end - start)
            return text.find(self.literal, start, end)
        work.search(2, (end - start) * self.length)
        found = self.pattern.search(text, start, end)
        return -1 if found is None else found.start()

    def stands_at(self, text: str, start: int) -> bool:
        """Whether it stands right there."""
        if self.literal is not None:
            return text.startswith(self.literal, start)
        return self.pattern.match(text, start) is not None


@dataclass(frozen=True, slots=True)
class Glob:
    """A pattern cut at its stars. last: None without a star. possible: whether anything can match."""

    first: Piece
    between: tuple[Piece, ...] = ()
    last: Piece | None = None
    possible: bool = True

    @classmethod
    def of(cls, pattern: str) -> Glob:
        """Compile a pattern. A backslash at its very end matches nothing, or itself where a star stands before it."""
        pieces: list[list[str | None]] = [[]]
        for escaped, plain in _SIGN.findall(pattern):
            if plain == "*":
                pieces.append([])
            else:
                pieces[-1].append(None if plain == "?" else escaped or plain)
        first, *others = map(_piece, pieces)
        if not others:
            return cls(first, possible=(len(pattern) - len(pattern.rstrip("\\"))) % 2 == 0)
        return cls(first, tuple(others[:-1]), others[-1])

    def matches(self, text: str, work: Work) -> bool:
        """Whether the whole of `text` is of this shape. Raises PathBudget."""
        work.spend(3)
        if self.last is None:
            return self.possible and len(text) == self.first.length and self.first.stands_at(text, 0)
        start, end = self.first.length, len(text) - self.last.length
        if start > end or not self.first.stands_at(text, 0) or not self.last.stands_at(text, end):
            return False
        # The leftmost place of each piece leaves the most room for the next: nothing has to be tried twice.
        for piece in self.between:
            found = piece.find(text, start, end, work)
            if found < 0:
                return False
            start = found + piece.length
        return True


def _piece(signs: list[str | None]) -> Piece:
    literal = None if None in signs else "".join(sign or "" for sign in signs)
    pattern = "".join("." if sign is None else re.escape(sign) for sign in signs)
    return Piece(len(signs), literal, re.compile(pattern, re.DOTALL))
