"""How two questions differ: the name of a class, each of which asks for its own similarity.

0 the same content, 1 but for words of little weight; with q another question word, f another form of answer, r another
order. R and P: restructured, on both sides or on one. E: a name differs. I: something inserted, Iv an adverb. S: one part
swapped; Sx a name, or the question word. V: never the same. Of several that fit, the first of `_class_of` counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, get_args

from ai_cache_extproc.cache.guards.lexicon import EN_NOT_ADVERBS, EN_REVERSING, ZH_REVERSING
from ai_cache_extproc.cache.guards.matching import Difference, compare
from ai_cache_extproc.cache.guards.model import Question
from ai_cache_extproc.cache.guards.reading import plain, read
from ai_cache_extproc.cache.guards.roles import roles
from ai_cache_extproc.cache.guards.vetoes import GUARDS, contrast

Class = Literal[
    "0", "1", "0q", "1q", "0f", "1f", "0r", "1r", "0qr", "1qr", "R", "P", "Iv", "E", "I", "S", "Sx", "V"
]  # fmt: skip
CLASSES: Final[tuple[Class, ...]] = get_args(Class)

TEXT_CHARS_MAX: Final = 1_000
WORDS_MAX: Final = 120
"""Longer questions are the same if they are equal, and are not looked at otherwise."""


class Classed(NamedTuple):
    """guard: what vetoed it, of class V. is_long: more words than a likeness of the whole speaks for."""

    name: Class
    guard: str | None
    language: str
    is_long: bool


_LONG_WORDS: Final = 20
_LONG_HAN: Final = 40
_REVERSING: Final = EN_REVERSING | ZH_REVERSING


def classify(asked: str, stored: str) -> Classed:
    """How two texts differ, whichever comes first. Never raises, and takes bounded time."""
    if max(len(asked), len(stored)) > TEXT_CHARS_MAX:
        is_same = asked == stored
        return Classed("0" if is_same else "V", None if is_same else "length", "other", is_long=True)
    # Alignment is not symmetric by itself.
    a, b = (read(text) for text in sorted((plain(asked), plain(stored))))
    language = a.language if a.language == b.language else "other"
    words = max(len(a.words), len(b.words))
    is_long = max(len(a.text), len(b.text)) > _LONG_HAN if language == "zh" else words > _LONG_WORDS
    if a.text.casefold() == b.text.casefold():
        return Classed("0", None, language, is_long)
    if words > WORDS_MAX:
        return Classed("V", "length", language, is_long)
    guard = vetoed_by(a, b) or ("contrast" if contrast(a, b) else "roles" if roles(a, b) else None)
    if guard is not None:
        return Classed("V", guard, language, is_long)
    difference = compare(a, b)
    if _is_reversed(difference):
        return Classed("V", "reversal", language, is_long)
    return Classed(_class_of(a, b, difference), None, language, is_long)


def vetoed_by(a: Question, b: Question) -> str | None:
    """The name of the first guard that forbids it."""
    return next((name for name, guard in GUARDS if guard(a, b)), None)


def _is_reversed(difference: Difference) -> bool:
    """To stop it, on one side, where the other has nothing instead."""
    heavy_a, heavy_b = difference.heavy
    return not (heavy_a and heavy_b) and not _REVERSING.isdisjoint(heavy_a + heavy_b)


def _class_of(a: Question, b: Question, difference: Difference) -> Class:
    heavy_a, heavy_b = difference.heavy
    if not heavy_a and not heavy_b:
        return _same_content(a, b, difference)
    names_differ = not (a.entities | b.entities).isdisjoint(difference.rest[0] + difference.rest[1])
    if heavy_a and heavy_b:
        if difference.edits == ("replace",):
            return "Sx" if names_differ else "S"
        return "E" if names_differ else "R"
    if len(difference.edits) > 1:
        return "E" if names_differ else "P"
    is_adverb = all(word.endswith("ly") and word not in EN_NOT_ADVERBS for word in heavy_a + heavy_b)
    return "Iv" if is_adverb else "I"


def _same_content(a: Question, b: Question, difference: Difference) -> Class:
    is_light = any(difference.rest)
    # How the answer is to be given is said in many ways: "how do I" is "what are the steps".
    if a.asks - {"how"} != b.asks - {"how"}:
        if a.asks and b.asks and a.asks.isdisjoint(b.asks):
            return "Sx"
        return _named("q", difference, is_light=is_light, is_chinese=a.language == "zh")
    if a.language != "zh" and a.form != b.form:
        return "1f" if is_light else "0f"
    return _named("", difference, is_light=is_light, is_chinese=a.language == "zh")


def _named(suffix: Literal["q", ""], difference: Difference, *, is_light: bool, is_chinese: bool) -> Class:
    order: Literal["r", ""] = "r" if is_chinese and len(difference.edits) > 1 else ""
    return _NAMES[is_light, suffix, order]


_NAMES: Final[Mapping[tuple[bool, str, str], Class]] = {
    (False, "", ""): "0",
    (False, "", "r"): "0r",
    (False, "q", ""): "0q",
    (False, "q", "r"): "0qr",
    (True, "", ""): "1",
    (True, "", "r"): "1r",
    (True, "q", ""): "1q",
    (True, "q", "r"): "1qr",
}
