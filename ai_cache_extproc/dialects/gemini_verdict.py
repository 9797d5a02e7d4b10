"""Whether a whole answer of Gemini may be kept, candidate by candidate.

A stream says nowhere that it is over, but the last chunk of each candidate says why it ended: that is its end event.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ai_cache_extproc.dialects.gemini_answer import candidates_of, parts_of
from ai_cache_extproc.dialects.openai_chat_answer import not_understood
from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.model import Mode, Reason

# Everything else (MAX_TOKENS, SAFETY, RECITATION, MALFORMED_FUNCTION_CALL, what is not known yet) is no good end.
_GOOD_FINISH = "STOP"
# Members of a part that say nothing by themselves.
_ASIDE = ("text", "thought", "thoughtSignature", "partMetadata", "mediaResolution")


@dataclass(slots=True)
class _Outcome:
    """How one candidate came out: whether it says anything, whether it calls functions, why it ended."""

    answered: bool = False
    calls_functions: bool = False
    finish: object = None

    def see(self, candidate: Mapping[str, object]) -> None:
        """Take in a candidate, or a piece of one."""
        said = [part for part in parts_of(candidate) if _says_something(part)]
        if self.finish is not None and said:
            # Where the end is not the last that is said, nobody knows whether this is all.
            raise not_understood("a candidate goes on after its end")
        # Thoughts alone are no answer.
        self.answered = self.answered or any(not part.get("thought") for part in said)
        self.calls_functions = self.calls_functions or any(part.get("functionCall") is not None for part in said)
        finish = candidate.get("finishReason")
        # A bad word is not unsaid by a good one.
        if finish is not None and self.finish in (None, _GOOD_FINISH):
            self.finish = finish


def judge(chunks: Sequence[Mapping[str, object]], mode: Mode, candidates: int, *, tool_calls: bool) -> None:
    """Return if there are `candidates` at least, and all of them may be kept.

    Raises DialectError: ANSWER_NOT_UNDERSTOOD, CUT, FINISH_REASON, EMPTY_ANSWER or, unless `tool_calls` may be kept,
    TOOL_CALLS.
    """
    outcomes: dict[int, _Outcome] = {}
    for chunk in chunks:
        _refuse_blocked(chunk)
        for index, candidate in candidates_of(chunk):
            outcomes.setdefault(index, _Outcome()).see(candidate)
    if not outcomes:
        raise DialectError(Reason.EMPTY_ANSWER, "there are no candidates")
    if len(outcomes) < candidates:
        raise DialectError(Reason.CUT, f"{len(outcomes)} candidates of {candidates}")
    for outcome in outcomes.values():
        if outcome.finish is None and mode is not Mode.JSON:
            raise DialectError(Reason.CUT, "a candidate has not ended")
        if outcome.finish != _GOOD_FINISH:
            raise DialectError(Reason.FINISH_REASON, "a candidate did not end by itself")
        if not outcome.answered:
            raise DialectError(Reason.EMPTY_ANSWER, "a candidate says nothing")
        if outcome.calls_functions and not tool_calls:
            raise DialectError(Reason.TOOL_CALLS, "a candidate calls functions")


def _refuse_blocked(chunk: Mapping[str, object]) -> None:
    feedback = chunk.get("promptFeedback")
    if isinstance(feedback, dict) and feedback.get("blockReason") is not None:
        raise DialectError(Reason.FINISH_REASON, "the prompt was blocked")


def _says_something(part: Mapping[str, object]) -> bool:
    return bool(part.get("text")) or any(said is not None for name, said in part.items() if name not in _ASIDE)
