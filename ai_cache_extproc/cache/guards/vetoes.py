"""The guards: each looks at two questions and says whether one difference alone forbids that they share an answer.

All are symmetric. They know two `Question`s of one language; `script` also compares those of two.
"""

from __future__ import annotations

from collections.abc import Callable
from difflib import SequenceMatcher
from typing import Final

from ai_cache_extproc.cache.guards.english import stem
from ai_cache_extproc.cache.guards.lexicon import EN_ANTONYMS, ZH_ANTONYMS, ZH_OPPOSITES, Sides
from ai_cache_extproc.cache.guards.model import Question
from ai_cache_extproc.cache.guards.reading import script_of

_PREFIXES: Final = ("un", "in", "im", "ir", "il", "dis", "non", "de", "mis", "self")
_BOTH_SIDES: Final = ("period", "part", "season")
"""Dates that forbid only where both questions have one."""
ALIGNED_CHARS_MAX: Final = 128
"""Chinese texts beyond it are compared by words only: aligning characters takes the square of their number."""


def script(a: Question, b: Question) -> bool:
    """Written in different scripts: the answer is expected in another language."""
    return (a.language != b.language and "zh" in {a.language, b.language}) or script_of(a.text) != script_of(b.text)


def number(a: Question, b: Question) -> bool:
    """Other numbers: 3 and three are one number, and so are two weeks and 14 days."""
    values_a, values_b = _values(a), _values(b)
    return values_a.keys() != values_b.keys() or any(
        unit and values_b[value] and unit != values_b[value] for value, unit in values_a.items()
    )


def date(a: Question, b: Question) -> bool:
    """Another month, weekday or day, or one on one side only; another part of the day or period, where both name one."""
    difference = a.dates ^ b.dates
    named = {group for group, _ in a.dates} & {group for group, _ in b.dates}
    return any(group not in _BOTH_SIDES or group in named for group, _ in difference)


def negation(a: Question, b: Question) -> bool:
    """An odd number of negations against an even one."""
    return (a.negations - b.negations) % 2 == 1


def identifier(a: Question, b: Question) -> bool:
    """Other identifiers: `mx492`, `c++`; in Chinese every Latin word."""
    return a.identifiers != b.identifiers


def contrast(a: Question, b: Question) -> bool:
    """A word that sets things apart on one side only: before, without, other."""
    return a.contrast != b.contrast


def antonym(a: Question, b: Question) -> bool:
    """Opposites in what differs: enable and disable, lock and unlock."""
    return _chinese_antonym(a, b) if a.language == "zh" else _english_antonym(a, b)


GUARDS: Final[tuple[tuple[str, Callable[[Question, Question], bool]], ...]] = (
    ("script", script),
    ("negation", negation),
    ("number", number),
    ("date", date),
    ("identifier", identifier),
    ("antonym", antonym),
)
"""In the order in which they are asked, with the names that a decision is logged under."""


def _values(question: Question) -> dict[str, str]:
    """Numbers, each with the unit of time that it counts, if any."""
    found: dict[str, str] = {}
    for number in question.numbers:
        value = number.rstrip("adehkmnortuwy")
        found[value] = max(found.get(value, ""), number[len(value) :])
    return found


def _opposed(left: frozenset[tuple[int, int]], right: frozenset[tuple[int, int]]) -> bool:
    return any((pair, 1 - side) in right for pair, side in left)


def _sides_of(words: set[str], sides: Sides) -> frozenset[tuple[int, int]]:
    found = {side for word in words for side in sides.get(word) or sides.get(word.removesuffix("s")) or ()}
    return frozenset(found)


def _english_antonym(a: Question, b: Question) -> bool:
    only_a, only_b = set(a.words) - set(b.words), set(b.words) - set(a.words)
    if _opposed(_sides_of(only_a, EN_ANTONYMS), _sides_of(only_b, EN_ANTONYMS)):
        return True
    stems_a, stems_b = {stem(word) for word in only_a}, {stem(word) for word in only_b}
    return _prefixed(stems_a, stems_b) or _prefixed(stems_b, stems_a)


def _prefixed(stems: set[str], others: set[str]) -> bool:
    return any(prefix + bare in others for bare in stems if len(bare) >= 3 for prefix in _PREFIXES)


def _chinese_antonym(a: Question, b: Question) -> bool:
    words_a, words_b = set(a.words), set(b.words)
    only_a = {word for word in words_a - words_b if word not in b.canonical}
    only_b = {word for word in words_b - words_a if word not in a.canonical}
    if _opposed(_sides_of(only_a, ZH_ANTONYMS), _sides_of(only_b, ZH_ANTONYMS)):
        return True
    if max(len(a.canonical), len(b.canonical)) > ALIGNED_CHARS_MAX:
        return False
    matcher = SequenceMatcher(None, a.canonical, b.canonical, autojunk=False)
    return any(
        step == "replace" and frozenset({a.canonical[a_from:a_to], b.canonical[b_from:b_to]}) in ZH_OPPOSITES
        for step, a_from, a_to, b_from, b_to in matcher.get_opcodes()
    )
