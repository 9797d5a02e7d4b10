"""OpenAI chat: which whole answers may be kept, and with what word the others are refused."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from ai_cache_extproc.dialects.framing.sse import encode
from ai_cache_extproc.dialects.openai_chat import OpenAIChat
from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.model import Mode, Reason
from tests.support.chat_answers import (
    KEPT_JSON,
    KEPT_STREAMS,
    REFUSED_JSON,
    REFUSED_STREAMS,
    question,
    settle,
)

REASONS = {
    "length": Reason.FINISH_REASON,
    "content_filter": Reason.FINISH_REASON,
    "no_finish": Reason.FINISH_REASON,
    "one_of_two_finished": Reason.FINISH_REASON,
    "empty": Reason.EMPTY_ANSWER,
    "error": Reason.IN_BAND_ERROR,
    "error_event": Reason.IN_BAND_ERROR,
    "error_in_choice": Reason.IN_BAND_ERROR,
}
DONE = b"data: [DONE]\n\n"


def _refusal(mode: Mode, body: bytes, *, name: str = "", tool_calls: bool = True) -> str:
    with pytest.raises(DialectError) as caught:
        settle(question(mode, name=name), mode, body, tool_calls=tool_calls)
    return caught.value.reason


def _answer(choices: object, **members: object) -> bytes:
    return json.dumps({"id": "c", "object": "chat.completion", "choices": choices} | members).encode()


def _choice(message: object, finish: object = "stop", index: object = 0) -> dict[str, object]:
    return {"index": index, "message": message, "finish_reason": finish}


def _chunk(delta: object, finish: object = None, index: object = 0) -> bytes:
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    return encode(json.dumps({"id": "c", "object": "chat.completion.chunk", "choices": [choice]}))


@pytest.mark.parametrize("name", KEPT_JSON)
def test_json_kept(name: str) -> None:
    """Every good JSON shape may be kept, in any layout of the JSON."""
    asked = question(Mode.JSON, name=name)
    settle(asked, Mode.JSON, KEPT_JSON[name], tool_calls=True)
    settle(asked, Mode.JSON, json.dumps(json.loads(KEPT_JSON[name])).encode(), tool_calls=True)


@pytest.mark.parametrize("name", KEPT_STREAMS)
def test_stream_kept(name: str) -> None:
    """Every good stream may be kept, also as the answer to a question that asked for JSON."""
    for mode in (Mode.JSON, Mode.STREAM):
        settle(question(mode, name=name), Mode.STREAM, KEPT_STREAMS[name], tool_calls=True)


@pytest.mark.parametrize("name", REFUSED_JSON)
def test_json_refused(name: str) -> None:
    """Every bad JSON shape is refused with its word."""
    assert REASONS[name] == _refusal(Mode.JSON, REFUSED_JSON[name])


@pytest.mark.parametrize("name", REFUSED_STREAMS)
def test_stream_refused(name: str) -> None:
    """Every bad stream is refused with its word, although it ends as a good one does."""
    assert REASONS[name] == _refusal(Mode.STREAM, REFUSED_STREAMS[name], name=name)


@pytest.mark.parametrize("name", ["tool_calls", "parallel_tool_calls", "custom_tool_call", "function_call"])
def test_tool_calls_not_allowed(name: str) -> None:
    """Answers with tool calls, the old kind included, are refused where a rule does not keep them."""
    assert Reason.TOOL_CALLS == _refusal(Mode.JSON, KEPT_JSON[name], tool_calls=False)
    assert Reason.TOOL_CALLS == _refusal(Mode.STREAM, KEPT_STREAMS[name], tool_calls=False)


@pytest.mark.parametrize("name", ["text", "refusal", "reasoning"])
def test_no_tool_calls(name: str) -> None:
    """Answers without tool calls are kept where a rule does not keep tool calls."""
    settle(question(), Mode.JSON, KEPT_JSON[name], tool_calls=False)
    settle(question(), Mode.STREAM, KEPT_STREAMS[name], tool_calls=False)


@pytest.mark.parametrize(
    "said",
    [
        {"reasoning": "Hm."},
        {"reasoning_content": "Hm."},
        {"content": [{"type": "text", "text": "Hi"}]},
        {"content": " "},
    ],
)
def test_something_said(said: Mapping[str, object]) -> None:
    """Reasoning alone, content in parts and a blank are answers."""
    settle(question(), Mode.JSON, _answer([_choice(said)]), tool_calls=True)
    settle(question(), Mode.STREAM, _chunk(said, "stop") + DONE, tool_calls=True)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b'{"choices": [',
        b"[]",
        b"{}",
        b'{"message": "no such model"}',
        _answer({}),
        _answer(None),
        _answer(["hello"]),
        _answer([_choice(None)]),
        _answer([_choice({"content": "a"}, index=None)]),
        _answer([_choice({"content": "a"}, index=True)]),
        _answer([_choice({"content": "a"}, index=-1)]),
        _answer([_choice({"content": "a"}), _choice({"content": "b"})]),
        b"\xef\xbb\xbf" + KEPT_JSON["text"],
        KEPT_JSON["text"] + b"{}",
        b"[" * 100_000,
        KEPT_JSON["text"].replace(b"sky", b"\xff\xfe"),
    ],
)
def test_json_not_understood(body: bytes) -> None:
    """What is not a chat completion is refused, however it is broken."""
    assert Reason.ANSWER_NOT_UNDERSTOOD == _refusal(Mode.JSON, body)


@pytest.mark.parametrize(
    "frames",
    [
        encode("hello"),
        encode("[]"),
        encode("{}"),
        encode('{"choices": {}}'),
        encode('{"choices": [1]}'),
        _chunk("text"),
        _chunk([]),
        _chunk({"content": "a"}, index="0"),
        DONE,
        encode("x\n[DONE]"),
        b"data: [DONE]\ndata: x\n\n",
    ],
)
def test_stream_not_understood(frames: bytes) -> None:
    """A stream with one frame of another kind is refused, be the rest good."""
    good = _chunk({"content": "a"}, "stop")
    assert Reason.ANSWER_NOT_UNDERSTOOD == _refusal(Mode.STREAM, good + frames + good + DONE)


def test_finish_of_another_kind() -> None:
    """Only words that are known to be good are good, and a bad one is not unsaid by a later good one."""
    for finish in ("error", "", None, {"type": "stop"}, ["stop"], 0, False):
        assert Reason.FINISH_REASON == _refusal(Mode.JSON, _answer([_choice({"content": "a"}, finish)]))
    stream = _chunk({"content": "a"}, "length") + _chunk({}, "stop") + DONE
    assert Reason.FINISH_REASON == _refusal(Mode.STREAM, stream)
    stream = _chunk({"content": "a"}, "stop") + _chunk({}, "length") + DONE
    assert Reason.FINISH_REASON == _refusal(Mode.STREAM, stream)


def test_one_bad_choice_of_two() -> None:
    """One bad choice spoils the answer."""
    good = _choice({"content": "a"})
    assert Reason.EMPTY_ANSWER == _refusal(Mode.JSON, _answer([good, _choice({"content": ""}, index=1)]))
    assert Reason.FINISH_REASON == _refusal(Mode.JSON, _answer([good, _choice({"content": "a"}, "length", 1)]))


def test_fewer_choices_than_asked() -> None:
    """An answer with fewer choices than the question asked for is cut."""
    assert Reason.CUT == _refusal(Mode.JSON, KEPT_JSON["text"], name="two")
    assert Reason.CUT == _refusal(Mode.STREAM, KEPT_STREAMS["text"], name="two")
    assert Reason.CUT == _refusal(Mode.JSON, _answer([]))
    assert Reason.CUT == _refusal(Mode.STREAM, encode('{"choices": []}') + DONE)


def test_stream_without_its_end_event() -> None:
    """A stream of good frames that lacks only the end event is cut; one that says it twice is not understood."""
    good = _chunk({"content": "a"}, "stop")
    assert Reason.CUT == _refusal(Mode.STREAM, good)
    assert Reason.CUT == _refusal(Mode.STREAM, b"")
    assert Reason.CUT == _refusal(Mode.STREAM, DONE + good)
    assert Reason.ANSWER_NOT_UNDERSTOOD == _refusal(Mode.STREAM, good + DONE + DONE)


def test_error_of_null() -> None:
    """An error member that is null is no error; one that is empty is."""
    settle(question(), Mode.JSON, _answer([_choice({"content": "a"})], error=None), tool_calls=True)
    assert Reason.IN_BAND_ERROR == _refusal(Mode.JSON, _answer([_choice({"content": "a"})], error={}))


def test_error_event_without_data() -> None:
    """An error event counts even if browsers would not dispatch it."""
    assert Reason.IN_BAND_ERROR == _refusal(Mode.STREAM, _chunk({"content": "a"}, "stop") + b"event: error\n\n" + DONE)


def test_line_over_the_limit() -> None:
    """A stream with a line over the limit is refused."""
    strict = OpenAIChat(sse_line_bytes_max=60)
    with pytest.raises(DialectError) as caught:
        settle(question(Mode.STREAM), Mode.STREAM, KEPT_STREAMS["text"], tool_calls=True, dialect=strict)
    assert Reason.ANSWER_NOT_UNDERSTOOD == caught.value.reason


@pytest.mark.parametrize("name", KEPT_STREAMS)
def test_cut_stream(name: str) -> None:
    """A stream cut anywhere before its end event is complete is refused, even if it were taken for whole."""
    stream, asked = KEPT_STREAMS[name], question(Mode.STREAM, name=name)
    refused = {Reason.CUT, Reason.ANSWER_NOT_UNDERSTOOD}
    near_the_end = len(stream) - len(b"data: [DONE]\r\n\r\n") - 2
    for cut in [*range(0, near_the_end, 13), *range(near_the_end, len(stream))]:
        if stream[:cut].endswith(b"[DONE]\r\n\r"):
            continue
        with pytest.raises(DialectError) as caught:
            settle(asked, Mode.STREAM, stream[:cut], tool_calls=True)
        assert caught.value.reason in refused
