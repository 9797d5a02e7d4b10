"""OpenAI responses: which whole answers may be kept, the events of a replay, and what a rule wants changed."""

from __future__ import annotations

import json

import pytest

from ai_cache_extproc.config.rules import Replaying
from ai_cache_extproc.dialects.framing.sse import encode, frames
from ai_cache_extproc.dialects.openai_responses import OpenAIResponses
from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.model import Mode, Reason
from tests.support.openai_more_answers import NOW_S, RESPONSES, Asked, case_id, cases

JSON, STREAM = RESPONSES.kept[Mode.JSON], RESPONSES.kept[Mode.STREAM]
REASONS = {
    "incomplete": Reason.FINISH_REASON,
    "content_filter": Reason.FINISH_REASON,
    "in_progress": Reason.FINISH_REASON,
    "item_incomplete": Reason.FINISH_REASON,
    "failed": Reason.IN_BAND_ERROR,
    "error": Reason.IN_BAND_ERROR,
    "error_event": Reason.IN_BAND_ERROR,
    "empty": Reason.EMPTY_ANSWER,
    "only_reasoning": Reason.EMPTY_ANSWER,
    "hosted_tool": Reason.ANSWER_NOT_UNDERSTOOD,
}
BOTH = Replaying(usage="zero", ids="fresh")
ID = "resp_" + bytes(range(24)).hex()
MESSAGE = {"type": "message", "id": "m", "role": "assistant"}
TEXT = MESSAGE | {"content": [{"type": "output_text", "text": "Hi"}]}


def _refusal(mode: Mode, body: bytes, *, tool_calls: bool = True) -> str:
    with pytest.raises(DialectError) as caught:
        RESPONSES.settle(mode, body, tool_calls=tool_calls)
    return caught.value.reason


def _response(*output: object, **members: object) -> bytes:
    return json.dumps({"id": "r", "object": "response", "status": "completed", "output": output} | members).encode()


def _events(stream: bytes) -> list[dict[str, object]]:
    found = frames(stream, 1024 * 1024)
    events = [json.loads(frame.data or b"") for frame in found]
    assert [frame.event for frame in found] == [event["type"] for event in events]
    return events


def _split(body: bytes) -> bytes | None:
    return RESPONSES.turned(Mode.STREAM, body)


@pytest.mark.parametrize("case", cases((RESPONSES,), "refused"), ids=case_id)
def test_refused(case: tuple[object, Mode, str]) -> None:
    """Every bad shape is refused with its word."""
    _, mode, name = case
    assert REASONS[name] == _refusal(mode, RESPONSES.refused[mode][name])


@pytest.mark.parametrize("name", ["incomplete", "failed"])
def test_bad_end_is_found(name: str) -> None:
    """A stream with a bad end is whole there, so that it is refused with the right word, not as cut."""
    stream = RESPONSES.refused[Mode.STREAM][name]
    assert stream == RESPONSES.fed(Mode.STREAM, [stream, b": more\n\n"], to_end=False)


@pytest.mark.parametrize("name", ["tool_calls", "parallel_tool_calls", "custom_tool_call"])
@pytest.mark.parametrize("mode", [Mode.JSON, Mode.STREAM])
def test_tool_calls_not_allowed(mode: Mode, name: str) -> None:
    """Answers with tool calls are refused where a rule does not keep them."""
    assert Reason.TOOL_CALLS == _refusal(mode, RESPONSES.kept[mode][name], tool_calls=False)


@pytest.mark.parametrize("name", ["text", "reasoning", "refusal"])
@pytest.mark.parametrize("mode", [Mode.JSON, Mode.STREAM])
def test_no_tool_calls(mode: Mode, name: str) -> None:
    """Answers without tool calls are kept where a rule does not keep tool calls."""
    RESPONSES.settle(mode, RESPONSES.kept[mode][name], tool_calls=False)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"<html>", id="not JSON"),
        pytest.param(b"{}", id="no response"),
        pytest.param(_response(TEXT, object="chat.completion"), id="another object"),
        pytest.param(_response("text"), id="item is text"),
        pytest.param(_response(TEXT, output=None), id="no output"),
        pytest.param(_response(TEXT, {"type": ["message"]}), id="type is a list"),
        pytest.param(_response(MESSAGE | {"content": "Hi"}), id="content is text"),
        pytest.param(_response(MESSAGE | {"content": ["Hi"]}), id="part is text"),
    ],
)
def test_not_understood(body: bytes) -> None:
    """What is no response is refused, however it is broken."""
    assert Reason.ANSWER_NOT_UNDERSTOOD == _refusal(Mode.JSON, body)


@pytest.mark.parametrize("status", [None, "failed", "cancelled", "queued", ["completed"], True])
def test_statuses(status: object) -> None:
    """Only a completed response is good."""
    assert Reason.FINISH_REASON == _refusal(Mode.JSON, _response(TEXT, status=status))


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        pytest.param(b"data: {}\n\n", Reason.ANSWER_NOT_UNDERSTOOD, id="no type"),
        pytest.param(b"data: [DONE]\n\n", Reason.ANSWER_NOT_UNDERSTOOD, id="no object"),
        pytest.param(b"event: response.created\n\n", Reason.ANSWER_NOT_UNDERSTOOD, id="no data"),
        pytest.param(encode('{"type":"a"}', "b"), Reason.ANSWER_NOT_UNDERSTOOD, id="two types"),
        pytest.param(encode('{"type":"response.completed"}'), Reason.ANSWER_NOT_UNDERSTOOD, id="no response"),
        pytest.param(encode('{"type":"error"}', "error"), Reason.IN_BAND_ERROR, id="error"),
        pytest.param(encode('{"type":"response.failed"}'), Reason.IN_BAND_ERROR, id="failed"),
        pytest.param(encode('{"type":"response.incomplete"}'), Reason.FINISH_REASON, id="incomplete"),
    ],
)
def test_bad_event(event: bytes, reason: Reason) -> None:
    """A stream with one bad event is refused, be the rest good."""
    assert reason == _refusal(Mode.STREAM, event + STREAM["text"])


def test_error_in_a_completed_response() -> None:
    """An error counts in whatever holds it."""
    failed = b'{"type":"response.completed","response":' + _response(TEXT, error={"code": "x"}) + b"}"
    assert Reason.IN_BAND_ERROR == _refusal(Mode.STREAM, encode(failed, "response.completed"))


def test_event_after_the_end() -> None:
    """Nothing follows the end event."""
    assert Reason.ANSWER_NOT_UNDERSTOOD == _refusal(Mode.STREAM, STREAM["text"] + STREAM["text"])
    assert Reason.CUT == _refusal(Mode.STREAM, b"")


def test_line_over_the_limit() -> None:
    """A stream with a line over the limit is refused."""
    strict = OpenAIResponses(sse_line_bytes_max=60)
    with pytest.raises(DialectError) as caught:
        strict.settle(RESPONSES.question(Mode.STREAM), RESPONSES.captured(Mode.STREAM, STREAM["text"]), tool_calls=True)
    assert Reason.ANSWER_NOT_UNDERSTOOD == caught.value.reason


# Turned.


@pytest.mark.parametrize("name", JSON)
def test_events_as_openai_sends_them(name: str) -> None:
    """A JSON answer makes the events that OpenAI streams it with, in its order, but for how many pieces a text has."""
    stream = _split(JSON[name])
    assert stream is not None
    assert _kinds(_events(STREAM[name])) == _kinds(_events(stream))


def _kinds(events: list[dict[str, object]]) -> list[tuple[object, ...]]:
    """Types, places and members of events; of several pieces only the first."""
    found: list[tuple[object, ...]] = []
    for event in events:
        place = (
            event.get("output_index"),
            event.get("content_index"),
            event.get("summary_index"),
            event.get("item_id"),
        )
        kind = (event["type"], *place, *sorted(event))
        if found[-1:] != [kind]:
            found.append(kind)
    return found


def test_opening_events() -> None:
    """What is announced has said nothing yet: no output, no usage, no text."""
    stream = _split(JSON["tool_calls"])
    assert stream is not None
    created, in_progress, added, *_, completed = _events(stream)
    whole = json.loads(JSON["tool_calls"])
    begun = whole | {"status": "in_progress", "output": [], "usage": None, "completed_at": None}
    assert begun == created["response"] == in_progress["response"]
    assert whole["output"][0] | {"status": "in_progress", "arguments": ""} == added["item"]
    assert whole == completed["response"]


def test_long_text_in_pieces() -> None:
    """A long text comes in several pieces, its log probabilities with the first."""
    part = {"type": "output_text", "text": "🌍" * 10_000, "annotations": [], "logprobs": [{"token": "🌍"}]}
    stream = _split(_response(MESSAGE | {"content": [part]}))
    assert stream is not None
    first, *others = [event for event in _events(stream) if event["type"] == "response.output_text.delta"]
    assert "🌍" * 10_000 == "".join(str(event["delta"]) for event in (first, *others))
    assert part["logprobs"] == first["logprobs"]
    assert [[]] == [*{str(event["logprobs"]): event["logprobs"] for event in others}.values()]


@pytest.mark.parametrize(
    "item",
    [
        pytest.param({"type": "function_call", "name": "f", "arguments": "{}"}, id="no id"),
        pytest.param({"type": "function_call", "id": "f", "name": "f"}, id="no arguments"),
        pytest.param(MESSAGE | {"content": [{"type": "audio", "data": "x"}]}, id="unknown part"),
        pytest.param(MESSAGE | {"content": [{"type": "refusal", "refusal": None}]}, id="refusal of null"),
        pytest.param(
            {"type": "reasoning", "id": "r", "summary": [{"type": "text", "text": "a"}]}, id="unknown summary"
        ),
        pytest.param({"type": "web_search_call", "id": "w"}, id="unknown item"),
        pytest.param(TEXT | {"deep": json.loads("[" * 300 + "]" * 300)}, id="too deep"),
    ],
)
def test_not_split(item: dict[str, object]) -> None:
    """A response for a part of which there are no events is a miss for who asked for a stream."""
    assert _split(_response(item)) is None


def test_end_event_named_late() -> None:
    """A stream whose end event names itself behind its data is whole, and turned or a miss."""
    last = b'data: {"type":"response.completed","response":' + _response(TEXT) + b"}\nevent: response.completed\n\n"
    assert last == RESPONSES.fed(Mode.STREAM, [last], to_end=False)
    RESPONSES.settle(Mode.STREAM, last)
    assert RESPONSES.turned(Mode.JSON, last) is None
    assert RESPONSES.turned(Mode.JSON, b"") is None


# Wishes.


@pytest.mark.parametrize("asked", [Mode.JSON, Mode.STREAM])
@pytest.mark.parametrize("came", [Mode.JSON, Mode.STREAM])
def test_wishes(came: Mode, asked: Mode) -> None:
    """Zero usage and fresh ids, whichever mode came: in every event that holds the response, and nothing else."""
    question = RESPONSES.question(asked)
    plain = RESPONSES.replay(question, came, RESPONSES.kept[came]["reasoning"])
    replay = RESPONSES.replay(question, came, RESPONSES.kept[came]["reasoning"], BOTH)
    assert plain is not None
    assert replay is not None
    if asked is Mode.JSON:
        assert _wished(json.loads(plain.body)) == json.loads(replay.body)
        return
    expected = [
        event | ({"response": _wished(event["response"])} if "response" in event else {})
        for event in _events(plain.body)
    ]
    assert expected == _events(replay.body)


def _wished(response: object) -> dict[str, object]:
    assert isinstance(response, dict)
    now_s = int(NOW_S)
    wished = response | {"id": ID, "created_at": now_s}
    if response["completed_at"]:
        wished["completed_at"] = now_s
    if response["usage"]:
        wished["usage"] = {
            "input_tokens": 0,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": 0,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 0,
        }
    return wished


@pytest.mark.parametrize("store", [False, None])
@pytest.mark.parametrize("mode", [Mode.JSON, Mode.STREAM])
def test_fresh_ids_only_where_nothing_is_stored(mode: Mode, store: bool | None) -> None:
    """Who did not say `store: false` may build on the id, so it is the one that the upstream knows, or a miss."""
    body: dict[str, object] = {"input": "Why?", "stream": mode is Mode.STREAM}
    question = RESPONSES.read(Asked("/v1/responses", body | ({} if store is None else {"store": store})))
    answer = RESPONSES.kept[mode]["text"]
    assert (store is False) is (RESPONSES.replay(question, mode, answer, BOTH) is not None)
    zero = RESPONSES.replay(question, mode, answer, Replaying(usage="zero"))
    assert zero is not None
    assert b"resp_67ccd2bed1ec8190" in zero.body
    assert RESPONSES.replay(question, mode, answer) is not None


def test_usage_of_hosted_tools() -> None:
    """What hosted tools count is zero too; objects of another kind are left alone."""
    body = _response(TEXT, usage={"input_tokens": 1}, tool_usage={"web_search": {"num_requests": 2}})
    replay = RESPONSES.replay(RESPONSES.question(Mode.JSON), Mode.JSON, body, Replaying(usage="zero"))
    assert replay is not None
    answer = json.loads(replay.body)
    assert ({"input_tokens": 0}, {"web_search": {"num_requests": 0}}) == (answer["usage"], answer["tool_usage"])
    other = RESPONSES.replay(RESPONSES.question(Mode.JSON), Mode.JSON, b'{"usage": {"a": 1}}', Replaying(usage="zero"))
    assert other is not None
    assert b'{"usage": {"a": 1}}' == other.body
