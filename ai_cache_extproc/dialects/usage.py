"""How many tokens an answer took, as it says itself. Trusts nothing it reads; what is not surely a count is None."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import orjson

from ai_cache_extproc.model import Captured, Mode, Usage

Members = dict[str, object]

TOKENS_MAX = 2**48
"""No answer takes so many; a larger number is a mistake, or meant to spoil the figures."""


def openai_usage(captured: Captured) -> Usage | None:
    """The tokens of an answer of OpenAI's APIs, of those compatible with them, or of DashScope's."""
    for members in _said(captured, b'"usage"'):
        for usage in _openai_places(members):
            found = usage_of(usage)
            if found is not None:
                return found
    return None


def usage_of(usage: object) -> Usage | None:
    """The counts of one `usage` of OpenAI's or DashScope's. Tokens from the upstream's cache are part of the input there."""
    if not isinstance(usage, dict):
        return None
    read = _count(usage, "prompt_tokens", "input_tokens")
    written = _count(usage, "completion_tokens", "output_tokens")
    if read is None and written is None:
        return None
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
    cached = _count(details, "cached_tokens") if isinstance(details, dict) else None
    if cached is None:
        # DeepSeek's name, and Moonshot's.
        cached = _count(usage, "prompt_cache_hit_tokens", "cached_tokens")
    return _split(read, written, cached)


def anthropic_usage(captured: Captured) -> Usage | None:
    """The tokens of a message. A stream says what it has read at its begin, and what it has written at its end."""
    counts: Members = {}
    for members in _said(captured, b'"usage"'):
        message = members.get("message")
        usage = (message if isinstance(message, dict) else members).get("usage")
        if isinstance(usage, dict):
            counts = {name: value for name, value in usage.items() if value is not None} | counts
    read, written = _count(counts, "input_tokens"), _count(counts, "output_tokens")
    if read is None or written is None:
        return None
    # What is written into the upstream's cache is read by the model too.
    kept = _count(counts, "cache_creation_input_tokens") or 0
    return Usage(read + kept, written, _count(counts, "cache_read_input_tokens") or 0)


def gemini_usage(captured: Captured) -> Usage | None:
    """The tokens of an answer of Gemini, thoughts and what tools gave to read included. A later chunk knows better."""
    for members in _said(captured, b'"usageMetadata"'):
        usage = members.get("usageMetadata")
        if not isinstance(usage, dict):
            continue
        read, written = _count(usage, "promptTokenCount"), _count(usage, "candidatesTokenCount")
        if read is None and written is None:
            continue
        read = (read or 0) + (_count(usage, "toolUsePromptTokenCount") or 0)
        written = (written or 0) + (_count(usage, "thoughtsTokenCount") or 0)
        return _split(read, written, _count(usage, "cachedContentTokenCount"))
    return None


def ollama_usage(captured: Captured) -> Usage | None:
    """The tokens of an answer of Ollama's, which says them in its last line."""
    for members in _said(captured, b'"eval_count"'):
        written = _count(members, "eval_count")
        if written is not None:
            return _split(_count(members, "prompt_eval_count"), written, None)
    return None


def _split(read: int | None, written: int | None, cached: int | None) -> Usage:
    """Cached tokens stand apart from those that were read anew."""
    cached = min(cached or 0, read or 0)
    return Usage((read or 0) - cached, written or 0, cached)


def _count(members: Mapping[str, object], *names: str) -> int | None:
    """The first of these that is a count."""
    for name in names:
        value = members.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= TOKENS_MAX:
            return value
    return None


def _openai_places(members: Members) -> Iterator[object]:
    """Where a usage may stand: in the answer, in the response of an event, in `x_groq`, in a choice (Moonshot)."""
    yield members.get("usage")
    for name in ("response", "x_groq"):
        inner = members.get(name)
        if isinstance(inner, dict):
            yield inner.get("usage")
    choices = members.get("choices")
    if isinstance(choices, list):
        yield from (choice.get("usage") for choice in choices if isinstance(choice, dict))


def _said(captured: Captured, word: bytes) -> Iterator[Members]:
    """The objects of an answer that may have a member of this name, last first. In a stream each stands on a line."""
    body = captured.body
    if word not in body:
        return
    payloads = reversed(body.splitlines()) if captured.mode is Mode.STREAM else [body]
    for payload in payloads:
        if word not in payload:
            continue
        try:
            value: object = orjson.loads(payload.removeprefix(b"data:"))
        except orjson.JSONDecodeError:
            continue
        values = reversed(value) if isinstance(value, list) else [value]
        yield from (each for each in values if isinstance(each, dict))
