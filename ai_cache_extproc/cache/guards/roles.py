"""Whether the same words play each other's part: from Leeds to York, from York to Leeds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final

from ai_cache_extproc.cache.guards.lexicon import EN_CONTRAST, EN_STOP, ZH_LIGHT, ZH_STOP
from ai_cache_extproc.cache.guards.model import Question

_SOURCES: Final = frozenset({"from"})
_GOALS: Final = frozenset({"to", "into", "onto", "over", "than", "before", "after"})
_ARTICLES: Final = frozenset({"a", "an", "the", "my", "your", "our", "some"})
_SUBJECTS: Final = frozenset({"i", "we"})
_OBJECTS: Final = frozenset({"me", "us"})
# Between these, either may come first.
_EVEN: Final = frozenset(["and", "or", "versus", "vs", "with", "和", "与", "跟", "或", "还是", "及"])
_CHINESE: Final = "中"
PARTY_LENGTH_MAX: Final = 8
"""Of what may change places: words in English, characters in Chinese."""


def roles(a: Question, b: Question) -> bool:
    """Two parts of the sentence have changed places, or their from and to, or I and me."""
    if a.language == "zh":
        return _exchanged(a.canonical, b.canonical) or _reordered_with_direction(a, b)
    stems_a, stems_b = _kept(a), _kept(b)
    return _exchanged(stems_a, stems_b) or _redirected(a, b) or _done_to_me(stems_a, stems_b)


def _kept(question: Question) -> tuple[str, ...]:
    """Stems, without articles."""
    words = zip(question.words, question.stems, strict=True)
    return tuple(stem for word, stem in words if word not in _ARTICLES)


def _exchanged(a: Sequence[str], b: Sequence[str]) -> bool:
    """`A x B` against `B x A`, where neither part is a function word."""
    if len(a) != len(b) or a == b:
        return False
    start = next(place for place, (left, right) in enumerate(zip(a, b, strict=True)) if left != right)
    end = next(place for place, (left, right) in enumerate(zip(a[::-1], b[::-1], strict=True)) if left != right)
    a, b = a[start : len(a) - end], b[start : len(b) - end]
    return any(
        a[:head] == b[-head:]
        and a[-tail:] == b[:tail]
        and a[head:-tail] == b[tail:-head]
        and _are_parties(a[:head], a[-tail:])
        and "".join(a[head:-tail]) not in _EVEN
        for head in range(1, PARTY_LENGTH_MAX + 1)
        for tail in range(1, PARTY_LENGTH_MAX + 1)
        if head + tail < len(a)
    )


def _are_parties(*parts: Sequence[str]) -> bool:
    """Whether each has more than function words."""
    for part in parts:
        if isinstance(part, str):
            if part != _CHINESE and (part in ZH_STOP or part in ZH_LIGHT):
                return False
        elif all(word in EN_STOP or word in EN_CONTRAST for word in part):
            return False
    return True


def _redirected(a: Question, b: Question) -> bool:
    from_a, to_a = _after(a, _SOURCES), _after(a, _GOALS)
    from_b, to_b = _after(b, _SOURCES), _after(b, _GOALS)
    return bool((from_a & to_b) - (from_a & from_b) or (to_a & from_b) - (to_a & to_b))


def _after(question: Question, prepositions: Iterable[str]) -> set[str]:
    """Stems of the content words that follow one of these prepositions."""
    return {word for before, word in pairwise(_kept(question)) if before in prepositions and word not in EN_STOP}


def _done_to_me(a: Sequence[str], b: Sequence[str]) -> bool:
    """`my boss sues me` against `I sue my boss`."""
    done_a, done_b = _done_by(a), _done_by(b)
    suffered_a, suffered_b = _suffered_by(a), _suffered_by(b)
    return bool((done_a - done_b) & (suffered_b - suffered_a) or (done_b - done_a) & (suffered_a - suffered_b))


def _done_by(words: Sequence[str]) -> set[str]:
    return {word for before, word in pairwise(words) if before in _SUBJECTS and word not in EN_STOP}


def _suffered_by(words: Sequence[str]) -> set[str]:
    return {word for word, after in pairwise(words) if after in _OBJECTS and word not in EN_STOP}


def _reordered_with_direction(a: Question, b: Question) -> bool:
    is_reordered = a.content != b.content and sorted(a.content) == sorted(b.content)
    return is_reordered and "directed" in a.form | b.form
