"""OpenAI chat: which requests are questions, and which are bypassed with what word."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.model import Mode, Question, Reason
from tests.support.chat_answers import DIALECT, HEAD

MESSAGES = [{"role": "user", "content": "Why?"}]
BODY: dict[str, object] = {"model": "gpt", "messages": MESSAGES}


def read(body: dict[str, object]) -> Question:
    """Read a body; how it was written does not matter to this dialect."""
    return DIALECT.read(body, raw=b"", head=HEAD)


def _part(part: object) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": "Look:"}, part]}]}


def test_plain_question() -> None:
    """A body with model and messages is a question for one JSON answer."""
    assert asdict(Question("openai_chat", "gpt", Mode.JSON, BODY)) == asdict(read(BODY))


def test_full_question() -> None:
    """Stream, number of choices and the wish for a usage chunk are read."""
    body = BODY | {"stream": True, "n": 3, "stream_options": {"include_usage": True}}
    expected = Question("openai_chat", "gpt", Mode.STREAM, body, choices=3, usage_chunk=True)
    assert asdict(expected) == asdict(read(body))


def test_question_without_model() -> None:
    """Azure names the model in the path."""
    assert "" == read({"messages": MESSAGES}).model


@pytest.mark.parametrize(
    "members",
    [
        {"stream": None, "n": None, "tools": None, "stream_options": None, "store": None, "web_search_options": None},
        {"stream": False, "store": False, "background": False, "stream_options": {"include_usage": None}},
        {"tools": [{"type": "function", "function": {}}, {"type": "custom", "custom": {}}]},
        {"messages": [{"role": "assistant", "content": None}, {"role": "tool", "content": "see https://example.org"}]},
        _part({"type": "text", "text": "https://example.org/a.png"}),
        _part({"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}),
        _part({"type": "input_audio", "input_audio": {"data": "UklGR//8", "format": "wav"}}),
        _part({"type": "file", "file": {"file_id": "file-1", "file_data": None}}),
    ],
)
def test_questions(members: dict[str, object]) -> None:
    """Nulls, own tools, text about addresses and media that travel in the body are no obstacle."""
    assert Mode.JSON is read(BODY | members).mode


@pytest.mark.parametrize(
    "members",
    [
        {"messages": None},
        {"messages": []},
        {"messages": "Why?"},
        {"messages": {"role": "user"}},
        {"messages": ["Why?"]},
        {"model": None},
        {"model": 4},
        {"stream": "true"},
        {"stream": 1},
        {"n": 0},
        {"n": -1},
        {"n": True},
        {"n": 1.0},
        {"n": "2"},
        {"tools": {}},
        {"tools": ["web"]},
        {"stream_options": True},
        {"stream_options": {"include_usage": "yes"}},
    ],
)
def test_not_understood(members: dict[str, object]) -> None:
    """A body of another shape is bypassed as not understood."""
    with pytest.raises(DialectError) as caught:
        read(BODY | members)
    assert Reason.NOT_UNDERSTOOD == caught.value.reason


def test_no_messages() -> None:
    """A body without messages is not understood."""
    with pytest.raises(DialectError) as caught:
        read({"model": "gpt", "prompt": "Why?"})
    assert Reason.NOT_UNDERSTOOD == caught.value.reason


@pytest.mark.parametrize(
    "members",
    [
        {"store": True},
        {"store": "yes"},
        {"background": True},
        {"web_search_options": {}},
        {"search_parameters": {"mode": "auto"}},
        {"enable_search": True},
        {"plugins": [{"id": "web"}]},
        {"data_sources": [{"type": "azure_search"}]},
        {"tools": [{"type": "function", "function": {}}, {"type": "web_search"}]},
        {"tools": [{"google_search": {}}]},
        {"tools": [{"type": ["function"]}]},
    ],
)
def test_side_effects(members: dict[str, object]) -> None:
    """What makes the upstream act, or look elsewhere, is bypassed."""
    with pytest.raises(DialectError) as caught:
        read(BODY | members)
    assert Reason.SIDE_EFFECT == caught.value.reason


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
        {"type": "image_url", "image_url": "HTTP://example.org/a.png"},
        {"type": "file", "file": {"file_url": " https://example.org/a.pdf"}},
        {"type": "input_audio", "input_audio": {"data": "https://example.org/a.wav"}},
        {"type": "video", "video": ["https://example.org/1.jpg"]},
        {"type": "image_url", "image_url": {"url": "gs://bucket/a.png"}},
        {"image_url": {"url": "https://example.org/a.png"}},
    ],
)
def test_remote_media(part: dict[str, object]) -> None:
    """Media that the upstream would fetch may change, so the question is bypassed."""
    bare: dict[str, object] = {"messages": [*MESSAGES, {"role": "user", "content": part}]}
    for members in (_part(part), bare):
        with pytest.raises(DialectError) as caught:
            read(BODY | members)
        assert Reason.REMOTE_MEDIA == caught.value.reason
