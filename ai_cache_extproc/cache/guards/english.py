"""Reading an English question: one way of saying things, then its words, numbers, dates and negations."""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise
from typing import Final

from ai_cache_extproc.cache.guards.lexicon import EN_CONTRAST, EN_PHRASES, EN_STOP, EN_SYNONYMS, EN_VETO_CONTRAST
from ai_cache_extproc.cache.guards.model import Language, Question

WORDS_KEPT: Final = 16_384
_TOKEN: Final = re.compile(r"[^\W\d_]\+\+|\b[a-z]#|\d+(?:\.\d+)?|(?:[^\W_])+|[£$€%]")
_BEFORE_PHRASES: Final = (
    (re.compile(r"[\u2019\u02bc`\u00b4]"), "'"),
    (re.compile(r"\bcan't\b|\bcannot\b|\bcant\b"), "can not"),
    (re.compile(r"\bwon't\b"), "will not"),
    (re.compile(r"\bshan't\b"), "shall not"),
    (re.compile(r"n't\b"), " not"),
    (re.compile(r"\b(is|are|do|does|did|was|were|has|have|would|could|should)nt\b"), r"\1 not"),
    (re.compile(r"\b(what|who|where|when|how|why|it|that|there|here)(?:'s|'re)\b"), r"\1 is"),
    (re.compile(r"\bwhats\b"), "what is"),
    (re.compile(r"\b(i|you|we|they)'(?:m|re|ve|d|ll)\b"), r"\1"),
    (re.compile(r"'s\b|s'(?= )|'"), lambda match: "s" if match[0].startswith("s") else ""),
    (re.compile(r"(?<=\d),(?=\d{3})"), ""),
    (re.compile(r"\bwi-fi\b"), "wifi"),
    (re.compile(r"\be-?mails?\b"), "email"),
    (re.compile(r"(?<=\d)(?=(?:am|pm|km|kg|cm|mm|mb|gb|lb|mg|ml|kb|tb|k|h|m|g|st|nd|rd|th)\b)"), " "),
    (re.compile(r"\b([ap])\.m\.?(?=\W|$)"), r"\1m"),
    (re.compile(r"\bunable to\b"), "not able to"),
    (re.compile(r"\bwhether or not\b"), "whether"),
    (re.compile(r"\bwhy not\b|\bwhy do(?:nt)? not (?:we|i|you)\b"), "shall"),
    (re.compile(r"\bi am\b"), "i"),
)
_NEGATING: Final = frozenset(
    [
        "no",
        "not",
        "never",
        "without",
        "cannot",
        "nor",
        "neither",
        "none",
        "nobody",
        "nothing",
        "nowhere",
        "hardly",
        "non",
        "non-existent",
    ]
)
_UNITS: Final = dict(
    zip(
        [
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
            "thirteen",
            "fourteen",
            "fifteen",
            "sixteen",
            "seventeen",
            "eighteen",
            "nineteen",
        ],
        range(2, 20),
        strict=True,
    )
)
_TENS: Final = dict(
    zip(["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"], range(20, 100, 10), strict=True)
)
_ORDINALS: Final = dict(
    zip(
        ["second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"],
        range(2, 11),
        strict=True,
    )
)
_SCALES: Final = {"hundred": 100, "thousand": 1_000, "million": 1_000_000, "billion": 1_000_000_000, "k": 1_000}
_ARABIC: Final = re.compile(r"\d+(?:\.\d+)?")
# A number of one unit is a number of another.
_SAME_TIME: Final = {
    "day": (1.0, "day"),
    "week": (7.0, "day"),
    "hour": (1 / 24, "day"),
    "month": (1 / 12, "year"),
    "year": (1.0, "year"),
}

_DATES: Final = {
    "month": [
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
    ],
    "weekday": ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"],
    "rel": ["yesterday", "today", "tomorrow", "tonight", "weekend", "weekday"],
    "period": ["daily", "weekly", "monthly", "yearly", "hourly"],
    "part": ["morning", "afternoon", "evening", "night", "noon", "midnight"],
    "season": ["spring", "summer", "autumn", "winter"],
}
_DATE_OF: Final = {word: (group, word) for group, words in _DATES.items() for word in words}
_OTHER_DATES: Final = {
    "annual": "yearly",
    "annually": "yearly",
    "yearly": "yearly",
    "weekends": "weekend",
    "weekdays": "weekday",
}
_SHORT_MONTHS: Final = {month[:3]: month for month in _DATES["month"] if month != "may"} | {"sept": "september"}
_TURNS: Final = frozenset({"last", "next", "previous"})
_SPANS: Final = frozenset(
    [
        "week",
        "month",
        "year",
        "night",
        "quarter",
        "decade",
        "century",
        "weekend",
        "day",
        "time",
        "season",
        "summer",
        "winter",
        "spring",
        "autumn",
    ]
)
_YES_OR_NO: Final = frozenset(
    [
        "is",
        "are",
        "am",
        "was",
        "were",
        "do",
        "does",
        "did",
        "can",
        "could",
        "should",
        "will",
        "would",
        "has",
        "have",
        "had",
        "may",
        "must",
    ]
)
_QUESTION_WORDS: Final = frozenset(["what", "which", "how", "why", "when", "where", "who", "whom", "whose"])
_WH: Final = {"why": "why", "when": "when", "where": "where", "who": "who", "whom": "who", "whose": "who"}
_PRICES: Final = frozenset({"cost", "costs", "price", "prices"})
_MUCH_FOR: Final = re.compile(r"\bhow much (?:is|are|for|do you charge)\b")
_FORMS: Final = {"should": "ought", "would": "would", "will": "will", "long": "long"}
_MANNERS: Final = frozenset(["way", "ways", "step", "steps", "possible", "method", "procedure", "process"])
_SUFFIXES: Final = (
    "ations",
    "ation",
    "ments",
    "ment",
    "tions",
    "tion",
    "ings",
    "ing",
    "iest",
    "est",
    "ers",
    "er",
    "ies",
    "ied",
    "ed",
    "es",
    "ly",
    "s",
    "y",
    "e",
)
_BRITISH: Final = (
    (re.compile(r"(?<=[a-z]{2})our(?=$|s$|i|e|a|f|l)"), "or"),
    (re.compile(r"(?<=[a-z]{3})is(?=e$|es$|ed$|ing$|er$|ation)"), "iz"),
    (re.compile(r"(?<=[a-z])ys(?=e$|ed$|ing$)"), "yz"),
    (re.compile(r"(?<=[a-z]{2})tre(?=s?$)"), "ter"),
    (re.compile(r"(?<=[a-z])ae(?=[a-z])|oe(?=[dm])"), "e"),
    (re.compile(r"ogue(?=s?$)"), "og"),
    (re.compile(r"ll(?=ed$|ing$|er$|ers$|or$)"), "l"),
    (re.compile(r"(?<=[a-z]{2})ence$"), "ense"),
    (re.compile(r"(?<=carbur)ett"), "et"),
    (re.compile(r"^tyre"), "tire"),
    (re.compile(r"^mould"), "mold"),
    (re.compile(r"^grey"), "gray"),
    (re.compile(r"gramme(?=s?$)"), "gram"),
)


def read_english(text: str, language: Language) -> Question:
    """A question in English, or in what is taken for it. `text` is NFKC."""
    lowered = text.lower()
    for pattern, plain in _BEFORE_PHRASES:
        lowered = pattern.sub(plain, lowered)
    for pattern, plain in EN_PHRASES:
        lowered = pattern.sub(plain, lowered)
    words = tuple(_TOKEN.findall(lowered))
    stems = tuple(stem(word) for word in words)
    content = tuple(word for word in words if word not in EN_STOP and word not in EN_CONTRAST)
    return Question(
        text=text,
        language=language,
        canonical=" ".join(words),
        words=words,
        stems=stems,
        content=content,
        entities=_entities(text),
        numbers=_numbers(words, stems),
        dates=_dates(words),
        identifiers=frozenset(word for word in words if _is_identifier(word)),
        negations=sum(word in _NEGATING for word in words),
        asks=_asks(words),
        form=_form(words),
        contrast=_contrast(words),
    )


@lru_cache(maxsize=WORDS_KEPT)
def stem(word: str) -> str:
    """What the forms of a word share, in American spelling: `organising` and `organizer` are both `organiz`."""
    for pattern, plain in _BRITISH:
        word = pattern.sub(plain, word)
    if word in _UNITS or not word.isalpha() or len(word) < 4:
        return word
    # Twice, as `watering` ends in two of them, and `water` in one.
    for _ in range(2):
        suffix = next((suffix for suffix in _SUFFIXES if word.endswith(suffix) and len(word) - len(suffix) >= 3), "")
        word = word.removesuffix(suffix)
    return word[:-1] if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "aeiouls" else word


@lru_cache(maxsize=WORDS_KEPT)
def english_keys(word: str) -> frozenset[str]:
    """Two words mean the same if they share one of these."""
    bare = stem(word)
    named = EN_SYNONYMS.get(word) or EN_SYNONYMS.get(word.removesuffix("s")) or EN_SYNONYMS.get(bare) or frozenset()
    value = _UNITS.get(word) or _TENS.get(word)
    return named | {bare} | ({str(value)} if value else set())


def _is_identifier(word: str) -> bool:
    """Letters with digits, or a letter with signs: `mx492`, `c++`."""
    return (not word.isalpha() and any(letter.isalpha() for letter in word)) or word in {"c", "r"}


def _entities(text: str) -> frozenset[str]:
    """Words written as names: a capital inside the sentence, all capitals, a capital inside the word."""
    found: set[str] = set()
    begins = True
    for token in re.findall(r"[^\W_]+|[.?!:]", text):
        is_name = token[0].isupper() and not begins and token != "I"  # noqa: S105  # a word
        if is_name or (len(token) > 1 and any(letter.isupper() for letter in token[1:])):
            found.add(token.lower())
        begins = not token[0].isalnum()
    return frozenset(found)


def _numbers(words: tuple[str, ...], stems: tuple[str, ...]) -> frozenset[str]:
    """Numbers as they would be written with digits, weeks as days. One says nothing without a unit, nor does a half."""
    found: set[str] = set()
    place = 0
    while place < len(words):
        value, place = _number_at(words, place)
        if value is not None:
            counted = stems[place] if place < len(words) else ""
            times, unit = _SAME_TIME.get(counted, (1.0, ""))
            if not (value * times).is_integer():
                times, unit = 1.0, counted if counted in _SAME_TIME else ""
            if (value, unit) != (1, ""):
                found.add(f"{value * times:g}{unit}")
    return frozenset(found)


def _number_at(words: tuple[str, ...], place: int) -> tuple[float | None, int]:
    """The number that begins at a place, and where what follows it begins."""
    value = _value(words[place])
    place += 1
    if words[place - 1] == "one" and place < len(words) and stem(words[place]) in _SAME_TIME:
        value = 1.0
    if value is None:
        return None, place
    if value in _TENS.values() and place < len(words) and (ones := _value(words[place])) is not None and ones < 10:
        value, place = value + ones, place + 1
    while place < len(words) and words[place] in _SCALES:
        value, place = value * _SCALES[words[place]], place + 1
    return value, place


def _value(word: str) -> float | None:
    if _ARABIC.fullmatch(word):
        return float(word[:300])
    found = _UNITS.get(word) or _TENS.get(word) or _ORDINALS.get(word)
    return None if found is None else float(found)


def _dates(words: tuple[str, ...]) -> frozenset[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
    for place, word in enumerate(words):
        whole = _SHORT_MONTHS.get(word) or _OTHER_DATES.get(word) or word
        known = whole if whole in _DATE_OF else whole.removesuffix("s")
        is_doubtful = known in {"may", "march"} or word in _SHORT_MONTHS
        if known in _DATE_OF and (not is_doubtful or _is_month(words, place)):
            found.add(_DATE_OF[known])
    for word, following in pairwise(words):
        if word in _TURNS and following.removesuffix("s") in _SPANS:
            found.add(("order", "last" if word == "previous" else word))
    return frozenset(found)


def _is_month(words: tuple[str, ...], place: int) -> bool:
    """Whether `may` or `march` stands beside a number, or after what months stand after."""
    before = words[place - 1] if place else ""
    after = words[place + 1] if place + 1 < len(words) else ""
    return before in {"in", "since", "until", "by", "of", "last", "next", "during", "and", "or"} or any(
        _ARABIC.fullmatch(word) for word in (before, after)
    )


def _asks(words: tuple[str, ...]) -> frozenset[str]:
    found = {_WH[word] for word in words if word in _WH}
    for word, following in pairwise(words):
        if word == "how":
            found.add(following if following in {"many", "much", "often", "far", "long"} else "how")
    # What it costs is asked with "how much" and with "what".
    if "much" in found and (_PRICES.intersection(words) or _MUCH_FOR.search(" ".join(words))):
        found = (found - {"much"}) | {"price"}
    elif _PRICES.intersection(words):
        found.add("price")
    return frozenset(found)


def _form(words: tuple[str, ...]) -> frozenset[str]:
    found = {_FORMS[word] for word in words if word in _FORMS}
    if (
        words
        and words[0] in _YES_OR_NO
        and not _QUESTION_WORDS.intersection(words)
        and not _MANNERS.intersection(words)
    ):
        found.add("yes or no")
    return frozenset(found)


def _contrast(words: tuple[str, ...]) -> frozenset[str]:
    """Without `am` and `pm` that are no time of day."""
    found = {word for word in words if word in EN_VETO_CONTRAST} - {"am"}
    for word, following in pairwise(words):
        if following == "am" and _ARABIC.fullmatch(word):
            found.add("am")
        # The difference between two is how they differ.
        if following == "between" and word.startswith("dif"):
            found.discard("between")
    return frozenset(found)
