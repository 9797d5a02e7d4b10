"""A streamed answer of Gemini added up to the JSON answer that it says piece by piece.

Texts go on across chunks and nowhere else: what one chunk says in two parts stays two parts. A part that carries a
signature is left alone, as Google asks of whoever gives it back. Members that contradict themselves, and data of which
nobody says whether it goes on, make the whole stream impossible to merge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum, auto

import orjson

from ai_cache_extproc.dialects.gemini_answer import Members, candidates_of, parts_of
from ai_cache_extproc.dialects.openai_chat_answer import not_understood


class Rule(Enum):
    """How a member adds up that is said more than once; without a rule it must always be the same."""

    FIRST = auto()
    LATEST = auto()
    LIST = auto()
    """Lists, joined."""
    APART = auto()
    """Added up elsewhere; here it only keeps its place among the members."""


# Counts grow while the answer does; the last ones are those of the whole.
_ANSWER = {"candidates": Rule.APART, "usageMetadata": Rule.LATEST, "createTime": Rule.FIRST}
_CANDIDATE = {
    "content": Rule.APART,
    "logprobsResult": Rule.APART,
    "finishReason": Rule.LATEST,
    "finishMessage": Rule.LATEST,
    "safetyRatings": Rule.LATEST,
    "tokenCount": Rule.LATEST,
}
_CONTENT = {"parts": Rule.APART}
_LOGPROBS = {"chosenCandidates": Rule.LIST, "topCandidates": Rule.LIST}
_TEXT = {"text", "thought"}


def merge(chunks: Sequence[Mapping[str, object]]) -> Members:
    """The JSON answer that a whole stream adds up to.

    Raises DialectError(ANSWER_NOT_UNDERSTOOD) if any member cannot be merged with certainty.
    """
    answer: Members = {}
    candidates: dict[int, _Candidate] = {}
    for chunk in chunks:
        _take(answer, chunk, _ANSWER)
        for index, piece in candidates_of(chunk):
            candidates.setdefault(index, _Candidate()).add(piece)
    if candidates:
        answer["candidates"] = [candidate.whole() for _, candidate in sorted(candidates.items())]
    return answer


class _Candidate:
    """A candidate while its pieces arrive."""

    def __init__(self) -> None:
        self._members: Members = {}
        self._content: Members = {}
        self._logprobs: Members = {}
        self._parts: list[Members] = []
        self._pieces = 0
        # The text of the last part, while more of it may come.
        self._text: list[str] = []

    def add(self, piece: Members) -> None:
        _take(self._members, piece, _CANDIDATE)
        content, logprobs = piece.get("content"), piece.get("logprobsResult")
        if isinstance(content, dict):
            _take(self._content, content, _CONTENT)
        if isinstance(logprobs, dict):
            _take(self._logprobs, logprobs, _LOGPROBS)
        for at, part in enumerate(parts_of(piece)):
            self._add_part(part, goes_on=at == 0)
        self._pieces += 1

    def whole(self) -> Members:
        self._end_text()
        parts = self._parts
        if self._pieces > 1:
            # A stream says nothing now and then; an answer does not.
            parts = [part for part in parts if not _is_text(part) or part["text"]]
        apart: Members = {}
        if self._content:
            apart["content"] = self._content | ({"parts": parts} if "parts" in self._content else {})
        if self._logprobs:
            apart["logprobsResult"] = self._logprobs
        return self._members | apart

    def _add_part(self, part: Members, *, goes_on: bool) -> None:
        last = self._parts[-1] if self._parts and goes_on else {}
        if last and self._text and _is_text(part) and bool(part.get("thought")) is bool(last.get("thought")):
            self._text.append(str(part["text"]))
            return
        _refuse_piece(last, part)
        self._end_text()
        self._parts.append(dict(part))
        if _is_text(part):
            self._text.append(str(part["text"]))

    def _end_text(self) -> None:
        if self._text:
            self._parts[-1]["text"] = "".join(self._text)
            self._text = []


def _take(known: Members, said: Mapping[str, object], rules: Mapping[str, Rule]) -> None:
    """Add to `known` what was said; null takes nothing back."""
    for name, value in said.items():
        before, rule = known.get(name), rules.get(name)
        if before is None:
            known[name] = value
        elif value is None or rule is Rule.FIRST or rule is Rule.APART:
            continue
        elif rule is Rule.LATEST:
            known[name] = value
        elif rule is Rule.LIST and isinstance(before, list) and isinstance(value, list):
            known[name] = [*before, *value]
        elif not _is_same(before, value):
            raise not_understood("a member contradicts itself")


def _is_same(one: object, other: object) -> bool:
    """For Python, 1 is true and 1.0; not for JSON."""
    if isinstance(one, str | int | float):
        return type(one) is type(other) and one == other
    try:
        return _spelled(one) == _spelled(other)
    except orjson.JSONEncodeError as error:
        raise not_understood("nested too deep") from error


def _spelled(value: object) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _is_text(part: Mapping[str, object]) -> bool:
    return part.keys() <= _TEXT and isinstance(part.get("text"), str)


def _refuse_piece(last: Mapping[str, object], part: Mapping[str, object]) -> None:
    """Raises DialectError(ANSWER_NOT_UNDERSTOOD) for a part that may be a piece of one."""
    call, data, before = part.get("functionCall"), part.get("inlineData"), last.get("inlineData")
    if isinstance(call, dict) and not call.keys().isdisjoint({"partialArgs", "willContinue"}):
        raise not_understood("a call comes in pieces")
    if isinstance(data, dict) and isinstance(before, dict) and str(data.get("mimeType")).startswith("audio/"):
        raise not_understood("sound may come in pieces")
