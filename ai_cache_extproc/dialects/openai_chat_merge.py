"""A streamed chat completion added up to the JSON answer that it says piece by piece."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ai_cache_extproc.dialects.openai_chat_answer import choices_of, dumped, not_understood
from ai_cache_extproc.dialects.openai_chat_pieces import Each, Rule, Shape, added_up

_FUNCTION = Shape({"arguments": Rule.TEXT})
_CALL = Shape(
    {
        "index": Rule.DROPPED,
        "id": Rule.REPEATED,
        "type": Rule.REPEATED,
        "function": _FUNCTION,
        "custom": Shape({"input": Rule.TEXT}),
    }
)
_DELTA = Shape(
    {
        "role": Rule.REPEATED,
        "content": Rule.TEXT,
        "refusal": Rule.TEXT,
        "reasoning_content": Rule.TEXT,
        "reasoning": Rule.TEXT,
        "tool_calls": Each(_CALL),
        "function_call": _FUNCTION,
        "obfuscation": Rule.DROPPED,
    }
)
_CHOICE = Shape(
    {
        "delta": _DELTA,
        "logprobs": Shape({"content": Rule.LIST, "refusal": Rule.LIST}),
        "obfuscation": Rule.DROPPED,
    },
    rest=Rule.REPEATED,
)
_COMPLETION = Shape(
    {
        "choices": Each(_CHOICE),
        # Hosts that stamp every chunk stamp the answer with the first.
        "created": Rule.FIRST,
        # Counts grow while the answer does; the last ones are those of the whole.
        "usage": Rule.LATEST,
        "object": Rule.DROPPED,
        "obfuscation": Rule.DROPPED,
    },
    rest=Rule.REPEATED,
)

# What the API says every message of a JSON answer has; a stream need not name what stays empty.
_REQUIRED = {"role": "assistant", "content": None, "refusal": None}


def merge(chunks: Sequence[Mapping[str, object]]) -> bytes:
    """The JSON answer that a whole stream adds up to.

    Raises DialectError(ANSWER_NOT_UNDERSTOOD) if it holds no usage, which a JSON answer always does, or if any
    member cannot be merged with certainty.
    """
    answer = added_up(chunks, _COMPLETION)
    if not isinstance(answer.get("usage"), dict):
        raise not_understood("there is no usage")
    choices = [_choice(choice) for choice in choices_of(answer)]
    return dumped({"object": "chat.completion"} | answer | {"choices": choices})


def _choice(pieces: Mapping[str, object]) -> dict[str, object]:
    """A choice as JSON answers have it: a message in the place of the delta."""
    delta = pieces.get("delta")
    message = _REQUIRED | (delta if isinstance(delta, dict) else {})
    rest = {name: value for name, value in pieces.items() if name not in {"index", "delta"}}
    return {"index": pieces["index"], "message": message, "logprobs": None} | rest
