"""An answer of Ollama's turned from JSON into lines, and back. Both are of one shape: lines say it in parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ai_cache_extproc.dialects.framing import ndjson
from ai_cache_extproc.dialects.ollama_answer import said_in
from ai_cache_extproc.dialects.openai_chat_answer import dumped, is_empty, not_understood
from ai_cache_extproc.dialects.openai_chat_pieces import Rule, Shape, added_up
from ai_cache_extproc.dialects.openai_chat_split import pieces_of_text

Members = dict[str, object]

_SAID = {
    "content": Rule.TEXT,
    "response": Rule.TEXT,
    "thinking": Rule.TEXT,
    "tool_calls": Rule.LIST,
    "images": Rule.LIST,
}
_ANSWER = Shape(
    {
        **_SAID,
        "message": Shape({**_SAID, "role": Rule.REPEATED}),
        "logprobs": Rule.LIST,
        # The time of an answer is that of its last line.
        "created_at": Rule.LATEST,
        "done": Rule.LATEST,
    },
    rest=Rule.REPEATED,
)
# What every line has; all that is not said piece by piece stands in the last line.
_EVERY = ("model", "created_at", "remote_model", "remote_host")
_THINKING = "thinking"
_CALLS = "tool_calls"


def merge(parts: Sequence[Members]) -> bytes:
    """The JSON answer that all lines add up to. Raises DialectError(ANSWER_NOT_UNDERSTOOD) if they do not with certainty."""
    return dumped(added_up(parts, _ANSWER))


def split(answer: Members) -> bytes:
    """The lines of a JSON answer: thoughts, text, calls, and a last one with all the rest.

    Raises DialectError(ANSWER_NOT_UNDERSTOOD) for what cannot be written so.
    """
    said = said_in(answer)
    is_chat = said is not answer
    text = "content" if is_chat else "response"
    every = {name: answer[name] for name in _EVERY if name in answer}
    blank = {name: value for name, value in (("role", said.get("role")), (text, "")) if value is not None}
    spoken = [name for name in (_THINKING, text, _CALLS) if not is_empty(said.get(name))]
    # Log probabilities belong to the text, and travel with its first piece.
    beside = {name: value for name, value in answer.items() if name == "logprobs" and text in spoken}
    lines = []
    for piece in _pieces(said, spoken):
        line = every | ({"message": blank | piece} if is_chat else blank | piece) | {"done": False}
        lines.append(line | beside if text in piece else line)
        beside = {} if text in piece else beside
    rest = blank | {name: value for name, value in said.items() if name not in spoken}
    last = answer | {"message": rest} if is_chat else every | rest
    if text in spoken:
        last = {name: value for name, value in last.items() if name != "logprobs"}
    return b"".join(ndjson.encode(dumped(line)) for line in (*lines, last))


def _pieces(said: Members, spoken: Sequence[str]) -> Iterator[Members]:
    """What a message, or a generated answer, says; calls are never cut."""
    for name in spoken:
        value = said[name]
        if name == _CALLS:
            yield {name: value}
        elif isinstance(value, str):
            for piece in pieces_of_text(value):
                yield {name: piece}
        else:
            raise not_understood(f"{name} is not a string")
