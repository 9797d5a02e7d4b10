"""What a question is made into once, and then compared with others: `read_english` and `read_chinese` make it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Language = Literal["en", "zh", "other"]


@dataclass(frozen=True, slots=True)
class Question:
    """text: NFKC, one space between words, otherwise as it was asked.

    canonical: with one way of saying things. words: all of it, in order. content: without function words.
    stems: of each word of `words`, what it has in common with its other forms. entities: words written as names.
    """

    text: str
    language: Language
    canonical: str
    words: tuple[str, ...]
    stems: tuple[str, ...]
    content: tuple[str, ...]
    entities: frozenset[str]
    numbers: frozenset[str]
    dates: frozenset[tuple[str, str]]
    identifiers: frozenset[str]
    negations: int
    asks: frozenset[str]
    """The classes of question words."""
    form: frozenset[str]
    """What else decides what kind of answer is wanted: a yes or no, a duration, an obligation."""
    contrast: frozenset[str]
    """Words of which a difference is never small: before, without, every."""
