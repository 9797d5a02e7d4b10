"""Whether a whole chat completion may be kept, choice by choice.

An answer that is not surely whole and good is refused; the client has it already.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ai_cache_extproc.dialects.openai_chat_answer import choices_of, index_of, is_empty, not_understood
from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.model import Reason

# A tuple: what an answer holds there may be unhashable.
_GOOD_FINISHES = ("stop", "tool_calls", "function_call")
_CALLS = ("tool_calls", "function_call")
_SAID = ("content", "refusal", "audio", "reasoning_content", "reasoning", *_CALLS)


@dataclass(slots=True)
class Outcome:
    """How one choice came out: whether it says anything, whether it calls tools, why it ended."""

    answered: bool = False
    calls_tools: bool = False
    finish: object = None

    def see(self, message: Mapping[str, object], finish: object) -> None:
        """Take in a message, or a piece of one."""
        self.answered = self.answered or any(not is_empty(message.get(name)) for name in _SAID)
        self.calls_tools = self.calls_tools or any(not is_empty(message.get(name)) for name in _CALLS)
        # A bad word is not unsaid by a good one.
        if finish is not None and (self.finish is None or finish not in _GOOD_FINISHES):
            self.finish = finish


def outcomes_of_completion(answer: Mapping[str, object]) -> dict[int, Outcome]:
    """The outcomes of a JSON answer by choice index. Raises DialectError: ANSWER_NOT_UNDERSTOOD, IN_BAND_ERROR."""
    outcomes: dict[int, Outcome] = {}
    for choice in choices_of(answer):
        index, message = index_of(choice), choice.get("message")
        if index in outcomes or not isinstance(message, dict):
            raise not_understood("a choice without a message, or two of one index")
        outcomes[index] = Outcome()
        outcomes[index].see(message, choice.get("finish_reason"))
    return outcomes


def outcomes_of_chunks(chunks: Sequence[Mapping[str, object]]) -> dict[int, Outcome]:
    """The outcomes of a stream by choice index. Raises DialectError: ANSWER_NOT_UNDERSTOOD, IN_BAND_ERROR."""
    outcomes: dict[int, Outcome] = {}
    for chunk in chunks:
        for choice in choices_of(chunk):
            # Azure's asynchronous filter annotates a choice without a delta.
            delta = choice.get("delta")
            if delta is not None and not isinstance(delta, dict):
                raise not_understood("a delta is not an object")
            outcomes.setdefault(index_of(choice), Outcome()).see(delta or {}, choice.get("finish_reason"))
    return outcomes


def judge(outcomes: Mapping[int, Outcome], choices: int, *, tool_calls: bool) -> None:
    """Return if there are `choices` choices at least, and all of them may be kept.

    Raises DialectError: CUT, FINISH_REASON, EMPTY_ANSWER or, unless `tool_calls` may be kept, TOOL_CALLS.
    """
    if len(outcomes) < choices:
        raise DialectError(Reason.CUT, f"{len(outcomes)} choices of {choices}")
    for outcome in outcomes.values():
        if outcome.finish not in _GOOD_FINISHES:
            raise DialectError(Reason.FINISH_REASON, "a choice did not end by itself")
        if not outcome.answered:
            raise DialectError(Reason.EMPTY_ANSWER, "a choice says nothing")
        if outcome.calls_tools and not tool_calls:
            raise DialectError(Reason.TOOL_CALLS, "a choice calls tools")
