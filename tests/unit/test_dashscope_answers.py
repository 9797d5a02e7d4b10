"""DashScope: which whole answers may be kept, how one mode becomes the other, and what a rule wants changed."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from ai_cache_extproc.config.rules import Replaying
from ai_cache_extproc.dialects.dashscope import DashScope
from ai_cache_extproc.dialects.framing.sse import frames
from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.model import Mode, Reason
from tests.support.openai_more_answers import DASHSCOPE, case_id, cases

JSON, STREAM = DASHSCOPE.kept[Mode.JSON], DASHSCOPE.kept[Mode.STREAM]
USAGE = {"input_tokens": 1, "output_tokens": 2}
REASONS = {
    "length": Reason.FINISH_REASON,
    "no_finish": Reason.CUT,
    "empty": Reason.EMPTY_ANSWER,
    "empty_parts": Reason.EMPTY_ANSWER,
    "error": Reason.IN_BAND_ERROR,
    "error_event": Reason.IN_BAND_ERROR,
    "error_in_result": Reason.IN_BAND_ERROR,
    "image": Reason.MORE_THAN_TEXT,
    "audio": Reason.MORE_THAN_TEXT,
}


def _refusal(mode: Mode, body: bytes, name: str = "", *, tool_calls: bool = True) -> str:
    with pytest.raises(DialectError) as caught:
        DASHSCOPE.settle(mode, body, name, tool_calls=tool_calls)
    return caught.value.reason


def _message(content: object, finish: object = "stop", **members: object) -> dict[str, object]:
    message = {"role": "assistant", "content": content} | members
    return {"output": {"choices": [{"message": message, "finish_reason": finish}]}, "usage": USAGE, "request_id": "r"}


def _stream(*events: dict[str, object]) -> bytes:
    return b"".join(b"event:result\ndata:" + json.dumps(event).encode() + b"\n\n" for event in events)


def _said(stream: bytes, parameters: Mapping[str, object] | None) -> object:
    """The text of the JSON answer that a stream makes; None where it is a miss."""
    question = DASHSCOPE.question(Mode.JSON, parameters=parameters)
    replay = DASHSCOPE.replay(question, Mode.STREAM, stream)
    return None if replay is None else json.loads(replay.body)["output"]["choices"][0]["message"]["content"]


@pytest.mark.parametrize("case", cases((DASHSCOPE,), "refused"), ids=case_id)
def test_refused(case: tuple[object, Mode, str]) -> None:
    """Every bad shape is refused with its word."""
    _, mode, name = case
    assert REASONS[name] == _refusal(mode, DASHSCOPE.refused[mode][name])


@pytest.mark.parametrize("name", ["length", "error_event"])
def test_bad_end_is_found(name: str) -> None:
    """A stream with a bad end is whole there, so that it is refused with the right word, not as cut."""
    stream = DASHSCOPE.refused[Mode.STREAM][name]
    assert stream == DASHSCOPE.fed(Mode.STREAM, [stream, b"id:9\n"], to_end=False)


def test_one_of_two_finished() -> None:
    """A stream is whole when all choices asked for have ended."""
    stream = STREAM["two_choices_incremental"]
    assert stream == DASHSCOPE.fed(Mode.STREAM, [stream], "two", to_end=False)
    assert DASHSCOPE.fed(Mode.STREAM, [STREAM["message_incremental"]], "two") is None
    assert Reason.CUT == _refusal(Mode.STREAM, STREAM["message_incremental"], "two")
    assert Reason.CUT == _refusal(Mode.JSON, JSON["message"], "two")


def test_finish_inside_a_text() -> None:
    """A text that speaks of a finish, and an event that cannot be read, do not end a stream."""
    spoken = _stream(_message('Say {"finish_reason":"stop"}', "null"), _message("", "null"))
    end = _stream(_message("", "stop"))
    broken = b'data:{"finish_reason":"stop"\n\n' + b'data:{"output":{"finish_reason":"stop","choices":[3]}}\n\n'
    assert spoken + broken + end == DASHSCOPE.fed(Mode.STREAM, [spoken + broken + end], to_end=False)
    assert DASHSCOPE.fed(Mode.STREAM, [spoken + broken]) is None
    assert Reason.ANSWER_NOT_UNDERSTOOD == _refusal(Mode.STREAM, spoken + broken + end)


@pytest.mark.parametrize("name", ["tool_calls", "parallel_tool_calls"])
def test_tool_calls_not_allowed(name: str) -> None:
    """Answers with tool calls are refused where a rule does not keep them."""
    assert Reason.TOOL_CALLS == _refusal(Mode.JSON, JSON[name], tool_calls=False)
    assert Reason.TOOL_CALLS == _refusal(Mode.STREAM, STREAM[f"{name}_incremental"], tool_calls=False)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"{}", id="no output"),
        pytest.param(b'{"output": {"choices": {}}}', id="choices is an object"),
        pytest.param(b'{"output": {"choices": [1]}}', id="choice is a number"),
        pytest.param(b'{"output": {"choices": [{"message": "a"}]}}', id="message is text"),
        pytest.param(b'{"output": {"choices": [{"index": "0"}]}}', id="index is text"),
        pytest.param(b'{"output": {"text": 3, "finish_reason": "stop"}}', id="text is a number"),
        pytest.param(json.dumps(_message([3])).encode(), id="part is a number"),
        pytest.param(json.dumps(_message([{"text": 3}])).encode(), id="text of a part is a number"),
    ],
)
def test_not_understood(body: bytes) -> None:
    """What is no answer of DashScope's is refused, however it is broken."""
    assert Reason.ANSWER_NOT_UNDERSTOOD == _refusal(Mode.JSON, body)


def test_no_choices() -> None:
    """An answer without choices, and a stream without events, are cut."""
    assert Reason.CUT == _refusal(Mode.JSON, b'{"output": {"choices": []}}')
    assert Reason.CUT == _refusal(Mode.STREAM, b":ping\n\n")


def test_line_over_the_limit() -> None:
    """A stream with a line over the limit is refused."""
    strict = DashScope(sse_line_bytes_max=60)
    answer = DASHSCOPE.captured(Mode.STREAM, STREAM["text_incremental"])
    with pytest.raises(DialectError) as caught:
        strict.settle(DASHSCOPE.question(Mode.STREAM), answer, tool_calls=True)
    assert Reason.ANSWER_NOT_UNDERSTOOD == caught.value.reason


# Turned.

ASKED_SO_FAR, ASKED_NEW, NOT_ASKED = {"incremental_output": False}, {"incremental_output": True}, None


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        pytest.param(["a", "b", ""], ("ab", "ab", "ab"), id="an end that says nothing"),
        pytest.param(["a", "b"], ("ab", "ab", "ab"), id="texts that do not grow"),
        pytest.param(["abc"], ("abc", "abc", "abc"), id="one event"),
        pytest.param(["", "abc"], ("abc", "abc", "abc"), id="one text"),
        pytest.param(["a", "ab", "abc"], ("abc", None, "abc"), id="three that grow"),
        pytest.param(["a", "ab"], ("ab", None, None), id="two that grow"),
        pytest.param(["ab", "ab"], ("ab", None, None), id="the same twice"),
        pytest.param(["ab", "ab", ""], ("abab", "abab", "abab"), id="the same twice, and an end"),
    ],
)
def test_all_so_far_or_what_is_new(texts: list[str], expected: tuple[str | None, ...]) -> None:
    """What an event says is told by the request and the texts; where they do not tell, or contradict, it is a miss."""
    events = [_message(text, "null") for text in texts[:-1]] + [_message(texts[-1])]
    stream = _stream(*events)
    found = tuple(_said(stream, asked) for asked in (ASKED_SO_FAR, ASKED_NEW, NOT_ASKED))
    assert expected == found


def test_one_event_where_each_says_all_so_far() -> None:
    """By default the whole answer is one event, which is right whatever a client takes it for."""
    stream = DASHSCOPE.turned(Mode.STREAM, JSON["message"])
    assert stream is not None
    (frame,) = frames(stream, 1024 * 1024)
    assert stream.startswith(b"id:1\nevent:result\n:HTTP_STATUS/200\ndata:{")
    assert ("result", json.loads(JSON["message"])) == (frame.event, json.loads(frame.data or b""))


def test_events_where_each_says_what_is_new() -> None:
    """Reasoning before text, calls last, the finish by itself; usage and request id in every event."""
    answer = _message("🌍" * 5_000, reasoning_content="Hm.", tool_calls=[{"index": 0, "id": "1"}], extra=1)
    stream = DASHSCOPE.turned(Mode.STREAM, json.dumps(answer).encode(), "incremental")
    assert stream is not None
    events = [json.loads(frame.data or b"") for frame in frames(stream, 1024 * 1024)]
    choices = [event["output"]["choices"][0] for event in events]
    blank = {"role": "assistant", "content": ""}
    assert [
        blank | {"reasoning_content": "Hm."},
        blank | {"content": "🌍" * 4096},
        blank | {"content": "🌍" * 904},
        blank | {"tool_calls": [{"index": 0, "id": "1"}]},
        blank | {"extra": 1},
    ] == [choice["message"] for choice in choices]
    assert ["null"] * 4 + ["stop"] == [choice["finish_reason"] for choice in choices]
    assert {("r", json.dumps(USAGE))} == {(event["request_id"], json.dumps(event["usage"])) for event in events}


@pytest.mark.parametrize(
    "content",
    [
        pytest.param([{"text": "a"}, {"box": [1]}], id="a part is no text"),
        pytest.param([{"text": "a", "ocr_result": []}], id="a part is more than text"),
    ],
)
def test_parts_in_pieces(content: object) -> None:
    """Parts that are more than text travel whole, or not at all."""
    body = json.dumps(_message(content)).encode()
    assert DASHSCOPE.turned(Mode.STREAM, body, "cumulative") is not None
    assert DASHSCOPE.turned(Mode.STREAM, body, "incremental") is None
    stream = _stream(_message(content, "null"), _message([], "stop"))
    assert DASHSCOPE.turned(Mode.JSON, stream, "incremental") is None


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"output": {"choices": []}}', id="no choice"),
        pytest.param(json.dumps(_message("a", reasoning_content=["b"])).encode(), id="reasoning in parts"),
        pytest.param(json.dumps(_message("a", deep=json.loads("[" * 300 + "]" * 300))).encode(), id="too deep"),
    ],
)
def test_not_split(body: bytes) -> None:
    """A JSON answer that cannot be written in pieces is a miss for who asked for a stream."""
    assert DASHSCOPE.turned(Mode.STREAM, body, "incremental") is None


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"usage": None}, id="no usage"),
        pytest.param({"request_id": None}, id="no request id"),
        pytest.param({"request_id": "other"}, id="two request ids"),
    ],
)
def test_not_merged(change: dict[str, object]) -> None:
    """A stream that lacks what a JSON answer always has, or contradicts itself, is a miss."""
    first = _message("a", "null") | ({} if change == {"request_id": "other"} else change)
    stream = _stream(first, _message("b", "stop") | change)
    assert DASHSCOPE.turned(Mode.JSON, stream, "incremental") is None


def test_long_stream_is_not_merged() -> None:
    """A stream over 256 KiB is a miss for a JSON question; one just below it is merged."""
    stream = STREAM["message_incremental"]
    for size, answered in ((256 * 1024, True), (256 * 1024 + 1, False)):
        padding = b":" + b"." * (size - len(stream) - 2) + b"\n"
        assert answered is (DASHSCOPE.turned(Mode.JSON, padding + stream, "incremental") is not None)


def test_events_without_choices() -> None:
    """An event that brings only the usage adds up like the others."""
    usage = {"output": {"choices": []}, "usage": USAGE | {"output_tokens": 9}, "request_id": "r"}
    stream = _stream(_message("a", "null"), usage, _message("b", "null"), _message("", "stop"))
    replay = DASHSCOPE.turned(Mode.JSON, stream, "incremental")
    assert replay is not None
    assert _message("ab") == json.loads(replay)


# Wishes.


@pytest.mark.parametrize("asked", [Mode.JSON, Mode.STREAM])
@pytest.mark.parametrize("came", [Mode.JSON, Mode.STREAM])
def test_wishes(came: Mode, asked: Mode) -> None:
    """Zero usage and a fresh request id in every event, whichever mode came; nothing else is changed, ids of events neither."""
    body = JSON["reasoning"] if came is Mode.JSON else STREAM["reasoning_incremental"]
    question = DASHSCOPE.question(asked, "reasoning_incremental")
    plain = DASHSCOPE.replay(question, came, body)
    replay = DASHSCOPE.replay(question, came, body, Replaying(usage="zero", ids="fresh"))
    assert plain is not None
    assert replay is not None
    expected = plain.body.replace(b"902fee3b-f7f0-9a8c-96a1-6b4ea25af114", b"00010203-0405-4607-8809-0a0b0c0d0e0f")
    before, after = [_objects(asked, each) for each in (expected, replay.body)]
    assert [one | {"usage": _zero(one["usage"])} for one in before] == after
    if asked is Mode.STREAM:
        beside = [[line for line in each.body.splitlines() if b"data:" not in line] for each in (plain, replay)]
        assert beside[0] == beside[1]


def _objects(mode: Mode, body: bytes) -> list[dict[str, object]]:
    payloads = [body] if mode is Mode.JSON else [frame.data or b"" for frame in frames(body, 1024 * 1024)]
    return [json.loads(payload) for payload in payloads]


def _zero(usage: object) -> object:
    return {name: _zero(value) for name, value in usage.items()} if isinstance(usage, dict) else 0


def test_one_wish() -> None:
    """Either wish alone leaves the other's members alone."""
    question, body = DASHSCOPE.question(Mode.STREAM), STREAM["text_incremental"]
    zero = DASHSCOPE.replay(question, Mode.STREAM, body, Replaying(usage="zero"))
    fresh = DASHSCOPE.replay(question, Mode.STREAM, body, Replaying(ids="fresh"))
    assert zero is not None
    assert fresh is not None
    assert (b"902fee3b" in zero.body, b'"total_tokens":27' in zero.body) == (True, False)
    assert (b"902fee3b" in fresh.body, b'"total_tokens":27' in fresh.body) == (False, True)
