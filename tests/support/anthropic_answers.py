"""Shapes of Anthropic's messages, and what the tests of the dialect make of them.

`kept/` holds answers that may be kept, `refused/` whole answers that may not; `.sse` are streams. A stream and a JSON
answer of one name are the same message.
"""

from __future__ import annotations

from pathlib import Path

from ai_cache_extproc.config.rules import AS_IT_CAME, Replaying
from ai_cache_extproc.dialects.anthropic_messages import AnthropicMessages
from ai_cache_extproc.dialects.openai_chat_replay import Mint
from ai_cache_extproc.model import Captured, Mode, Question, Replay, RequestHead, ResponseHead

_FIXTURES = Path(__file__).parent.parent / "fixtures" / "anthropic"

DIALECT = AnthropicMessages(
    sse_line_bytes_max=1024 * 1024, mint=Mint(now_s=lambda: 1_763_697_600.0, random=lambda length: bytes(range(length)))
)
JSON_TYPE = "application/json"
STREAM_TYPE = "text/event-stream; charset=utf-8"
HEAD = RequestHead("POST", "/v1/messages", "llm", {})
USAGE = {"input_tokens": 1, "output_tokens": 2}
OTHER = {Mode.JSON: Mode.STREAM, Mode.STREAM: Mode.JSON}


def _answers(folder: str, suffix: str) -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in sorted((_FIXTURES / folder).glob(f"*{suffix}"))}


KEPT_JSON = _answers("kept", ".json")
KEPT_STREAMS = _answers("kept", ".sse")
REFUSED_JSON = _answers("refused", ".json")
REFUSED_STREAMS = _answers("refused", ".sse")
NOT_TURNED = {"unknown_block", "unknown_delta", "unknown_event", "no_usage"}
"""What may be kept, but is not sure to be all in the other mode."""


def question(mode: Mode = Mode.JSON) -> Question:
    """A question in this mode."""
    messages = [{"role": "user", "content": "Why?"}]
    body = {"model": "claude", "max_tokens": 9, "messages": messages, "stream": mode is Mode.STREAM}
    return DIALECT.read(body, raw=b"", head=HEAD)


def settle(mode: Mode, body: bytes, *, tool_calls: bool = True, dialect: AnthropicMessages = DIALECT) -> None:
    """Settle an answer as write-back does; whatever may be kept is kept as it is."""
    answer = captured(mode, body)
    assert answer is dialect.settle(question(mode), answer, tool_calls=tool_calls)


def captured(mode: Mode, body: bytes) -> Captured:
    """A capture as write-back keeps it."""
    content_type = JSON_TYPE if mode is Mode.JSON else STREAM_TYPE
    return Captured(mode, content_type, body, created_s=1.0, expires_s=2.0, elapsed_s=0.5)


def answer_head(content_type: str) -> ResponseHead:
    """The head of a good answer."""
    return ResponseHead(200, {"content-type": content_type})


def replayed(mode: Mode, body: bytes, asked: Mode, wishes: Replaying = AS_IT_CAME) -> Replay | None:
    """What an entry with this one capture answers to a question in the mode `asked`."""
    return DIALECT.replay(question(asked), [captured(mode, body)], wishes)


def message(*content: object, **members: object) -> dict[str, object]:
    """A message with this content, as the API gives it in JSON."""
    whole = {
        "id": "msg_01",
        "type": "message",
        "role": "assistant",
        "model": "claude",
        "content": list(content),
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": USAGE,
    }
    return whole | members
