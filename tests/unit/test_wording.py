"""What answers say in words: of every API, in every mode, and nothing where words are not all."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ai_cache_extproc.dialects import Dialects, wording
from ai_cache_extproc.dialects.base import ConversingDialect
from ai_cache_extproc.model import Captured, Mode

SAID = "A ball of gas."


def captured(*parts: object, mode: Mode = Mode.JSON) -> Captured:
    """An answer: JSON, events, or the lines of Ollama's streams where the mode is an array."""
    if mode is Mode.STREAM:
        body = (
            b"".join(b"event: x\ndata: " + json.dumps(part).encode() + b"\n\n" for part in parts) + b"data: [DONE]\n\n"
        )
    elif mode is Mode.ARRAY:
        body = b"".join(json.dumps(part).encode() + b"\n" for part in parts)
    else:
        body = json.dumps(*parts).encode()
    return Captured(mode, "", body, 0, 1, 0)


def choice(message: object, **members: object) -> dict[str, object]:
    """A chat completion, or a chunk of one."""
    return {"choices": [{"index": 0, "message": message, **members}]}


def delta(**members: object) -> dict[str, object]:
    """A chunk."""
    return {"choices": [{"index": 0, "delta": members}]}


def output(*items: object) -> dict[str, object]:
    """A response of OpenAI's."""
    return {"object": "response", "output": list(items)}


MESSAGE = {"type": "message", "content": [{"type": "output_text", "text": SAID}]}
THOUGHT = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]}
PIECES = ("A ball ", "of gas.")


def dash(text: str) -> dict[str, object]:
    """An event of DashScope's."""
    return {"output": {"choices": [{"message": {"role": "assistant", "content": text}}]}}


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("openai", captured(choice({"content": SAID, "tool_calls": [], "audio": None}))),
        ("openai", captured(choice({"content": [{"type": "text", "text": part} for part in PIECES]}))),
        ("openai", captured(choice({"content": None, "refusal": SAID}))),
        ("openai", captured(delta(role="assistant"), *(delta(content=part) for part in PIECES), {"choices": []}, mode=Mode.STREAM)),
        ("openai", captured({"choices": [{"index": 0, "text": SAID}]})),
        ("responses", captured(output(THOUGHT, MESSAGE))),
        (
            "responses",
            captured({"response": output()}, {"delta": "A ball "}, {"response": output(MESSAGE)}, mode=Mode.STREAM),
        ),
        ("anthropic", captured({"type": "message", "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": SAID}]})),
        (
            "anthropic",
            captured(
                {"type": "message_start", "message": {}},
                {"type": "content_block_start", "content_block": {"type": "text", "text": ""}},
                *({"type": "content_block_delta", "delta": {"type": "text_delta", "text": part}} for part in PIECES),
                mode=Mode.STREAM,
            ),
        ),
        ("gemini", captured({"candidates": [{"content": {"parts": [{"text": "hm", "thought": True}, {"text": SAID}]}}]})),
        ("gemini", captured([{"candidates": [{"content": {"parts": [{"text": part}]}}]} for part in PIECES])),
        ("ollama", captured({"message": {"content": SAID}, "done": True})),
        ("ollama", captured(*({"response": part} for part in PIECES), {"response": "", "done": True}, mode=Mode.ARRAY)),
        ("dashscope", captured({"output": {"text": SAID}})),
        ("dashscope", captured(dash("A ball"), dash("A ball of"), dash(SAID), mode=Mode.STREAM)),
        ("dashscope", captured(*map(dash, PIECES), mode=Mode.STREAM)),
        ("plain", Captured(Mode.TEXT, "", SAID.encode(), 0, 1, 0)),
    ],
    ids=[
        "chat", "chat in parts", "a refusal", "chat streamed", "completion", "response", "response streamed", "message",
        "message streamed", "gemini", "gemini in an array", "ollama chat", "ollama lines", "dashscope text",
        "dashscope growing", "dashscope piece by piece", "template",
    ],
)  # fmt: skip
def test_the_words_of_an_answer(name: str, answer: Captured) -> None:
    """Without thoughts, in one piece."""
    assert getattr(wording, f"{name}_words")(answer) == SAID


CALL = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("openai", captured(choice({"content": SAID, "tool_calls": [CALL]}))),
        ("openai", captured({"choices": [{"index": 0, "message": {}}, {"index": 1, "message": {}}]})),
        ("openai", captured(choice({"content": [{"type": "image_url"}]}))),
        ("openai", captured(choice({"content": 3}))),
        ("openai", captured(choice({"content": ""}))),
        ("responses", captured(output(MESSAGE, {"type": "function_call"}))),
        ("responses", captured({"error": "none"})),
        ("anthropic", captured({"type": "message", "content": [{"type": "tool_use", "name": "look"}]})),
        ("gemini", captured({"candidates": [{"content": {"parts": [{"functionCall": {"name": "look"}}]}}]})),
        ("ollama", captured({"message": {"content": "", "tool_calls": [CALL]}})),
        ("dashscope", captured({"output": {"choices": [{"message": {"content": "", "tool_calls": [CALL]}}]}})),
        ("dashscope", captured({"output": {}})),
        ("plain", Captured(Mode.TEXT, "", b"", 0, 1, 0)),
        ("openai", Captured(Mode.STREAM, "", b"data: nonsense\n\ndata: 3\n\n", 0, 1, 0)),
        ("openai", captured([3])),
    ],
    ids=[
        "a call", "two choices", "an image", "a number", "nothing", "a response with a call", "no response",
        "an Anthropic call", "a Gemini call", "an Ollama call", "a DashScope call", "an empty DashScope answer",
        "an empty text", "no JSON", "no objects",
    ],
)  # fmt: skip
def test_what_is_more_than_words_has_none(name: str, answer: Captured) -> None:
    """Or says nothing at all."""
    assert getattr(wording, f"{name}_words")(answer) is None


ANSWERS: dict[str, Any] = {
    "/v1/chat/completions": choice({"content": SAID}),
    "/v1/completions": {"choices": [{"index": 0, "text": SAID}]},
    "/v1/responses": output(MESSAGE),
    "/v1/messages": {"type": "message", "content": [{"type": "text", "text": SAID}]},
    "/v1beta/models/m:generateContent": {"candidates": [{"content": {"parts": [{"text": SAID}]}}]},
    "/api/chat": {"message": {"content": SAID}},
    "/api/v1/services/aigc/text-generation/generation": {"output": {"text": SAID}},
}


@pytest.mark.parametrize("path", ANSWERS)
def test_every_api_says_its_words(path: str) -> None:
    """The one that a path belongs to."""
    dialect: object = Dialects(1 << 20).match(path)
    assert isinstance(dialect, ConversingDialect)
    assert dialect.words(captured(ANSWERS[path])) == SAID
