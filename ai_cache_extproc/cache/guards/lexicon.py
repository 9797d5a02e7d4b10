"""The word lists of the guards and of the decision rule, read once from `lexicon.json`. English and Chinese."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any, Final

_READ: Final[Mapping[str, Any]] = json.loads(
    files("ai_cache_extproc.cache.guards").joinpath("lexicon.json").read_text(encoding="utf-8")
)

Sides = Mapping[str, frozenset[tuple[int, int]]]
"""Of a word, the pairs of opposites that it belongs to, each with its side: 0 or 1."""


def _groups(groups: Sequence[Sequence[str]]) -> Mapping[str, frozenset[str]]:
    """Of a word, the names of the groups of synonyms that it belongs to."""
    names: dict[str, set[str]] = {}
    for number, group in enumerate(groups):
        for word in group:
            names.setdefault(word, set()).add(f"#{number}")
    return {word: frozenset(found) for word, found in names.items()}


def _sides(pairs: Iterable[Sequence[Sequence[str]]]) -> Sides:
    sides: dict[str, set[tuple[int, int]]] = {}
    for number, pair in enumerate(pairs):
        for side, words in enumerate(pair):
            for word in words:
                sides.setdefault(word, set()).add((number, side))
    return {word: frozenset(found) for word, found in sides.items()}


EN_PHRASES: Final = tuple((re.compile(pattern.lower()), plain) for pattern, plain in _READ["en_phrases"])
EN_SYNONYMS: Final = _groups(_READ["en_synonym_groups"])
EN_STOP: Final = frozenset(_READ["en_stop"])
EN_LIGHT: Final = frozenset(_READ["en_light"])
EN_CONTRAST: Final = frozenset(_READ["en_contrast"])
EN_VETO_CONTRAST: Final = frozenset(_READ["en_veto_contrast"])
EN_REVERSING: Final = frozenset(_READ["en_reversing"])
EN_NOT_ADVERBS: Final = frozenset(_READ["en_not_adverbs"])
EN_ANTONYMS: Final = _sides(_READ["en_antonyms"])

ZH_PHRASES: Final = tuple((old, new) for old, new in _READ["zh_phrases"])
ZH_SYNONYMS: Final = _groups(_READ["zh_synonym_groups"])
ZH_STOP: Final = frozenset(_READ["zh_stop"])
ZH_LIGHT: Final = frozenset(_READ["zh_light"])
ZH_ANTONYMS: Final = _sides(_READ["zh_antonyms"])
ZH_REVERSING: Final = frozenset(_READ["zh_reversing"])
ZH_VETO_CONTRAST: Final = frozenset(_READ["zh_veto_contrast"])
ZH_NOT_NEGATING: Final = tuple(_READ["zh_not_negating"])
ZH_NOT_NUMBERS: Final = tuple(_READ["zh_not_numbers"])
ZH_OPPOSITES: Final = frozenset(frozenset(pair) for pair in _READ["zh_opposites"])
ZH_WORDS: Final = (
    frozenset(_READ["zh_words"])
    | ZH_STOP
    | ZH_LIGHT
    | frozenset(ZH_SYNONYMS)
    | frozenset(ZH_ANTONYMS)
    | ZH_REVERSING
    | ZH_VETO_CONTRAST
)
"""What longest match can cut a text into."""
