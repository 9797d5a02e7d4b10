"""From a text to its language and, by language, to a `Question`; remembered, as the same few texts meet each other."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Final

from ai_cache_extproc.cache.guards.chinese import read_chinese
from ai_cache_extproc.cache.guards.english import read_english
from ai_cache_extproc.cache.guards.lexicon import EN_STOP
from ai_cache_extproc.cache.guards.model import Language, Question

QUESTIONS_KEPT: Final = 4_096
_HAN: Final = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_KANA: Final = re.compile(r"[\u3040-\u30ff]")
_WORD: Final = re.compile(r"[^\W\d_\u3400-\u9fff]+")
# Stop words that other languages write as well.
_SHARED: Final = frozenset(
    [
        "a",
        "am",
        "an",
        "as",
        "also",
        "d",
        "do",
        "es",
        "for",
        "in",
        "is",
        "it",
        "m",
        "me",
        "may",
        "mine",
        "no",
        "of",
        "on",
        "one",
        "or",
        "s",
        "so",
        "t",
        "us",
        "was",
        "ve",
        "was",
    ]
)
_ENGLISH: Final = EN_STOP - _SHARED


def plain(text: str) -> str:
    """NFKC, with one space wherever there was any."""
    return " ".join(unicodedata.normalize("NFKC", text).split())


def language_of(text: str) -> Language:
    """What lists a text is read with. `other` is read as English, but trusted less."""
    han = len(_HAN.findall(text))
    words = _WORD.findall(text.lower())
    if han and han >= len(words):
        return "other" if _KANA.search(text) else "zh"
    return "en" if text.isascii() and any(word in _ENGLISH for word in words) else "other"


def script_of(text: str) -> str:
    """The script that most letters of a text are of, by the first word of their Unicode names; empty without letters."""
    counts: dict[str, int] = {}
    for letter in text:
        if letter.isalpha():
            script = "LATIN" if letter.isascii() else unicodedata.name(letter, "?").split(maxsplit=1)[0]
            counts[script] = counts.get(script, 0) + 1
    return max(counts, key=lambda script: (counts[script], script), default="")


@lru_cache(maxsize=QUESTIONS_KEPT)
def read(text: str) -> Question:
    """`text` is `plain`."""
    language = language_of(text)
    return read_chinese(text) if language == "zh" else read_english(text, language)
