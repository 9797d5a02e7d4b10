"""A JSON chat completion turned into a stream that says the same: whoever adds the pieces up has the answer again.

Nothing is left out. What a stream has no own place for stands where a reader looks first: members of the answer
that are lists or objects in the first chunk, unknown members of a choice in that choice's first chunk.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ai_cache_extproc.dialects.framing import sse
from ai_cache_extproc.dialects.openai_chat_answer import (
    END_EVENT,
    choices_of,
    dumped,
    index_of,
    is_empty,
    not_understood,
)

Members = dict[str, object]

# Some clients read lines into a buffer of 64 KiB; a piece stays below that even if every character is escaped.
_PIECE_CHARS = 4096

_REASONING = ("reasoning_content", "reasoning")
_TEXTS = (*_REASONING, "content", "refusal")
# Where log probabilities may belong, most likely first.
_LOGPROBS_BESIDE = ("content", "refusal")


def split(answer: Mapping[str, object], usage_chunk: bool) -> bytes:
    """The stream of a JSON answer, with its usage as the last chunk if `usage_chunk`.

    Raises DialectError(ANSWER_NOT_UNDERSTOOD) if the usage is lacking or a member cannot be written as pieces.
    """
    usage = answer.get("usage")
    if usage_chunk and not isinstance(usage, dict):
        raise not_understood("there is no usage")
    frames = [sse.encode(dumped(chunk)) for chunk in _chunks(answer, usage_chunk)]
    return b"".join((*frames, sse.encode(END_EVENT.value)))


def _chunks(answer: Mapping[str, object], usage_chunk: bool) -> Iterator[Members]:
    own = {name: value for name, value in answer.items() if name not in {"choices", "usage"}}
    once = {name: value for name, value in own.items() if isinstance(value, dict | list)}
    every = {name: value for name, value in own.items() if name not in once} | {"object": "chat.completion.chunk"}
    no_usage: Members = {"usage": None} if usage_chunk else {}
    for choice in choices_of(answer):
        for piece in _pieces_of_choice(choice):
            yield every | once | {"choices": [piece]} | no_usage
            once = {}
    if usage_chunk:
        yield every | {"choices": [], "usage": answer["usage"]}


def _pieces_of_choice(choice: Members) -> Iterator[Members]:
    """The choice's unknown members with the role, its logprobs beside the first text they belong to, its finish last."""
    index, message, logprobs = index_of(choice), choice.get("message"), choice.get("logprobs")
    if not isinstance(message, dict):
        raise not_understood("a choice without a message")
    plain: Members = {"index": index, "logprobs": None, "finish_reason": None}
    unknown = {name: value for name, value in choice.items() if name not in {*plain, "message"}}
    opening, deltas = _opening(message), list(_deltas(message))
    yield plain | {"delta": opening} | unknown
    beside = next((name for name in _LOGPROBS_BESIDE if message.get(name)), None)
    for delta in deltas:
        if beside in delta:
            yield plain | {"delta": delta, "logprobs": logprobs}
            logprobs, beside = None, None
        else:
            yield plain | {"delta": delta}
    yield plain | {"delta": {}, "logprobs": logprobs, "finish_reason": choice.get("finish_reason")}


def _opening(message: Members) -> Members:
    """The first delta: the role, and all that stays empty."""
    opening = {name: value for name, value in message.items() if name == "role" or is_empty(value)}
    # Clients expect content to begin as text, and to be added to.
    return opening | {"content": ""} if isinstance(message.get("content"), str) else opening


def _deltas(message: Members) -> Iterator[Members]:
    """Everything that the opening left, reasoning first as models send it."""
    said = [name for name, value in message.items() if name != "role" and not is_empty(value)]
    for name in sorted(said, key=lambda name: name not in _REASONING):
        value = message[name]
        if name in _TEXTS and isinstance(value, str):
            for text in pieces_of_text(value):
                yield {name: text}
        elif name == "tool_calls":
            for call in _pieces_of_calls(value):
                yield {name: [call]}
        elif name == "function_call":
            for function in _pieces_of_member(_object(value), "arguments"):
                yield {name: function}
        else:
            yield {name: value}


def _pieces_of_calls(calls: object) -> Iterator[Members]:
    """Each call whole but for its arguments, which follow under its index alone."""
    if not isinstance(calls, list):
        raise not_understood("tool_calls is not a list")
    for index, call in enumerate(map(_object, calls)):
        if call.get("index", index) != index:
            raise not_understood("tool calls are numbered out of order")
        kind, text = ("custom", "input") if "custom" in call else ("function", "arguments")
        if kind not in call:
            yield {"index": index} | call
            continue
        first, *rest = _pieces_of_member(_object(call[kind]), text)
        yield {"index": index} | call | {kind: first}
        for piece in rest:
            yield {"index": index, kind: piece}


def _pieces_of_member(members: Members, text: str) -> Iterator[Members]:
    """An object whose member `text` begins empty and follows in pieces."""
    value = members.get(text)
    if not isinstance(value, str) or not value:
        yield members
        return
    yield members | {text: ""}
    for piece in pieces_of_text(value):
        yield {text: piece}


def pieces_of_text(text: str) -> Iterator[str]:
    """A text in pieces that fit a line; none if it is empty."""
    for start in range(0, len(text), _PIECE_CHARS):
        yield text[start : start + _PIECE_CHARS]


def _object(value: object) -> Members:
    if not isinstance(value, dict):
        raise not_understood("a call is not an object")
    return value
