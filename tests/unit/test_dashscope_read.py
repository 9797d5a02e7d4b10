"""DashScope: which requests are questions, in which mode, and which are bypassed with what word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

import pytest

from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.model import Mode, Question, Reason
from tests.support.openai_more_answers import DASHSCOPE, Asked

PATH = "/api/v1/services/aigc/text-generation/generation"
MESSAGES = [{"role": "user", "content": "Why?"}]
BODY: dict[str, object] = {"model": "qwen-plus", "input": {"messages": MESSAGES}}


def read(body: Mapping[str, object], **headers: str) -> Question:
    """Read a body; underscores in header names stand for dashes."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return DASHSCOPE.read(Asked(PATH, body, {"accept": "*/*"} | named))


def _refusal(members: dict[str, object], **headers: str) -> str:
    with pytest.raises(DialectError) as caught:
        read(BODY | members, **headers)
    return caught.value.reason


def _content(content: object) -> dict[str, object]:
    return {"input": {"messages": [{"role": "user", "content": content}]}}


def test_plain_question() -> None:
    """A body with messages is a question for one JSON answer."""
    assert asdict(Question("dashscope", "qwen-plus", Mode.JSON, BODY)) == asdict(read(BODY))


def test_full_question() -> None:
    """Parameters say how many choices."""
    body = BODY | {"parameters": {"n": 2, "seed": 7, "tools": [{"type": "function", "function": {"name": "f"}}]}}
    assert 2 == read(body).choices


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param({"prompt": "Why?"}, id="prompt"),
        pytest.param({"prompt": "Why?", "history": [{"user": "see https://a", "bot": "ok"}]}, id="history"),
        pytest.param({"messages": [{"role": "user", "content": "see https://a"}]}, id="text about an address"),
        pytest.param(
            {"messages": [{"role": "user", "content": [{"text": "https://a"}]}]}, id="text part is an address"
        ),
        pytest.param(
            {"messages": [{"role": "user", "content": [{"image": "data:image/png;base64,iVBO"}]}]}, id="image"
        ),
        pytest.param({"messages": [{"role": "assistant", "content": None}]}, id="no content"),
    ],
)
def test_inputs(asked: object) -> None:
    """Prompts, messages, histories and media that travel in the body are no obstacle."""
    assert Mode.JSON is read(BODY | {"input": asked}).mode


@pytest.mark.parametrize(
    ("headers", "mode"),
    [
        pytest.param({}, Mode.JSON, id="plain"),
        pytest.param({"x_dashscope_sse": "enable"}, Mode.STREAM, id="enable"),
        pytest.param({"x_dashscope_sse": " Enable"}, Mode.STREAM, id="in any case"),
        pytest.param({"x_dashscope_sse": "disable", "accept": "text/event-stream"}, Mode.JSON, id="disable"),
        pytest.param({"accept": "text/event-stream"}, Mode.STREAM, id="only events accepted"),
        pytest.param({"accept": "application/json; charset=utf-8"}, Mode.JSON, id="JSON accepted"),
        pytest.param({"accept": "*/*, text/event-stream"}, Mode.JSON, id="anything accepted"),
    ],
)
def test_mode(headers: dict[str, str], mode: Mode) -> None:
    """A header asks for a stream, and the body may say the same."""
    assert mode is read(BODY, **headers).mode
    assert mode is read(BODY | {"stream": mode is Mode.STREAM}, **headers).mode
    assert Reason.NOT_UNDERSTOOD == _refusal({"stream": mode is Mode.JSON}, **headers)


def test_mode_not_understood() -> None:
    """A header that says something else is not guessed at."""
    assert Reason.NOT_UNDERSTOOD == _refusal({}, x_dashscope_sse="true")
    assert Reason.NOT_UNDERSTOOD == _refusal({"stream": "yes"})


def test_mode_not_seen() -> None:
    """Where Envoy shows no header that would ask for a stream, the request is bypassed."""
    with pytest.raises(DialectError) as caught:
        DASHSCOPE.read(Asked(PATH, BODY))
    assert Reason.NOT_UNDERSTOOD == caught.value.reason
    assert Mode.STREAM is DASHSCOPE.read(Asked(PATH, BODY, {"x-dashscope-sse": "enable"})).mode


def test_both_modes_share_an_entry() -> None:
    """What says how the answer is to travel is no part of the question; what changes the answer is."""
    assert "x-dashscope-sse" not in DASHSCOPE.dialect.answer_headers
    assert "x-dashscope-datainspection" in DASHSCOPE.dialect.answer_headers
    assert PATH == DASHSCOPE.dialect.target(PATH)


@pytest.mark.parametrize(
    "members",
    [
        pytest.param({"input": None}, id="no input"),
        pytest.param({"input": "Why?"}, id="input is text, as where it is encrypted"),
        pytest.param({"input": {}}, id="nothing asked"),
        pytest.param({"input": {"messages": []}}, id="no messages"),
        pytest.param({"input": {"messages": ["Why?"]}}, id="a message is text"),
        pytest.param({"input": {"prompt": ""}}, id="empty prompt"),
        pytest.param({"parameters": "n"}, id="parameters is text"),
        pytest.param({"parameters": {"n": 0}}, id="no choices"),
        pytest.param({"parameters": {"tools": {}}}, id="tools is an object"),
        pytest.param({"model": 3}, id="model is a number"),
    ],
)
def test_not_understood(members: dict[str, object]) -> None:
    """A body of another shape is bypassed as not understood."""
    assert Reason.NOT_UNDERSTOOD == _refusal(members)


@pytest.mark.parametrize(
    "parameters",
    [
        {"enable_search": True},
        {"enable_code_interpreter": True},
        {"plugins": {"pdf_extracter": {}}},
        {"tools": [{"type": "web_search"}]},
    ],
    ids=str,
)
def test_side_effects(parameters: dict[str, object]) -> None:
    """What makes the upstream look elsewhere is bypassed."""
    assert Reason.SIDE_EFFECT == _refusal({"parameters": parameters})


@pytest.mark.parametrize("header", ["x_dashscope_async", "x_dashscope_plugin"])
def test_side_effect_headers(header: str) -> None:
    """A task that outlives the request, and plugins, are asked for by headers."""
    assert Reason.SIDE_EFFECT == _refusal({}, **{header: "enable"})


@pytest.mark.parametrize(
    "members",
    [
        pytest.param(_content([{"text": "Look:"}, {"image": "https://example.org/a.png"}]), id="image"),
        pytest.param(_content([{"image": "oss://bucket/a.png"}]), id="uploaded"),
        pytest.param(_content([{"video": ["https://example.org/1.jpg"]}]), id="frames"),
        pytest.param(_content(["https://example.org/a.png"]), id="bare"),
        pytest.param(_content({"file": "https://example.org/a.pdf"}), id="object"),
        pytest.param(_content("fileid://file-fe-1,fileid://file-fe-2"), id="file the host keeps"),
        pytest.param({"input": {"prompt": "Look", "image_url": "https://example.org/a.png"}}, id="beside the prompt"),
    ],
)
def test_remote_media(members: dict[str, object]) -> None:
    """Media that the upstream would fetch may change."""
    assert Reason.REMOTE_MEDIA == _refusal(members)
