"""Anthropic messages: an entry turned into an answer, in the mode it was captured in and in the other one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import pytest

from ai_cache_extproc.dialects.framing.sse import encode, frames
from ai_cache_extproc.dialects.openai_chat_replay import TURNED_BYTES_MAX
from ai_cache_extproc.model import Mode, Replay
from tests.support import anthropic_sdk as sdk
from tests.support.anthropic_answers import (
    DIALECT,
    JSON_TYPE,
    KEPT_JSON,
    KEPT_STREAMS,
    NOT_TURNED,
    OTHER,
    STREAM_TYPE,
    USAGE,
    captured,
    message,
    question,
    replayed,
    settle,
)

# The SDK's stream helper leaves out what only a beta says beside the end.
MISREAD_BY_THE_SDK = {"context_management"}
TURNED_JSON = sorted(set(KEPT_JSON) - NOT_TURNED)
TURNED_STREAMS = sorted(set(KEPT_STREAMS) - NOT_TURNED)


def _as_stream(body: bytes) -> bytes:
    replay = replayed(Mode.JSON, body, Mode.STREAM)
    assert replay is not None
    assert STREAM_TYPE == replay.content_type
    return replay.body


def _as_json(stream: bytes) -> bytes:
    replay = replayed(Mode.STREAM, stream, Mode.JSON)
    assert replay is not None
    assert JSON_TYPE == replay.content_type
    return replay.body


def _events(stream: bytes) -> list[dict[str, object]]:
    found = frames(stream, 1024 * 1024)
    events = [json.loads(frame.data or b"") for frame in found]
    assert [frame.event for frame in found] == [event["type"] for event in events]
    return events


def _stream(*events: Mapping[str, object]) -> bytes:
    return b"".join(encode(json.dumps(event), str(event["type"])) for event in events)


def _block(start: Mapping[str, object], *deltas: Mapping[str, object]) -> Iterator[dict[str, object]]:
    yield {"type": "content_block_start", "index": 0, "content_block": start}
    for delta in deltas:
        yield {"type": "content_block_delta", "index": 0, "delta": delta}
    yield {"type": "content_block_stop", "index": 0}


def _said(*events: Mapping[str, object], **members: object) -> bytes:
    """A stream of these events between the start of a message, with these members, and its end."""
    start = message(**members) | {"stop_reason": None}
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}}
    return _stream({"type": "message_start", "message": start}, *events, end, {"type": "message_stop"})


@pytest.mark.parametrize("mode", [Mode.JSON, Mode.STREAM])
def test_same_mode(mode: Mode) -> None:
    """A capture of the asked mode is replayed to the byte, with its own content type, whatever else there is."""
    for body in (KEPT_JSON if mode is Mode.JSON else KEPT_STREAMS).values():
        same, other = captured(mode, body), captured(OTHER[mode], b"not looked at")
        for captures in ([same], [same, other], [other, same]):
            assert Replay(same.content_type, body, same) == DIALECT.replay(question(mode), captures)


@pytest.mark.parametrize("name", TURNED_JSON)
def test_json_as_stream(name: str) -> None:
    """A JSON answer replayed as a stream adds up, in the hands of the SDK's stream helper, to the JSON answer."""
    stream = _as_stream(KEPT_JSON[name])
    if name not in MISREAD_BY_THE_SDK:
        assert sdk.message(JSON_TYPE, KEPT_JSON[name]) == sdk.accumulated(STREAM_TYPE, stream)


@pytest.mark.parametrize("name", TURNED_JSON)
def test_json_as_stream_may_be_kept(name: str) -> None:
    """A rebuilt stream passes the judge that captured ones pass, and merges to the answer that it came from."""
    stream = _as_stream(KEPT_JSON[name])
    settle(Mode.STREAM, stream)
    assert json.loads(KEPT_JSON[name]) == json.loads(_as_json(stream))


@pytest.mark.parametrize("name", TURNED_STREAMS)
def test_stream_as_json(name: str) -> None:
    """A stream replayed as JSON is what the SDK's stream helper makes of the stream, and may be kept."""
    body = _as_json(KEPT_STREAMS[name])
    settle(Mode.JSON, body)
    if name not in MISREAD_BY_THE_SDK:
        assert sdk.accumulated(STREAM_TYPE, KEPT_STREAMS[name]) == sdk.message(JSON_TYPE, body)


@pytest.mark.parametrize("name", sorted(set(KEPT_STREAMS) & set(TURNED_JSON)))
def test_stream_and_json_of_onemessage(name: str) -> None:
    """A stream replayed as JSON is the JSON that the API gives for the same message, every member of it."""
    assert json.loads(KEPT_JSON[name]) == json.loads(_as_json(KEPT_STREAMS[name]))


@pytest.mark.parametrize("name", sorted(NOT_TURNED))
def test_not_turned(name: str) -> None:
    """What is of an unknown kind, or lacks usage, is replayed as it came and is a miss for the other mode."""
    if name in KEPT_JSON:
        assert replayed(Mode.JSON, KEPT_JSON[name], Mode.STREAM) is None
    assert (name == "unknown_block") is (replayed(Mode.STREAM, KEPT_STREAMS[name], Mode.JSON) is not None)


def test_order_of_events() -> None:
    """A rebuilt stream has the API's own events in the API's own order."""
    events = _events(_as_stream(KEPT_JSON["thinking_tool"]))
    kinds = [str(event["type"]) for event in events]
    block = ["content_block_start", "content_block_delta", "content_block_delta", "content_block_stop"]
    whole = ["content_block_start", "content_block_stop"]
    assert ["message_start", *block, *whole, *block, "message_delta", "message_stop"] == kinds
    deltas = [delta["type"] for event in events if isinstance(delta := event.get("delta"), dict) and "type" in delta]
    assert ["thinking_delta", "signature_delta", "input_json_delta", "input_json_delta"] == deltas


def test_first_event() -> None:
    """A rebuilt stream begins with a message that has not stopped, said or counted anything, as the API's does."""
    first = _events(_as_stream(KEPT_JSON["cache_usage"]))[0]["message"]
    answer = json.loads(KEPT_JSON["cache_usage"])
    usage = {name: value for name, value in answer["usage"].items() if name != "server_tool_use"}
    nothing: dict[str, object] = {
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "stop_details": None,
        "container": None,
    }
    assert answer | nothing | {"usage": usage | {"output_tokens": 0}} == first


def test_last_change() -> None:
    """The end of a rebuilt stream says why it stopped, and counts all that the API counts there."""
    change = _events(_as_stream(KEPT_JSON["cache_usage"]))[-2]
    assert {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None, "stop_details": None, "container": None},
        "usage": {
            "input_tokens": 3,
            "cache_creation_input_tokens": 120,
            "cache_read_input_tokens": 2048,
            "output_tokens": 15,
            "server_tool_use": None,
        },
    } == change


def test_counts_are_those_of_the_end() -> None:
    """Counts at the end of a stream replace those at its beginning; what the end does not count stays."""
    usage = {"input_tokens": 9, "output_tokens": None, "server_tool_use": {"web_search_requests": 1}}
    end: dict[str, object] = {"type": "message_delta", "delta": {"container": None}, "usage": usage}
    body = _said(*_block({"type": "text", "text": "Hi"}), end, container={"id": "c"}, usage=USAGE | {"speed": "fast"})
    answer = json.loads(_as_json(body))
    assert USAGE | {"speed": "fast"} | usage | {"output_tokens": 2} == answer["usage"]
    assert {"id": "c"} == answer["container"]


def test_required_members() -> None:
    """A stream is a miss for JSON where the message lacks what every message has; a stop sequence may go unsaid."""
    text = list(_block({"type": "text", "text": "Hi"}))
    for name in ("id", "role", "model", "type"):
        start = {key: value for key, value in message(stop_reason=None).items() if key != name}
        change = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": USAGE}
        body = _stream({"type": "message_start", "message": start}, *text, change, {"type": "message_stop"})
        assert replayed(Mode.STREAM, body, Mode.JSON) is None
    start = {key: value for key, value in message(stop_reason=None).items() if key != "stop_sequence"}
    change = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": USAGE}
    body = _stream({"type": "message_start", "message": start}, *text, change, {"type": "message_stop"})
    assert json.loads(_as_json(body))["stop_sequence"] is None


@pytest.mark.parametrize("usage", [None, {}, {"input_tokens": 1}, {"output_tokens": 1}, 4], ids=repr)
def test_no_usage(usage: object) -> None:
    """Without its usage, an answer is a miss for the other mode."""
    answer = json.dumps(message({"type": "text", "text": "Hi"}, usage=usage)).encode()
    assert replayed(Mode.JSON, answer, Mode.STREAM) is None


@pytest.mark.parametrize(
    "block",
    [
        {"type": "text"},
        {"type": "text", "text": "Hi", "citations": "c"},
        {"type": "thinking", "thinking": "Hm."},
        {"type": "thinking", "thinking": None, "signature": "s"},
        {"type": "tool_use", "id": "t", "name": "f"},
        {"type": "tool_use", "id": "t", "name": "f", "input": "{}"},
        {"type": "tool_use", "id": "t", "name": "f", "input": {"n": 123_456_789_012_345_678_901}},
        {"type": "tool_use", "id": "t", "name": "f", "input": {"n": -9_999_999_999_999_999_999}},
        {"type": "text", "text": "Hi", "deep": json.loads("[" * 300 + "]" * 300)},
        {"type": ["text"], "text": "Hi"},
    ],
    ids=[
        "no text",
        "citations of another kind",
        "no signature",
        "no thoughts",
        "no input",
        "input in text",
        "long number",
        "long negative number",
        "deep",
        "no kind",
    ],
)
def test_json_not_split(block: dict[str, object]) -> None:
    """A JSON answer that cannot be written in pieces with certainty is a miss for who asked for a stream."""
    assert replayed(Mode.JSON, json.dumps(message(block)).encode(), Mode.STREAM) is None


@pytest.mark.parametrize(
    ("start", "deltas"),
    [
        (
            {"type": "thinking", "thinking": ""},
            [{"type": "signature_delta", "signature": "a"}, {"type": "signature_delta", "signature": "b"}],
        ),
        (
            {"type": "tool_use", "input": {}},
            [
                {"type": "input_json_delta", "partial_json": '{"n":1234567890'},
                {"type": "input_json_delta", "partial_json": "12345678901}"},
            ],
        ),
        ({"type": "text", "text": ""}, [{"type": "text_delta", "text": "a", "tone": "b"}]),
        ({"type": "text", "text": "", "deep": json.loads("[" * 300 + "]" * 300)}, []),
    ],
    ids=["two signatures", "long number", "a delta that says more", "deep"],
)
def test_stream_not_merged(start: Mapping[str, object], deltas: list[Mapping[str, object]]) -> None:
    """A stream that does not add up with certainty is a miss for who asked for JSON."""
    text = {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": "Hi"}}
    body = _said(*_block(start, *deltas), text, {"type": "content_block_stop", "index": 1})
    settle(Mode.STREAM, body)
    assert replayed(Mode.STREAM, body, Mode.JSON) is None


def test_blocks_that_begin_with_text() -> None:
    """What a block begins with is part of it, and two blocks may be open at a time."""
    first = list(_block({"type": "text", "text": "a"}, {"type": "text_delta", "text": "b"}))
    cited = {"type": "citations_delta", "citation": {"n": 2}}
    second = [event | {"index": 1} for event in _block({"type": "text", "text": "c", "citations": [1]}, cited)]
    mixed = [event for pair in zip(first, second, strict=True) for event in pair]
    content = json.loads(_as_json(_said(*mixed)))["content"]
    assert [{"type": "text", "text": "ab"}, {"type": "text", "text": "c", "citations": [1, {"n": 2}]}] == content


def test_long_texts_in_pieces() -> None:
    """Long texts and inputs travel in lines that fit a buffer of 64 KiB, and arrive unchanged."""
    long = "\0🌍é" * 4_000
    blocks = [
        {"type": "thinking", "thinking": long, "signature": "s"},
        {"type": "text", "text": long},
        {"type": "tool_use", "id": "t", "name": "f", "input": {"long": long}},
    ]
    answer = message(*blocks)
    stream = _as_stream(json.dumps(answer).encode())
    assert max(map(len, stream.splitlines())) < 65_536
    assert answer == json.loads(_as_json(stream))


def test_long_stream_is_not_merged() -> None:
    """A stream over the limit is a miss for a JSON question; one just below it is merged."""
    stream = KEPT_STREAMS["text"]
    for size, answered in ((TURNED_BYTES_MAX, True), (TURNED_BYTES_MAX + 1, False)):
        padding = b":" + b"." * (size - len(stream) - 2) + b"\n"
        assert answered is (replayed(Mode.STREAM, padding + stream, Mode.JSON) is not None)


@pytest.mark.parametrize("mode", [Mode.JSON, Mode.STREAM])
def test_unreadable_entries(mode: Mode) -> None:
    """An entry that cannot be read is a miss for the other mode."""
    for body in (b"{", b"{}", b"data: {}\n\n", b""):
        assert replayed(mode, body, OTHER[mode]) is None
