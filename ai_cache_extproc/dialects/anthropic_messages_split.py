"""An Anthropic message turned into the stream that says it, in the API's own order of events.

Nothing is left out: members that no event is known to bring later stand in the first, where clients begin.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ai_cache_extproc.dialects.anthropic_messages_answer import (
    Members,
    blocks_of,
    message,
    refuse_long_numbers,
    usage_of,
)
from ai_cache_extproc.dialects.framing import sse
from ai_cache_extproc.dialects.openai_chat_answer import dumped, not_understood

# Some clients read lines into a buffer of 64 KiB; a piece stays below that even if every character is escaped.
_PIECE_CHARS = 4096

# Members that the API says when the message ends, in `delta` and beside it.
_AT_THE_END = ("stop_reason", "stop_sequence", "stop_details", "container")
_BESIDE_THE_END = ("context_management",)
# Counts that the last event says again, and counts that only it says.
_USAGE_AGAIN = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
_USAGE_AT_THE_END = ("output_tokens", "output_tokens_details", "server_tool_use", "iterations")
_CALLS = ("tool_use", "server_tool_use")
# Blocks that begin with all they say.
_WHOLE = ("redacted_thinking", "tool_search_tool_result")


def split(body: bytes) -> bytes:
    """The stream of a JSON answer.

    Raises DialectError(ANSWER_NOT_UNDERSTOOD) if the usage is lacking, a block is of a kind whose events are not
    known, or a number may not survive.
    """
    refuse_long_numbers(body)
    return b"".join(sse.encode(dumped(event), str(event["type"])) for event in _events(message(body)))


def _events(answer: Mapping[str, object]) -> Iterator[Members]:
    usage = usage_of(answer)
    yield {"type": "message_start", "message": _opening(answer, usage)}
    for index, block in enumerate(blocks_of(answer)):
        yield from _events_of_block(index, block)
    delta: Members = {"stop_reason": None, "stop_sequence": None}
    delta |= {name: answer[name] for name in _AT_THE_END if name in answer}
    counts = {name: usage[name] for name in (*_USAGE_AGAIN, *_USAGE_AT_THE_END) if name in usage}
    beside = {name: answer[name] for name in _BESIDE_THE_END if name in answer}
    yield {"type": "message_delta", "delta": delta, "usage": counts} | beside
    yield {"type": "message_stop"}


def _opening(answer: Mapping[str, object], usage: Members) -> Members:
    """The message before it says anything. Nothing has been counted that it will say."""
    known = {name: value for name, value in answer.items() if name not in _BESIDE_THE_END}
    empty = dict.fromkeys([name for name in _AT_THE_END if name in answer])
    counts = {name: value for name, value in usage.items() if name not in _USAGE_AT_THE_END}
    return known | empty | {"content": [], "usage": counts | {"output_tokens": 0}}


def _events_of_block(index: int, block: Members) -> Iterator[Members]:
    start, *deltas = _pieces(block)
    yield {"type": "content_block_start", "index": index, "content_block": start}
    for delta in deltas:
        yield {"type": "content_block_delta", "index": index, "delta": delta}
    yield {"type": "content_block_stop", "index": index}


def _pieces(block: Members) -> Iterator[Members]:
    """A block as it begins, then its deltas."""
    kind = block.get("type")
    if kind == "text":
        yield from _text(block)
    elif kind == "thinking":
        yield block | {"thinking": "", "signature": ""}
        yield from _deltas("thinking_delta", "thinking", _string(block, "thinking"))
        # A signature is one token to whoever reads it: it comes in one piece, the last.
        if signature := _string(block, "signature"):
            yield {"type": "signature_delta", "signature": signature}
    elif kind in _CALLS:
        yield from _call(block)
    elif kind in _WHOLE:
        yield block
    else:
        raise not_understood("a block of an unknown kind")


def _text(block: Members) -> Iterator[Members]:
    citations = block.get("citations")
    yield block | {"text": ""} | ({"citations": []} if citations else {})
    yield from _deltas("text_delta", "text", _string(block, "text"))
    if not citations:
        return
    if not isinstance(citations, list):
        raise not_understood("citations is not a list")
    for citation in citations:
        yield {"type": "citations_delta", "citation": citation}


def _call(block: Members) -> Iterator[Members]:
    given = block.get("input")
    if not isinstance(given, dict):
        raise not_understood("the input of a call is not an object")
    yield block | {"input": {}}
    yield {"type": "input_json_delta", "partial_json": ""}
    if given:
        yield from _deltas("input_json_delta", "partial_json", dumped(given).decode())


def _deltas(kind: str, name: str, text: str) -> Iterator[Members]:
    for start in range(0, len(text), _PIECE_CHARS):
        yield {"type": kind, name: text[start : start + _PIECE_CHARS]}


def _string(block: Members, name: str) -> str:
    value = block.get(name)
    if not isinstance(value, str):
        raise not_understood(f"{name} is not a text")
    return value
