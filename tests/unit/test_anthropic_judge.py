"""Anthropic messages: how answers are collected, which may be kept, and with what word the others are refused."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping

import pytest

from ai_cache_extproc.dialects.anthropic_count_tokens import AnthropicCountTokens
from ai_cache_extproc.dialects.anthropic_messages import AnthropicMessages
from ai_cache_extproc.dialects.base import Capture
from ai_cache_extproc.dialects.framing.sse import encode
from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.model import Mode, Reason
from tests.support.anthropic_answers import (
    DIALECT,
    HEAD,
    JSON_TYPE,
    KEPT_JSON,
    KEPT_STREAMS,
    REFUSED_JSON,
    REFUSED_STREAMS,
    STREAM_TYPE,
    answer_head,
    captured,
    question,
    settle,
)

REASONS = {
    "max_tokens": Reason.FINISH_REASON,
    "refusal": Reason.FINISH_REASON,
    "pause_turn": Reason.FINISH_REASON,
    "model_context_window_exceeded": Reason.FINISH_REASON,
    "compaction": Reason.FINISH_REASON,
    "no_stop_reason": Reason.FINISH_REASON,
    "empty": Reason.EMPTY_ANSWER,
    "empty_text": Reason.EMPTY_ANSWER,
    "thinking_alone": Reason.EMPTY_ANSWER,
    "error": Reason.IN_BAND_ERROR,
    "error_event": Reason.IN_BAND_ERROR,
    "error_in_data": Reason.IN_BAND_ERROR,
    "unclosed_block": Reason.CUT,
    "two_stop_reasons": Reason.ANSWER_NOT_UNDERSTOOD,
    "broken_input": Reason.ANSWER_NOT_UNDERSTOOD,
}
CALLS = ["tool_use", "parallel_tool_use", "tool_use_no_input", "thinking_tool", "tool_search"]
SEEDS = range(20)

START = {"type": "message_start", "message": {"id": "msg_01", "type": "message", "content": [], "usage": {}}}
OPEN = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
TEXT = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}}
CLOSE = {"type": "content_block_stop", "index": 0}
DELTA = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}}
STOP = {"type": "message_stop"}


def _stream(*events: Mapping[str, object]) -> bytes:
    return b"".join(encode(json.dumps(event), str(event["type"])) for event in events)


def _refusal(mode: Mode, body: bytes, *, tool_calls: bool = True) -> str:
    with pytest.raises(DialectError) as caught:
        settle(mode, body, tool_calls=tool_calls)
    return caught.value.reason


def _capture(content_type: str) -> Capture:
    return DIALECT.capture(question(), answer_head(content_type))


def _feed(capture: Capture, chunks: Iterable[bytes], *, ends: bool = True) -> bool:
    """Feed an answer; whether it was whole at the last chunk."""
    pieces = list(chunks)
    return [capture.feed(piece, end_of_stream=ends and at == len(pieces) - 1) for at, piece in enumerate(pieces)][-1]


def _frames(stream: bytes) -> list[bytes]:
    """The events of a stream, each with the blank line that completes it."""
    blank = b"\r\n\r\n" if b"\r\n" in stream else b"\n\n"
    return [frame + blank for frame in stream.split(blank)[:-1]]


@pytest.mark.parametrize("name", KEPT_JSON)
def test_json_kept(name: str) -> None:
    """Every good JSON shape may be kept, in any layout of the JSON."""
    settle(Mode.JSON, KEPT_JSON[name])
    settle(Mode.JSON, json.dumps(json.loads(KEPT_JSON[name]), indent=2).encode())


@pytest.mark.parametrize("name", KEPT_STREAMS)
def test_stream_kept(name: str) -> None:
    """Every good stream may be kept."""
    settle(Mode.STREAM, KEPT_STREAMS[name])


@pytest.mark.parametrize("name", REFUSED_JSON)
def test_json_refused(name: str) -> None:
    """Every bad JSON shape is refused with its word."""
    assert REASONS[name] == _refusal(Mode.JSON, REFUSED_JSON[name])


@pytest.mark.parametrize("name", REFUSED_STREAMS)
def test_stream_refused(name: str) -> None:
    """Every bad stream is refused with its word, although it ends as a good one does."""
    assert REFUSED_STREAMS[name].endswith(b'data: {"type":"message_stop"}\n\n')
    assert REASONS[name] == _refusal(Mode.STREAM, REFUSED_STREAMS[name])


@pytest.mark.parametrize("name", CALLS)
def test_tool_calls_not_allowed(name: str) -> None:
    """Answers that call tools are refused where a rule does not keep them."""
    assert Reason.TOOL_CALLS == _refusal(Mode.JSON, KEPT_JSON[name], tool_calls=False)
    assert Reason.TOOL_CALLS == _refusal(Mode.STREAM, KEPT_STREAMS[name], tool_calls=False)


@pytest.mark.parametrize("name", ["text", "thinking", "citations"])
def test_no_tool_calls(name: str) -> None:
    """Answers without tool calls are kept where a rule does not keep tool calls."""
    settle(Mode.JSON, KEPT_JSON[name], tool_calls=False)
    settle(Mode.STREAM, KEPT_STREAMS[name], tool_calls=False)


@pytest.mark.parametrize("name", KEPT_STREAMS)
def test_captured_whole(name: str) -> None:
    """A stream is whole at its end event, before the upstream ends it, and is captured to the byte."""
    capture = _capture(STREAM_TYPE)
    assert _feed(capture, [KEPT_STREAMS[name]], ends=False)
    assert (Mode.STREAM, KEPT_STREAMS[name]) == (capture.mode, capture.body())


@pytest.mark.parametrize("name", KEPT_STREAMS)
def test_captured_byte_by_byte(name: str) -> None:
    """A stream that arrives byte by byte is captured to the byte."""
    stream = KEPT_STREAMS[name]
    capture = _capture(STREAM_TYPE)
    assert _feed(capture, (stream[at : at + 1] for at in range(len(stream))))
    assert stream == capture.body()


@pytest.mark.parametrize("seed", SEEDS)
def test_captured_in_any_chunks(seed: int) -> None:
    """A stream split at random is captured to the byte, and may be kept."""
    chance = random.Random(seed)
    for stream in KEPT_STREAMS.values():
        cuts = sorted(chance.sample(range(len(stream)), chance.randint(1, 12)))
        capture = _capture(STREAM_TYPE)
        assert _feed(capture, (stream[start:end] for start, end in zip([0, *cuts], [*cuts, None], strict=True)))
        settle(capture.mode, capture.body())
        assert stream == capture.body()


@pytest.mark.parametrize("name", KEPT_JSON)
def test_json_captured(name: str) -> None:
    """A JSON answer is whole at its end, and is captured to the byte."""
    body = KEPT_JSON[name]
    capture = _capture(JSON_TYPE)
    assert _feed(capture, (body[at : at + 7] for at in range(0, len(body), 7)))
    assert (Mode.JSON, body) == (capture.mode, capture.body())


@pytest.mark.parametrize("name", KEPT_STREAMS)
def test_cut_stream(name: str) -> None:
    """A stream cut after any of its events is neither whole nor, were it taken for whole, kept."""
    frames = _frames(KEPT_STREAMS[name])
    assert KEPT_STREAMS[name] == b"".join(frames)
    for kept in range(1, len(frames)):
        assert not _feed(_capture(STREAM_TYPE), frames[:kept])
        assert Reason.CUT == _refusal(Mode.STREAM, b"".join(frames[:kept]))


@pytest.mark.parametrize("name", KEPT_STREAMS)
def test_error_after_any_event(name: str) -> None:
    """A stream with an error after any of its events is refused, be the rest complete."""
    frames = _frames(KEPT_STREAMS[name])
    error = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'
    for at in range(len(frames)):
        assert Reason.IN_BAND_ERROR == _refusal(Mode.STREAM, b"".join([*frames[:at], error, *frames[at:]]))


def test_other_content_types() -> None:
    """What is neither JSON nor a stream of events is not collected."""
    with pytest.raises(DialectError) as caught:
        _capture("text/html")
    assert Reason.CONTENT_TYPE == caught.value.reason


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"type":"message"}',
        b'{"type":"message","content":"Hi","stop_reason":"end_turn"}',
        b'{"type":"message","content":["Hi"],"stop_reason":"end_turn"}',
        b'{"type":"completion","completion":"Hi","stop_reason":"stop_sequence"}',
        KEPT_JSON["text"] + b"{}",
        KEPT_JSON["text"].replace(b"sky", b"\xff\xfe"),
        b"[" * 100_000,
    ],
    ids=["nothing", "HTML", "list", "empty", "no content", "text", "texts", "other", "trailing", "no UTF-8", "deep"],
)
def test_json_not_understood(body: bytes) -> None:
    """What is not a message is refused, however it is broken."""
    assert Reason.ANSWER_NOT_UNDERSTOOD == _refusal(Mode.JSON, body)


@pytest.mark.parametrize("finish", ["error", "", {"type": "end_turn"}, ["end_turn"], 0, False], ids=repr)
def test_stop_of_another_kind(finish: object) -> None:
    """Only words that are known to be good are good."""
    answer = json.loads(KEPT_JSON["text"]) | {"stop_reason": finish}
    assert Reason.FINISH_REASON == _refusal(Mode.JSON, json.dumps(answer).encode())


def _delta(**members: object) -> Mapping[str, object]:
    return {"type": "content_block_delta", "index": 0, "delta": members}


@pytest.mark.parametrize(
    "events",
    [
        [STOP],
        [OPEN, TEXT, CLOSE, DELTA, STOP],
        [START, START, OPEN, TEXT, CLOSE, DELTA, STOP],
        [{"type": "message_start", "message": "msg_01"}, DELTA, STOP],
        [{"type": "message_start", "message": {"content": [{"type": "text", "text": "Hi"}]}}, DELTA, STOP],
        [START, TEXT, DELTA, STOP],
        [START, OPEN, CLOSE, TEXT, DELTA, STOP],
        [START, OPEN, TEXT, CLOSE, CLOSE, DELTA, STOP],
        [START, OPEN, TEXT, CLOSE, OPEN, CLOSE, DELTA, STOP],
        [START, OPEN | {"index": 1}, CLOSE | {"index": 1}, DELTA, STOP],
        [START, OPEN | {"index": False}, TEXT, CLOSE, DELTA, STOP],
        [START, OPEN | {"content_block": "Hi"}, CLOSE, DELTA, STOP],
        [START, OPEN, TEXT | {"delta": "Hi"}, CLOSE, DELTA, STOP],
        [START, OPEN, TEXT | {"index": "0"}, CLOSE, DELTA, STOP],
        [START, OPEN, _delta(type="text_delta", text=4), CLOSE, DELTA, STOP],
        [START, OPEN, _delta(type="text_delta"), CLOSE, DELTA, STOP],
        [START, OPEN, _delta(type="input_json_delta", partial_json="{}"), CLOSE, DELTA, STOP],
        [START, OPEN, _delta(type="signature_delta", signature="s"), CLOSE, DELTA, STOP],
        [START, OPEN | {"content_block": {"type": "text", "text": 1}}, TEXT, CLOSE, DELTA, STOP],
        [
            START,
            OPEN | {"content_block": {"type": "text", "text": "", "citations": "c"}},
            _delta(type="citations_delta", citation={}),
            CLOSE,
            DELTA,
            STOP,
        ],
        [
            START,
            OPEN | {"content_block": {"type": "tool_use", "input": {"a": 1}}},
            _delta(type="input_json_delta", partial_json='{"b": 2}'),
            CLOSE,
            DELTA,
            STOP,
        ],
        [START, OPEN, TEXT, CLOSE, DELTA | {"delta": None}, STOP],
        [START, OPEN, TEXT, CLOSE, DELTA, STOP, STOP],
    ],
    ids=[
        "end alone",
        "no start",
        "two starts",
        "start without a message",
        "start with content",
        "delta of no block",
        "delta of a closed block",
        "block closed twice",
        "block of the same index",
        "block ahead of its index",
        "index of false",
        "block that is a text",
        "delta that is a text",
        "index that is a text",
        "text that is a number",
        "delta without its text",
        "input for a text",
        "signature for a text",
        "text that begins as a number",
        "citations that begin as a text",
        "input that comes twice",
        "change into nothing",
        "two ends",
    ],
)
def test_stream_not_understood(events: list[Mapping[str, object]]) -> None:
    """A stream whose events do not make a message is refused."""
    assert Reason.ANSWER_NOT_UNDERSTOOD == _refusal(Mode.STREAM, _stream(*events))


@pytest.mark.parametrize(
    "frame",
    [encode("hello", "x"), encode("[]", "x"), encode("{}", "x"), encode('{"type": "x"}'), encode('{"type": "x"}', "y")],
    ids=["no JSON", "no object", "no type", "no name", "another name"],
)
def test_event_not_understood(frame: bytes) -> None:
    """An event must be what its name says: clients go by one, we by the other."""
    body = _stream(START, OPEN, TEXT, CLOSE) + frame + _stream(DELTA, STOP)
    assert Reason.ANSWER_NOT_UNDERSTOOD == _refusal(Mode.STREAM, body)


def test_what_clients_do_not_see() -> None:
    """Comments, events without data and repeated stop reasons do not matter; an error event without data does."""
    again = {"type": "message_delta", "delta": {"stop_reason": None}, "usage": None}
    good = _stream(START, OPEN, TEXT, CLOSE, DELTA, DELTA, again)
    settle(Mode.STREAM, b": hi\n\nevent: x\n\n" + good + _stream(STOP))
    assert Reason.IN_BAND_ERROR == _refusal(Mode.STREAM, good + b"event: error\n\n" + _stream(STOP))


def test_line_over_the_limit() -> None:
    """A stream with a line over the limit is refused."""
    with pytest.raises(DialectError) as caught:
        settle(Mode.STREAM, KEPT_STREAMS["text"], dialect=AnthropicMessages(sse_line_bytes_max=60))
    assert Reason.ANSWER_NOT_UNDERSTOOD == caught.value.reason


def test_count_is_kept() -> None:
    """A count of tokens is collected, kept, and replayed to the byte whatever the rule wishes."""
    counting = AnthropicCountTokens()
    asked = counting.read({"messages": [{"role": "user", "content": "Why?"}]}, raw=b"", head=HEAD)
    capture = counting.capture(asked, answer_head(JSON_TYPE))
    assert _feed(capture, [b'{"input_', b'tokens":14}'])
    answer = captured(capture.mode, capture.body())
    assert answer is counting.settle(asked, answer, tool_calls=False)
    replay = counting.replay(asked, [answer])
    assert replay is not None
    assert (JSON_TYPE, b'{"input_tokens":14}') == (replay.content_type, replay.body)


def test_count_as_a_stream() -> None:
    """A count of tokens does not come as a stream."""
    with pytest.raises(DialectError) as caught:
        AnthropicCountTokens().capture(question(), answer_head(STREAM_TYPE))
    assert Reason.CONTENT_TYPE == caught.value.reason


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (REFUSED_JSON["error"], Reason.IN_BAND_ERROR),
        (b"{}", Reason.ANSWER_NOT_UNDERSTOOD),
        (b'{"input_tokens":null}', Reason.ANSWER_NOT_UNDERSTOOD),
        (b'{"input_tokens":true}', Reason.ANSWER_NOT_UNDERSTOOD),
        (b'{"input_tokens":"14"}', Reason.ANSWER_NOT_UNDERSTOOD),
        (b"14", Reason.ANSWER_NOT_UNDERSTOOD),
    ],
    ids=["error", "empty", "null", "true", "text", "number"],
)
def test_no_count(body: bytes, reason: Reason) -> None:
    """What is not a count is not kept."""
    with pytest.raises(DialectError) as caught:
        AnthropicCountTokens().settle(question(), captured(Mode.JSON, body), tool_calls=True)
    assert reason == caught.value.reason
