"""Reading a Chinese question: one way of saying things, then its words, numbers, dates and negations."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from ai_cache_extproc.cache.guards.lexicon import (
    ZH_NOT_NEGATING,
    ZH_NOT_NUMBERS,
    ZH_PHRASES,
    ZH_STOP,
    ZH_SYNONYMS,
    ZH_VETO_CONTRAST,
    ZH_WORDS,
)
from ai_cache_extproc.cache.guards.model import Question

WORDS_KEPT: Final = 16_384
_WORD_CHARS_MAX: Final = max(map(len, ZH_WORDS))
_LATIN: Final = re.compile(r"[a-z][a-z0-9+#]*|\d+(?:\.\d+)?[a-z][a-z0-9]*")
_RUN: Final = re.compile(r"[a-z0-9.+#%]+")
# A not A: 能不能, 有没有, 喜不喜欢.
_A_NOT_A: Final = re.compile(r"(\w)[不没](\1)")
_WHETHER: Final = re.compile(r"可不可以|可以不可以|与否|了没有?(?=[?。!,]|$)|了吗?没有(?=[?。!,]|$)")
_NEGATING: Final = re.compile(r"[不没未无非别勿]")
_NOT_NEGATING: Final = re.compile("|".join(sorted(ZH_NOT_NEGATING, key=len, reverse=True)))
_NUMERALS: Final = "零\u3007一二两三四五六七八九十百千万亿"
_NOT_NUMBERS: Final = re.compile(
    f"(?<![{_NUMERALS}])(?:" + "|".join(sorted(ZH_NOT_NUMBERS, key=len, reverse=True)) + ")"
)
_DIGITS: Final = {
    "零": 0,
    "\u3007": 0,
    "一": 1,
    "二": 2,
    "两": 2,
    "三": 3,
    "四": 4,
    "五": 5,
    "六": 6,
    "七": 7,
    "八": 8,
    "九": 9,
}
_SCALES: Final = {"十": 10, "百": 100, "千": 1_000, "万": 10_000, "亿": 100_000_000}
_NUMBER: Final = re.compile(rf"(\d+(?:\.\d+)?)([万亿千百十]?)|([{_NUMERALS}]+)")
# Numbers that are too bare to say anything.
_BARE: Final = frozenset({"一", "百", "千", "万", "亿", "十万", "百万"})
_WEEKDAY: Final = re.compile(r"(?:周|星期|礼拜)([一二三四五六日天末])")
_MONTH: Final = re.compile(r"(1[0-2]|\d|十[一二]?|[一二三四五六七八九])月(?!租|供|薪|费)")
_RELATIVE: Final = re.compile(r"大?[昨前今明后]天|[昨今明][晚早夜]|[去今明后前]年|今日|明日|昨日")
_ORDER: Final = re.compile(r"([上下本这])个?(?:周(?![一二三四五六日天末]?岁)|月|年|季度|星期|礼拜|学期)")
_PERIOD: Final = re.compile(r"每个?(天|日|周|星期|月|年|小时)|(日|周|月|年)(?:卡|费|薪|租)")
_PART: Final = re.compile(r"早上|早晨|清晨|上午|中午|下午|傍晚|晚上|夜里|半夜|凌晨")
_SEASON: Final = re.compile(r"[春夏秋冬](?=天|季)")
_SAME_PART: Final = {"早晨": "早上", "清晨": "早上", "夜里": "晚上", "今日": "今天", "明日": "明天", "昨日": "昨天"}
_ASKS: Final = (
    ("why", re.compile(r"为什么|原因")),
    ("when", re.compile(r"什么时候|几点|几月|哪天|哪年|时间是")),
    ("where", re.compile(r"哪里|在哪|去哪|到哪|位置")),
    ("who", re.compile(r"谁")),
    ("how long", re.compile(r"多久|多长时间")),
    ("how many", re.compile(r"多少(?!钱)|几(?![点月乎何])|人数")),
    ("price", re.compile(r"多少钱|价格|费用|价钱")),
    ("how", re.compile(r"怎么(?!样|了|回事|办)")),
)
_DIRECTED: Final = re.compile(r"转|换成|变成|改成|从.+到|比|翻译成|借给|欠")


def read_chinese(text: str) -> Question:
    """A question in Chinese. `text` is NFKC."""
    joined = re.sub(r"\s+", "", text.lower())
    for old, new in ZH_PHRASES:
        joined = joined.replace(old, new)
    joined = _A_NOT_A.sub(r"\1", _WHETHER.sub("", joined))
    words = tuple(_cut(joined))
    return Question(
        text=text,
        language="zh",
        canonical="".join(words),
        words=words,
        stems=words,
        content=tuple(word for word in words if word not in ZH_STOP),
        entities=frozenset(),
        numbers=_numbers(_WEEKDAY.sub("", joined)),
        dates=_dates(joined),
        identifiers=frozenset(_LATIN.findall(joined)),
        negations=len(_NEGATING.findall(_NOT_NEGATING.sub("", joined))),
        asks=frozenset(name for name, pattern in _ASKS if pattern.search(joined)),
        form=frozenset({"directed"} if _DIRECTED.search(joined) else ()),
        contrast=ZH_VETO_CONTRAST.intersection(words),
    )


def _cut(text: str) -> list[str]:
    """Longest match over the word list; what stands between two known words is a word. Without punctuation."""
    words: list[str] = []
    unknown = ""
    place = 0
    while place < len(text):
        run = _RUN.match(text, place)
        word = run[0] if run else _longest(text, place)
        if word or not text[place].isalnum():
            if unknown:
                words.append(unknown)
            unknown = ""
            words.extend([word] if word and word[0].isalnum() else [])
            place += len(word) or 1
        else:
            unknown += text[place]
            place += 1
    return [*words, unknown] if unknown else words


def _longest(text: str, place: int) -> str:
    for length in range(min(_WORD_CHARS_MAX, len(text) - place), 0, -1):
        if text[place : place + length] in ZH_WORDS:
            return text[place : place + length]
    return ""


@lru_cache(maxsize=WORDS_KEPT)
def chinese_keys(word: str) -> frozenset[str]:
    """Two words mean the same if they share one of these."""
    return ZH_SYNONYMS.get(word, frozenset()) | {word}


def _numbers(text: str) -> frozenset[str]:
    """Numbers as they would be written with digits."""
    found: set[str] = set()
    for match in _NUMBER.finditer(_NOT_NUMBERS.sub("", text)):
        if match[3] in _BARE:
            continue
        value = float(match[1]) * _SCALES.get(match[2], 1) if match[1] else _value(match[3])
        if value != 1:
            found.add(f"{value:.12g}")
    return frozenset(found)


def _value(written: str) -> float:
    """Of a Chinese numeral: 二十三 is 23, 一九四九 is 1949."""
    if not any(digit in _SCALES for digit in written):
        return float("".join(str(_DIGITS[digit]) for digit in written)[:15])
    total = section = digit = 0
    for sign in written:
        if sign in _DIGITS:
            digit = _DIGITS[sign]
        elif _SCALES[sign] == 100_000_000:
            total = (total + section + digit or 1) * _SCALES[sign]
            section = digit = 0
        elif _SCALES[sign] == 10_000:
            total += (section + digit or 1) * _SCALES[sign]
            section = digit = 0
        else:
            section += (digit or 1) * _SCALES[sign]
            digit = 0
    return float(total + section + digit)


def _dates(text: str) -> frozenset[tuple[str, str]]:
    found = {("weekday", match[1].replace("天", "日")) for match in _WEEKDAY.finditer(text)}
    found |= {
        ("month", f"{_value(match[1]) if match[1][0] in '一二三四五六七八九十' else float(match[1]):g}")
        for match in _MONTH.finditer(text)
    }
    found |= {("rel", _SAME_PART.get(match[0], match[0])) for match in _RELATIVE.finditer(text)}
    found |= {("order", match[1].replace("这", "本")) for match in _ORDER.finditer(text)}
    found |= {("period", (match[1] or match[2]).replace("日", "天")) for match in _PERIOD.finditer(text)}
    found |= {("part", _SAME_PART.get(match[0], match[0])) for match in _PART.finditer(text)}
    found |= {("season", match[0]) for match in _SEASON.finditer(text)}
    return frozenset(found)
