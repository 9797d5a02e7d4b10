"""Which words of two questions mean the same, what is left over, and in how many places."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Final

from ai_cache_extproc.cache.guards.chinese import chinese_keys
from ai_cache_extproc.cache.guards.english import english_keys
from ai_cache_extproc.cache.guards.lexicon import EN_LIGHT, EN_SYNONYMS, ZH_LIGHT
from ai_cache_extproc.cache.guards.model import Question

TYPO_LETTERS_MIN: Final = 5
TYPO_WORDS_MAX: Final = 8
"""Beyond as many unmatched words, nobody looks for typing errors: every pair would be compared."""

_TIMES: Final = frozenset({"hour", "hours", "day", "days", "week", "weeks", "month", "months", "year", "years"})


@dataclass(frozen=True, slots=True)
class Difference:
    """rest: content words without a counterpart. heavy: those of them that carry meaning. Each of both sides.

    edits: the contiguous places in which the contents differ: replace, insert or delete.
    """

    rest: tuple[tuple[str, ...], tuple[str, ...]]
    heavy: tuple[tuple[str, ...], tuple[str, ...]]
    edits: tuple[str, ...]


def compare(a: Question, b: Question) -> Difference:
    """Two questions of one language."""
    return _compare_chinese(a, b) if a.language == "zh" else _compare_english(a, b)


def _compare_english(a: Question, b: Question) -> Difference:
    signs_a, signs_b = _signs(a.content, b.content, english_keys)
    rest_a, rest_b = _unsigned(a.content, signs_a), _unsigned(b.content, signs_b)
    if max(len(rest_a), len(rest_b)) <= TYPO_WORDS_MAX:
        for word in rest_a:
            for other in rest_b:
                if _is_typo(word, other):
                    signs_a, signs_b = _signed(a.content, signs_a, word), _signed(b.content, signs_b, other)
                    signs_a = tuple("~" + other if sign == "~" + word else sign for sign in signs_a)
        rest_a, rest_b = _unsigned(a.content, signs_a), _unsigned(b.content, signs_b)
    # Numbers that were worth a veto have had it: what is left is 2 weeks against 14 days.
    light = EN_LIGHT | _TIMES if a.numbers and a.numbers == b.numbers else EN_LIGHT
    heavy = _without(rest_a, light), _without(rest_b, light)
    return Difference((rest_a, rest_b), heavy, _edits(a.content, signs_a, b.content, signs_b))


def _compare_chinese(a: Question, b: Question) -> Difference:
    signs_a, signs_b = _signs(a.content, b.content, chinese_keys)
    signs_a = tuple(sign or _contained(word, b) for sign, word in zip(signs_a, a.content, strict=True))
    signs_b = tuple(sign or _contained(word, a) for sign, word in zip(signs_b, b.content, strict=True))
    rest_a, rest_b = _unsigned(a.content, signs_a), _unsigned(b.content, signs_b)
    heavy_a = tuple(word for word in _without(rest_a, ZH_LIGHT) if not set(word) <= set(b.canonical))
    heavy_b = tuple(word for word in _without(rest_b, ZH_LIGHT) if not set(word) <= set(a.canonical))
    return Difference((rest_a, rest_b), (heavy_a, heavy_b), _edits(a.content, signs_a, b.content, signs_b))


def _contained(word: str, other: Question) -> str:
    return "=" + word if len(word) > 1 and word in other.canonical else ""


def _signs(
    content_a: Sequence[str], content_b: Sequence[str], keys: Callable[[str], frozenset[str]]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Of each word a sign that it shares with its counterpart; empty without one."""
    by_key: dict[str, str] = {}
    for word in content_b:
        for key in keys(word):
            by_key.setdefault(key, min(keys(word)))
    keys_a = {key for word in content_a for key in keys(word)}
    signs_a = tuple(min((by_key[key] for key in keys(word) if key in by_key), default="") for word in content_a)
    return signs_a, tuple(min(keys(word)) if keys_a & keys(word) else "" for word in content_b)


def _signed(content: Sequence[str], signs: Sequence[str], word: str) -> tuple[str, ...]:
    return tuple("~" + word if each == word else sign for each, sign in zip(content, signs, strict=True))


def _unsigned(content: Sequence[str], signs: Sequence[str]) -> tuple[str, ...]:
    return tuple(word for word, sign in zip(content, signs, strict=True) if not sign)


def _without(words: Sequence[str], light: frozenset[str]) -> tuple[str, ...]:
    return tuple(word for word in words if word not in light and not word.isdecimal())


def _edits(
    content_a: Sequence[str], signs_a: Sequence[str], content_b: Sequence[str], signs_b: Sequence[str]
) -> tuple[str, ...]:
    left = [sign or "<" + word for word, sign in zip(content_a, signs_a, strict=True)]
    right = [sign or ">" + word for word, sign in zip(content_b, signs_b, strict=True)]
    opcodes = SequenceMatcher(None, left, right, autojunk=False).get_opcodes()
    return tuple(step for step, *_ in opcodes if step != "equal")


def _is_typo(word: str, other: str) -> bool:
    """One letter too many, too few or another, or two that changed places, in a word that no list knows."""
    if min(len(word), len(other)) < TYPO_LETTERS_MIN or abs(len(word) - len(other)) > 1 or word[0] != other[0]:
        return False
    if word in EN_SYNONYMS and other in EN_SYNONYMS:
        return False
    if len(word) > len(other):
        word, other = other, word
    place = next((place for place, letter in enumerate(word) if letter != other[place]), len(word))
    if len(word) < len(other):
        return word[place:] == other[place + 1 :]
    rest, others = word[place:], other[place:]
    return rest[1:] == others[1:] or (rest[:2] == others[1::-1] and rest[2:] == others[2:])
