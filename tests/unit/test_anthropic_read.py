"""Anthropic messages: which requests are questions, and which are bypassed with what word."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from ai_cache_extproc.dialects import Dialects
from ai_cache_extproc.dialects.anthropic_count_tokens import AnthropicCountTokens
from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.model import Mode, Question, Reason
from tests.support.anthropic_answers import DIALECT, HEAD

MESSAGES = [{"role": "user", "content": "Why?"}]
BODY: dict[str, object] = {"model": "claude", "max_tokens": 1024, "messages": MESSAGES}
DATA = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
IMAGE = {"type": "image", "source": DATA}
URL = {"type": "url", "url": "https://example.org/a.png"}
FILE = {"type": "file", "file_id": "file_011CNha8iCJcU1wXNR6q4V8w"}


def read(body: dict[str, object]) -> Question:
    """Read a body; how it was written does not matter to this dialect."""
    return DIALECT.read(body, raw=b"", head=HEAD)


def refusal(body: dict[str, object]) -> str:
    """The word with which a body is bypassed."""
    with pytest.raises(DialectError) as caught:
        read(body)
    return caught.value.reason


def _asked(*blocks: object) -> dict[str, object]:
    return {"messages": [*MESSAGES, {"role": "user", "content": [{"type": "text", "text": "Look:"}, *blocks]}]}


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/messages", "anthropic_messages"),
        ("/v1/messages?beta=true", "anthropic_messages"),
        ("/anthropic/v1/messages", "anthropic_messages"),
        ("/v1/messages/count_tokens", "anthropic_count_tokens"),
        ("/gateway/anthropic/v1/messages/count_tokens?beta=true", "anthropic_count_tokens"),
    ],
)
def test_paths(path: str, name: str) -> None:
    """Messages and their count of tokens are known under any prefix."""
    dialect = Dialects(1024).match(path)
    assert dialect is not None
    assert name == dialect.name
    assert path == dialect.target(path)
    assert ("anthropic-version", "anthropic-beta") == dialect.answer_headers


@pytest.mark.parametrize("path", ["/v1/threads/t/messages", "/v1/messages/batches", "/v1/messages/", "/xv1/messages_"])
def test_other_paths(path: str) -> None:
    """Batches, and the messages of others, are none of our business."""
    assert Dialects(1024).match(path) is None


def test_plain_question() -> None:
    """A body with model and messages is a question for one JSON answer."""
    assert asdict(Question("anthropic_messages", "claude", Mode.JSON, BODY)) == asdict(read(BODY))


def test_stream_is_read() -> None:
    """A stream is asked for in the body; absent, null and false ask for JSON."""
    assert Mode.STREAM is read(BODY | {"stream": True}).mode
    assert Mode.JSON is read(BODY | {"stream": False}).mode
    assert Mode.JSON is read(BODY | {"stream": None}).mode


def test_question_without_model() -> None:
    """Hosts may name the model in the path."""
    assert "" == read({"messages": MESSAGES}).model


@pytest.mark.parametrize(
    "members",
    [
        {"container": None, "mcp_servers": [], "tools": None, "thread": None, "diagnostics": None},
        {"diagnostics": {"previous_message_id": None}, "tools": []},
        {"system": [{"type": "text", "text": "See https://example.org", "cache_control": {"type": "ephemeral"}}]},
        {"tools": [{"name": "f", "input_schema": {}}, {"type": "custom", "name": "g", "input_schema": {}}]},
        {"tools": [{"type": "bash_20250124", "name": "bash"}, {"type": "text_editor_20250728", "name": "e"}]},
        {"tools": [{"type": "computer_20250124", "name": "computer"}, {"type": "computer_toolset_20260801"}]},
        {"tools": [{"type": "memory_20250818", "name": "memory"}, {"type": "browser_toolset_20260801"}]},
        {"tools": [{"type": "tool_search_tool_bm25_20251119", "name": "tool_search_tool_bm25"}]},
        _asked(IMAGE),
        _asked({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "https://a.org"}}),
        _asked({"type": "document", "source": {"type": "content", "content": [IMAGE]}}),
        _asked({"type": "search_result", "source": "https://example.org", "title": "t", "content": []}),
        _asked({"type": "tool_result", "tool_use_id": "t", "content": "https://example.org/a.png"}),
        _asked({"type": "tool_result", "tool_use_id": "t", "content": [IMAGE], "is_error": None}),
        {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "input": {"source": URL}}]}]},
        {"messages": [{"role": "assistant", "content": [{"type": "thinking", "thinking": "", "signature": "s"}]}]},
    ],
    ids=[
        "nulls",
        "diagnostics without a predecessor",
        "system in blocks",
        "own tools",
        "tools of Anthropic's schema",
        "computer use",
        "memory and browser",
        "search among the own tools",
        "image",
        "document in text",
        "document in blocks",
        "search result",
        "tool result in text",
        "tool result with an image",
        "an address in a call",
        "thoughts",
    ],
)
def test_questions(members: dict[str, object]) -> None:
    """Nulls, tools that the caller runs, and media that travel in the body are no obstacle."""
    assert Mode.JSON is read(BODY | members).mode


@pytest.mark.parametrize(
    "members",
    [
        {"messages": None},
        {"messages": []},
        {"messages": "Why?"},
        {"messages": ["Why?"]},
        {"messages": [{"role": "user"}]},
        {"messages": [{"role": "user", "content": {"type": "text"}}]},
        {"model": None},
        {"model": 4},
        {"stream": "true"},
        {"stream": 1},
        {"tools": {}},
        {"tools": ["bash"]},
    ],
    ids=str,
)
def test_not_understood(members: dict[str, object]) -> None:
    """A body of another shape is bypassed as not understood."""
    assert Reason.NOT_UNDERSTOOD == refusal(BODY | members)


SIDE_EFFECTS: list[dict[str, object]] = [
    {"container": "container_011"},
    {"container": {"id": None, "skills": []}},
    {"mcp_servers": [{"type": "url", "url": "https://mcp.example.org", "name": "m"}]},
    {"thread": {"type": "create"}},
    {"fallback_credit_token": "t"},
    {"diagnostics": {"previous_message_id": "msg_01"}},
]
SERVER_TOOLS: list[dict[str, object]] = [
    {"tools": [{"name": "f", "input_schema": {}}, {"type": "web_search_20250305", "name": "web_search"}]},
    {"tools": [{"type": "web_fetch_20250910", "name": "web_fetch"}]},
    {"tools": [{"type": "code_execution_20250825", "name": "code_execution"}]},
    {"tools": [{"type": "mcp_toolset", "mcp_server_name": "m"}]},
    {"tools": [{"type": "advisor_20260301", "name": "advisor"}]},
    {"tools": [{"type": ["custom"]}]},
]


@pytest.mark.parametrize("members", [*SIDE_EFFECTS, *SERVER_TOOLS], ids=str)
def test_side_effects(members: dict[str, object]) -> None:
    """What makes the upstream act, remember, or look elsewhere is bypassed."""
    assert Reason.SIDE_EFFECT == refusal(BODY | members)


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image", "source": URL},
        {"type": "image", "source": FILE},
        {"type": "document", "source": {"type": "url", "url": "https://example.org/a.pdf"}},
        {"type": "document", "source": FILE},
        {"type": "document", "source": {"type": "content", "content": [IMAGE, {"type": "image", "source": URL}]}},
        {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image", "source": URL}]},
        {"type": "image", "source": {"type": "new"}},
        {"type": "image", "source": {"url": "https://example.org/a.png"}},
        {"type": "container_upload", "file_id": "file_011"},
    ],
    ids=[
        "image by address",
        "image by file",
        "document by address",
        "document by file",
        "inside a document",
        "inside a tool result",
        "a source of a kind not known",
        "a source of no kind",
        "a file for the sandbox",
    ],
)
def test_remote_media(block: dict[str, object]) -> None:
    """Media that the upstream would fetch, or has in its files, may change or go: the question is bypassed."""
    assert Reason.REMOTE_MEDIA == refusal(BODY | _asked(block))


def test_count_tokens_is_read() -> None:
    """A count of tokens is a question for JSON, whatever tools there are: none runs while it counts."""
    counting = AnthropicCountTokens()
    for body in ({"messages": MESSAGES, "model": "claude"}, BODY, BODY | SERVER_TOOLS[0]):
        asked = counting.read(body, raw=b"", head=HEAD)
        assert ("anthropic_count_tokens", "claude", Mode.JSON) == (asked.dialect, asked.model, asked.mode)


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"messages": []}, Reason.NOT_UNDERSTOOD),
        ({"model": 4}, Reason.NOT_UNDERSTOOD),
        (_asked({"type": "image", "source": URL}), Reason.REMOTE_MEDIA),
        (SIDE_EFFECTS[2], Reason.SIDE_EFFECT),
    ],
    ids=["no messages", "no model", "remote media", "tools of other servers"],
)
def test_count_tokens_bypassed(members: dict[str, object], reason: Reason) -> None:
    """What the upstream would have to look up elsewhere is not counted twice alike."""
    with pytest.raises(DialectError) as caught:
        AnthropicCountTokens().read(BODY | members, raw=b"", head=HEAD)
    assert reason == caught.value.reason
