"""What a whole answer says in words, in whatever mode it came; None where words are not all it says. Trusts nothing it reads.

For comparing answers, not for giving them: thoughts, usage and ids are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import orjson

from ai_cache_extproc.dialects.openai_chat_answer import is_empty
from ai_cache_extproc.model import Captured

Members = dict[str, object]

_NOT_WORDS = ("tool_calls", "function_call", "audio", "images")


class _MoreThanWordsError(Exception):
    """Part of the answer is no text, or of several only one could be compared."""


def openai_words(captured: Captured) -> str | None:
    """Of a chat or text completion with one choice."""
    return _words(_choice_text(choice) for part in _parts(captured) for choice in _only(_listed(part, "choices")))


def responses_words(captured: Captured) -> str | None:
    """Of OpenAI's responses, whose last event holds all of it."""
    parts = [part["response"] if isinstance(part.get("response"), dict) else part for part in _parts(captured)]
    whole = next((part for part in reversed(parts) if isinstance(part, dict) and part.get("output")), None)
    return None if whole is None else _words(_item_text(item) for item in _listed(whole, "output"))


def anthropic_words(captured: Captured) -> str | None:
    """Of a message."""
    return _words(text for part in _parts(captured) for text in _block_texts(part))


def gemini_words(captured: Captured) -> str | None:
    """Of an answer with one candidate."""
    return _words(
        _gemini_text(piece)
        for part in _parts(captured)
        for candidate in _only(_listed(part, "candidates"))
        for piece in _listed(_inner(candidate, "content"), "parts")
    )


def ollama_words(captured: Captured) -> str | None:
    """Of a chat or a generation."""
    return _words(
        _message_text(_inner(part, "message") or {"content": part.get("response")}) for part in _parts(captured)
    )


def dashscope_words(captured: Captured) -> str | None:
    """Of one choice, or of a text; an event of a stream may say all so far, or what is new."""

    def texts() -> Iterator[str]:
        for part in _parts(captured):
            output = _inner(part, "output")
            choices = _only(_listed(output, "choices"))
            yield from (_message_text(_inner(choice, "message")) for choice in choices)
            if not choices:
                yield _text(output.get("text"))

    try:
        said = [text for text in texts() if text]
    except _MoreThanWordsError:
        return None
    is_growing = len(said) > 1 and all(later.startswith(earlier) for earlier, later in pairwise(said))
    return ("".join(said[-1:] if is_growing else said)) or None


def plain_words(captured: Captured) -> str | None:
    """Of an answer that is kept as text."""
    return captured.body.decode("utf-8", "replace") or None


def _words(texts: Iterable[str]) -> str | None:
    try:
        return "".join(texts) or None
    except _MoreThanWordsError:
        return None


# Where each API has them.


def _choice_text(choice: Members) -> str:
    if "text" in choice:
        return _text(choice["text"])
    return _message_text(_inner(choice, "message") or _inner(choice, "delta"))


def _message_text(message: Members) -> str:
    if any(not is_empty(message.get(name)) for name in _NOT_WORDS):
        raise _MoreThanWordsError
    return _text(message.get("content")) + _text(message.get("refusal"))


def _item_text(item: Members) -> str:
    if item.get("type") == "reasoning":
        return ""
    if item.get("type") != "message":
        raise _MoreThanWordsError
    return "".join(_text(part.get("text")) + _text(part.get("refusal")) for part in _listed(item, "content"))


def _block_texts(part: Members) -> Iterator[str]:
    """Of a whole message, of a block that begins, of a piece of one."""
    blocks = _listed(part, "content") if part.get("type") == "message" else [_inner(part, "content_block")]
    for block in blocks:
        if block.get("type") not in {None, "text", "thinking", "redacted_thinking"}:
            raise _MoreThanWordsError
        yield _text(block.get("text"))
    yield _text(_inner(part, "delta").get("text"))


def _gemini_text(piece: Members) -> str:
    if piece.get("thought"):
        return ""
    if not piece.keys() <= {"text", "thought", "thoughtSignature"}:
        raise _MoreThanWordsError
    return _text(piece.get("text"))


# What may be anything.


def _parts(captured: Captured) -> Iterator[Members]:
    """The objects of an answer: the whole, the events or lines of a stream, or the members of an array."""
    body = captured.body
    try:
        whole: object = orjson.loads(body)
    except orjson.JSONDecodeError:
        yield from (value for line in body.splitlines() if isinstance(value := _line(line), dict))
        return
    values = whole if isinstance(whole, list) else [whole]
    yield from (value for value in values if isinstance(value, dict))


def _line(line: bytes) -> object:
    try:
        return orjson.loads(line.removeprefix(b"data:"))
    except orjson.JSONDecodeError:
        return None


def _only(parts: Sequence[Members]) -> Sequence[Members]:
    """One of them, with the first index."""
    if len(parts) > 1 or any(part.get("index") for part in parts):
        raise _MoreThanWordsError
    return parts


def _inner(members: Members, name: str) -> Members:
    value = members.get(name)
    return value if isinstance(value, dict) else {}


def _listed(members: Members, name: str) -> list[Members]:
    value = members.get(name)
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _text(value: object) -> str:
    """A text, or the texts of parts."""
    if isinstance(value, list):
        return "".join(map(_part_text, value))
    if value is None or isinstance(value, str):
        return value or ""
    raise _MoreThanWordsError


def _part_text(part: object) -> str:
    if isinstance(part, dict) and part.get("type", "text") in {"text", "refusal"}:
        return _text(part.get("text")) + _text(part.get("refusal"))
    raise _MoreThanWordsError
