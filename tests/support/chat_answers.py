"""Recorded shapes of chat completions, and what the tests of the dialect make of them.

`kept/` holds answers that may be kept, `refused/` whole answers that may not; `.sse` are streams.
"""

from __future__ import annotations

from pathlib import Path

from ai_cache_extproc.dialects.openai_chat import OpenAIChat
from ai_cache_extproc.model import Captured, Mode, Question, RequestHead, ResponseHead

_FIXTURES = Path(__file__).parent.parent / "fixtures" / "openai_chat"

DIALECT = OpenAIChat(sse_line_bytes_max=1024 * 1024)
JSON_TYPE = "application/json"
STREAM_TYPE = "text/event-stream; charset=utf-8"
HEAD = RequestHead("POST", "/v1/chat/completions", "llm", {})


def _answers(folder: str, suffix: str) -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in sorted((_FIXTURES / folder).glob(f"*{suffix}"))}


KEPT_JSON = _answers("kept", ".json")
KEPT_STREAMS = _answers("kept", ".sse")
REFUSED_JSON = _answers("refused", ".json")
REFUSED_STREAMS = _answers("refused", ".sse")


def question(mode: Mode = Mode.JSON, *, name: str = "", usage_chunk: bool = False) -> Question:
    """A question in this mode, asking for as many choices as the answer `name` has."""
    body = {"model": "gpt", "messages": [{"role": "user", "content": "Why?"}], "stream": mode is Mode.STREAM}
    options = {"stream_options": {"include_usage": True}} if usage_chunk else {}
    return DIALECT.read(body | options | {"n": 2 if "two" in name else 1}, raw=b"", head=HEAD)


def settle(asked: Question, mode: Mode, body: bytes, *, tool_calls: bool, dialect: OpenAIChat = DIALECT) -> None:
    """Settle an answer as write-back does; whatever may be kept is kept as it is."""
    answer = captured(mode, body)
    assert answer is dialect.settle(asked, answer, tool_calls=tool_calls)


def captured(mode: Mode, body: bytes) -> Captured:
    """A capture as write-back keeps it."""
    content_type = JSON_TYPE if mode is Mode.JSON else STREAM_TYPE
    return Captured(mode, content_type, body, created_s=1.0, expires_s=2.0, elapsed_s=0.5)


def answer_head(content_type: str, **headers: str) -> ResponseHead:
    """The head of a good answer; underscores in header names stand for dashes."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return ResponseHead(200, {"content-type": content_type} | named)
