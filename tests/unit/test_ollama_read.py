"""Ollama: which requests are questions, in which mode, and which are bypassed with what word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

import pytest

from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.model import Mode, Question, Reason
from tests.support.openai_more_answers import OLLAMA, Asked

CHAT: dict[str, object] = {"model": "llama3.2", "messages": [{"role": "user", "content": "Why?"}]}
GENERATE: dict[str, object] = {"model": "llama3.2", "prompt": "Why?"}


def read(body: Mapping[str, object], path: str = "/api/chat") -> Question:
    """Read a body."""
    return OLLAMA.read(Asked(path, body))


def _refusal(body: Mapping[str, object], path: str = "/api/chat") -> str:
    with pytest.raises(DialectError) as caught:
        read(body, path)
    return caught.value.reason


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param("/api/chat", CHAT, id="chat"),
        pytest.param("/ollama/api/chat?x=/api/generate", CHAT, id="prefix and query"),
        pytest.param("/api/generate", GENERATE, id="generate"),
    ],
)
def test_plain_question(path: str, body: dict[str, object]) -> None:
    """A model and what to say to it are a question for lines."""
    assert asdict(Question("ollama", "llama3.2", Mode.STREAM, body)) == asdict(read(body, path))


@pytest.mark.parametrize(("stream", "mode"), [(None, Mode.STREAM), (True, Mode.STREAM), (False, Mode.JSON)])
def test_mode(stream: bool | None, mode: Mode) -> None:
    """Only who says so gets one JSON answer."""
    assert mode is read(CHAT | {"stream": stream}).mode


@pytest.mark.parametrize(
    "members",
    [
        pytest.param({"tools": [{"type": "function", "function": {"name": "f"}}], "think": "high"}, id="tools"),
        pytest.param({"keep_alive": 0, "options": {"seed": 7}, "format": "json", "logprobs": True}, id="options"),
        pytest.param({"messages": [{"role": "user", "content": "https://a", "images": ["/9j/4AAQ//"]}]}, id="image"),
    ],
)
def test_questions(members: dict[str, object]) -> None:
    """Options, own tools and images that travel in the body are no obstacle."""
    assert Mode.STREAM is read(CHAT | members).mode


@pytest.mark.parametrize(
    "members",
    [
        pytest.param({"model": ""}, id="no model"),
        pytest.param({"model": None}, id="null model"),
        pytest.param({"messages": []}, id="loads the model"),
        pytest.param({"messages": "Why?"}, id="messages is text"),
        pytest.param({"messages": ["Why?"]}, id="a message is text"),
        pytest.param({"stream": "false"}, id="stream is text"),
        pytest.param({"tools": {}}, id="tools is an object"),
    ],
)
def test_chat_not_understood(members: dict[str, object]) -> None:
    """A chat of another shape is bypassed as not understood."""
    assert Reason.NOT_UNDERSTOOD == _refusal(CHAT | members)


@pytest.mark.parametrize("prompt", ["", None, ["Why?"]])
def test_prompt_not_understood(prompt: object) -> None:
    """Without a prompt the model is loaded, and nothing is answered."""
    assert Reason.NOT_UNDERSTOOD == _refusal(GENERATE | {"prompt": prompt}, "/api/generate")
    assert Reason.NOT_UNDERSTOOD == _refusal(CHAT, "/api/generate")


def test_hosted_tools() -> None:
    """Only the caller's own tools are known not to act elsewhere."""
    assert Reason.SIDE_EFFECT == _refusal(CHAT | {"tools": [{"type": "web_search"}]})


def test_remote_images() -> None:
    """An image that stands elsewhere may change."""
    images = {"images": ["https://example.org/a.png"]}
    assert Reason.REMOTE_MEDIA == _refusal(CHAT | {"messages": [{"role": "user", "content": "Look:"} | images]})
    assert Reason.REMOTE_MEDIA == _refusal(GENERATE | images, "/api/generate")


def test_target() -> None:
    """The path tells a chat from a text; both modes have the same."""
    assert "/api/chat?x=1" == OLLAMA.dialect.target("/api/chat?x=1")
