"""OpenAI responses: which requests are questions, and which are bypassed with what word."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.model import Mode, Question, Reason
from tests.support.openai_more_answers import RESPONSES, Asked

BODY: dict[str, object] = {"model": "gpt", "input": "Why?"}


def read(body: dict[str, object]) -> Question:
    """Read a body."""
    return RESPONSES.read(Asked("/v1/responses", body))


def _refusal(members: dict[str, object]) -> str:
    with pytest.raises(DialectError) as caught:
        read(BODY | members)
    return caught.value.reason


def _item(part: object) -> dict[str, object]:
    return {"input": [{"role": "user", "content": [{"type": "input_text", "text": "Look:"}, part]}]}


def test_plain_question() -> None:
    """A body with model and input is a question for one JSON answer, though OpenAI then keeps the response."""
    assert asdict(Question("openai_responses", "gpt", Mode.JSON, BODY)) == asdict(read(BODY))


def test_streamed_question() -> None:
    """Whether to stream is read."""
    assert Mode.STREAM is read(BODY | {"stream": True}).mode


@pytest.mark.parametrize(
    "members",
    [
        pytest.param({"store": False, "background": False, "previous_response_id": None, "tools": None}, id="nulls"),
        pytest.param({"tools": [{"type": "function", "name": "f"}, {"type": "custom", "name": "c"}]}, id="own tools"),
        pytest.param({"input": [{"role": "user", "content": "see https://example.org"}]}, id="text about an address"),
        pytest.param(_item({"type": "input_text", "text": "https://example.org"}), id="text part is an address"),
        pytest.param(
            _item({"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo="}), id="image in the body"
        ),
        pytest.param(
            _item({"type": "input_file", "file_data": "data:application/pdf;base64,JVBERi0=", "file_id": None}),
            id="file in the body",
        ),
        pytest.param(
            {
                "input": [
                    {"type": "message", "role": "user", "content": "Weather?"},
                    {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"},
                    {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
                    {"type": "function_call_output", "call_id": "1", "output": "https://example.org/rain"},
                    {
                        "type": "function_call_output",
                        "call_id": "1",
                        "output": [{"type": "input_text", "text": "http://a"}],
                    },
                    {
                        "type": "message",
                        "role": "assistant",
                        "content": [{"type": "output_text", "text": "Rain", "annotations": [{"url": "https://a"}]}],
                    },
                ]
            },
            id="a whole conversation",
        ),
    ],
)
def test_questions(members: dict[str, object]) -> None:
    """Nulls, own tools, text about addresses and media that travel in the body are no obstacle."""
    assert Mode.JSON is read(BODY | members).mode


@pytest.mark.parametrize(
    "members",
    [
        pytest.param({"input": None}, id="null input"),
        pytest.param({"input": ""}, id="empty input"),
        pytest.param({"input": []}, id="no items"),
        pytest.param({"input": {"role": "user"}}, id="input is an object"),
        pytest.param({"input": ["Why?"]}, id="an item is text"),
        pytest.param({"model": 4}, id="model is a number"),
        pytest.param({"stream": "yes"}, id="stream is text"),
        pytest.param({"tools": ["web"]}, id="a tool is text"),
    ],
)
def test_not_understood(members: dict[str, object]) -> None:
    """A body of another shape is bypassed as not understood."""
    assert Reason.NOT_UNDERSTOOD == _refusal(members)


@pytest.mark.parametrize(
    "members",
    [
        {"store": True},
        {"previous_response_id": "resp_1"},
        {"conversation": "conv_1"},
        {"conversation": {"id": "conv_1"}},
        {"prompt": {"id": "pmpt_1", "version": "2"}},
        {"background": True},
        {"input": [{"type": "item_reference", "id": "msg_1"}]},
        {"search_parameters": {"mode": "on"}},
        {"plugins": [{"id": "web"}]},
        *(
            {"tools": [{"type": kind}]}
            for kind in (
                "web_search",
                "web_search_preview",
                "file_search",
                "code_interpreter",
                "computer_use_preview",
                "mcp",
                "image_generation",
                "local_shell",
                "shell",
                "apply_patch",
                "namespace",
            )
        ),
        {"tools": [{"type": "function", "name": "f"}, {"type": "mcp"}]},
        {"tools": [{"name": "f"}]},
    ],
    ids=str,
)
def test_side_effects(members: dict[str, object]) -> None:
    """Stored state, work that outlives the answer and hosted tools are bypassed."""
    assert Reason.SIDE_EFFECT == _refusal(members)


@pytest.mark.parametrize(
    "members",
    [
        pytest.param(_item({"type": "input_image", "image_url": "https://example.org/a.png"}), id="image"),
        pytest.param(_item({"type": "input_image", "file_id": "file-1"}), id="image file"),
        pytest.param(_item({"type": "input_file", "file_url": "https://example.org/a.pdf"}), id="file"),
        pytest.param(_item({"type": "input_file", "file_id": "file-1"}), id="file id"),
        pytest.param(_item("https://example.org/a.png"), id="part is an address"),
        pytest.param(
            {
                "input": [
                    {
                        "type": "computer_call_output",
                        "output": {"type": "computer_screenshot", "image_url": "http://a/b"},
                    }
                ]
            },
            id="screenshot",
        ),
        pytest.param(
            {
                "input": [
                    {"type": "function_call_output", "output": [{"type": "input_image", "image_url": "http://a/b"}]}
                ]
            },
            id="image of a tool",
        ),
    ],
)
def test_remote_media(members: dict[str, object]) -> None:
    """Media that the upstream would fetch, from elsewhere or from what it keeps, may change."""
    assert Reason.REMOTE_MEDIA == _refusal(members)
