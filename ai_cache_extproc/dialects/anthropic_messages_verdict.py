"""Whether a whole Anthropic message may be kept. One that is not surely whole and good is refused."""

from __future__ import annotations

from collections.abc import Mapping

from ai_cache_extproc.dialects.anthropic_messages_answer import blocks_of
from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.model import Reason

# Tuples: what an answer holds there may be unhashable. Not among the ends that are good: max_tokens, refusal,
# pause_turn, compaction, model_context_window_exceeded, and whatever is not known yet.
_GOOD_STOPS = ("end_turn", "stop_sequence", "tool_use")
_THOUGHTS = ("thinking", "redacted_thinking")


def judge(message: Mapping[str, object], *, tool_calls: bool) -> None:
    """Return if a message, as it came or as its stream adds up, may be kept.

    Raises DialectError: ANSWER_NOT_UNDERSTOOD, FINISH_REASON, EMPTY_ANSWER or, unless `tool_calls` may be kept,
    TOOL_CALLS.
    """
    blocks = blocks_of(message)
    if message.get("stop_reason") not in _GOOD_STOPS:
        raise DialectError(Reason.FINISH_REASON, "the message did not end by itself")
    if not any(_says_something(block) for block in blocks):
        raise DialectError(Reason.EMPTY_ANSWER, "the message says nothing")
    if not tool_calls and any(block.get("type") == "tool_use" for block in blocks):
        raise DialectError(Reason.TOOL_CALLS, "the message calls tools")


def _says_something(block: Mapping[str, object]) -> bool:
    """Thoughts alone are no answer."""
    kind = block.get("type")
    return bool(block.get("text")) if kind == "text" else kind not in _THOUGHTS
