"""Gemini: how answers are collected, which may be kept, and with what word the others are refused."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable

import pytest

from ai_cache_extproc.dialects.base import Capture
from ai_cache_extproc.dialects.framing.json_array import EndScanner
from ai_cache_extproc.dialects.framing.sse import encode
from ai_cache_extproc.dialects.gemini import Gemini
from ai_cache_extproc.dialects.gemini_count_tokens import GeminiCountTokens
from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.model import Mode, Reason, ResponseHead
from tests.support.gemini_answers import (
    DIALECT,
    KEPT,
    REFUSED,
    TYPES,
    answer_head,
    captured,
    head,
    named,
    question,
    settle,
)

REASONS = {
    "max_tokens": Reason.FINISH_REASON,
    "safety": Reason.FINISH_REASON,
    "recitation": Reason.FINISH_REASON,
    "malformed_function_call": Reason.FINISH_REASON,
    "other": Reason.FINISH_REASON,
    "finish_reason_unspecified": Reason.FINISH_REASON,
    "unsaid": Reason.FINISH_REASON,
    "blocked": Reason.FINISH_REASON,
    "no_candidates": Reason.EMPTY_ANSWER,
    "empty": Reason.EMPTY_ANSWER,
    "no_content": Reason.EMPTY_ANSWER,
    "thoughts_alone": Reason.EMPTY_ANSWER,
    "error": Reason.IN_BAND_ERROR,
    "error_event": Reason.IN_BAND_ERROR,
    "one_of_two": Reason.CUT,
    "half_an_event": Reason.CUT,
    "goes_on": Reason.ANSWER_NOT_UNDERSTOOD,
}
UNFINISHED = {"no_finish", "one_of_two_finished"}
CALLS = ["function_call", "parallel_function_calls", "parallel_in_one_chunk", "no_arguments"]
STREAMS = [(mode, name) for mode, name in named(KEPT) if mode is not Mode.JSON]
SEEDS = range(20)


def _refusal(mode: Mode, body: bytes, *, name: str = "", tool_calls: bool = True) -> str:
    with pytest.raises(DialectError) as caught:
        settle(mode, body, name=name, tool_calls=tool_calls)
    return caught.value.reason


def _capture(mode: Mode) -> Capture:
    return DIALECT.capture(question(mode), answer_head(mode))


def _feed(capture: Capture, chunks: Iterable[bytes], *, ends: bool = True) -> bool:
    """Feed an answer; whether it was whole at the last chunk."""
    pieces = list(chunks)
    return [capture.feed(piece, end_of_stream=ends and at == len(pieces) - 1) for at, piece in enumerate(pieces)][-1]


def _chunks(mode: Mode, body: bytes) -> list[bytes]:
    """The chunks of a stream as Google sends them, one after the other."""
    if mode is Mode.ARRAY:
        first, *rest = body.split(b"\n,\n")
        return [first, *(b"\n,\n" + chunk for chunk in rest)]
    blank = b"\r\n\r\n" if b"\r\n" in body else b"\n\n"
    return [chunk + blank for chunk in body.split(blank)[:-1]]


def _answer(*parts: object, finish: object = "STOP", **members: object) -> bytes:
    candidate = {"content": {"parts": list(parts)}, "finishReason": finish} | members
    return json.dumps({"candidates": [candidate]}).encode()


@pytest.mark.parametrize(("mode", "name"), named(KEPT))
def test_kept(mode: Mode, name: str) -> None:
    """Every good answer may be kept, in all three modes."""
    settle(mode, KEPT[mode][name], name=name)


@pytest.mark.parametrize(("mode", "name"), named(REFUSED))
def test_refused(mode: Mode, name: str) -> None:
    """Every bad answer is refused with its word, although it ends as a good one does."""
    cut = Reason.FINISH_REASON if mode is Mode.JSON else Reason.CUT
    expected = cut if name in UNFINISHED else REASONS[name]
    assert expected == _refusal(mode, REFUSED[mode][name], name=name)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("mode", TYPES)
def test_calls_not_allowed(mode: Mode, name: str) -> None:
    """Answers that call functions are refused where a rule does not keep them."""
    assert Reason.TOOL_CALLS == _refusal(mode, KEPT[mode][name], tool_calls=False)


@pytest.mark.parametrize("name", ["text", "thoughts", "image"])
@pytest.mark.parametrize("mode", TYPES)
def test_no_calls(mode: Mode, name: str) -> None:
    """Answers without calls are kept where a rule does not keep calls."""
    settle(mode, KEPT[mode][name], tool_calls=False)


@pytest.mark.parametrize(("mode", "name"), named(KEPT))
def test_captured_whole(mode: Mode, name: str) -> None:
    """An answer that arrives at once is captured to the byte, in the mode that it has."""
    body = KEPT[mode][name]
    capture = _capture(mode)
    assert _feed(capture, [body])
    assert (mode, body, TYPES[mode]) == (capture.mode, capture.body(), capture.content_type)


@pytest.mark.parametrize(("mode", "name"), named(KEPT))
def test_captured_byte_by_byte(mode: Mode, name: str) -> None:
    """An answer that arrives byte by byte is captured to the byte."""
    body = KEPT[mode][name]
    capture = _capture(mode)
    assert _feed(capture, (body[at : at + 1] for at in range(len(body))))
    assert (body, len(body)) == (capture.body(), capture.size_bytes)


@pytest.mark.parametrize("seed", SEEDS)
def test_captured_in_any_chunks(seed: int) -> None:
    """An answer split at random is captured to the byte, and may be kept."""
    chance = random.Random(seed)
    for mode, name in named(KEPT):
        body = KEPT[mode][name]
        cuts = sorted(chance.sample(range(len(body)), chance.randint(1, 12)))
        capture = _capture(mode)
        assert _feed(capture, (body[start:end] for start, end in zip([0, *cuts], [*cuts, None], strict=True)))
        settle(capture.mode, capture.body(), name=name)
        assert body == capture.body()


@pytest.mark.parametrize(("mode", "name"), STREAMS)
def test_cut_stream(mode: Mode, name: str) -> None:
    """A stream cut after any of its chunks is not kept, even where the upstream ends it as if it were whole.

    What comes after the last candidate's end is not part of the answer: counts, and the end event of others.
    """
    chunks = _chunks(mode, KEPT[mode][name])
    assert KEPT[mode][name] == b"".join(chunks)
    ended = min(
        at for at, chunk in enumerate(chunks) if chunk.count(b"STOP") and b"STOP" not in b"".join(chunks[at + 1 :])
    )
    for kept in range(1, ended + 1):
        capture = _capture(mode)
        assert (mode is Mode.STREAM) is _feed(capture, chunks[:kept])
        closing = b"\n]" if mode is Mode.ARRAY else b""
        assert Reason.CUT == _refusal(mode, b"".join(chunks[:kept]) + closing, name=name)


@pytest.mark.parametrize(("mode", "name"), STREAMS)
def test_stream_cut_inside_a_chunk(mode: Mode, name: str) -> None:
    """A stream cut anywhere before its last chunk is complete is not kept."""
    body = KEPT[mode][name]
    end = len(b"".join(_chunks(mode, body)[:-1])) if name in {"usage_after_the_end", "done"} else len(body) - 2
    for cut in range(1, end, 7):
        capture = _capture(mode)
        whole = _feed(capture, [body[:cut]])
        assert not (whole and mode is Mode.ARRAY)
        with pytest.raises(DialectError):
            settle(mode, body[:cut], name=name)


@pytest.mark.parametrize(("mode", "name"), STREAMS)
def test_error_after_any_chunk(mode: Mode, name: str) -> None:
    """A stream with an error after any of its chunks is refused, be the rest complete."""
    chunks = _chunks(mode, KEPT[mode][name])
    error = b'{"error": {"code": 503, "status": "UNAVAILABLE"}}'
    for at in range(1, len(chunks) + (mode is Mode.STREAM) - (name == "done")):
        frame = b"data: " + error + b"\n\n" if mode is Mode.STREAM else b"\n,\n" + error
        assert Reason.IN_BAND_ERROR == _refusal(mode, b"".join([*chunks[:at], frame, *chunks[at:]]), name=name)


def test_array_ends_at_its_bracket() -> None:
    """An array is whole at its closing bracket, before the upstream ends the stream; what follows is not part of it."""
    body = KEPT[Mode.ARRAY]["utf8"]
    capture = _capture(Mode.ARRAY)
    assert not _feed(capture, [b"\r\n", body[:-1]], ends=False)
    assert not capture.end()
    assert _feed(capture, [b"]\n"], ends=False)
    assert capture.end()
    assert _feed(capture, [b"[more]"], ends=False)
    assert b"\r\n" + body == capture.body()


def test_events_end_with_the_stream() -> None:
    """Gemini's events have no end event: they are whole where the upstream ends them, also with trailers."""
    capture = _capture(Mode.STREAM)
    assert not _feed(capture, [KEPT[Mode.STREAM]["text"]], ends=False)
    assert capture.end()
    assert KEPT[Mode.STREAM]["text"] == capture.body()


@pytest.mark.parametrize(
    ("asked", "content_type", "mode"),
    [
        (Mode.ARRAY, "text/event-stream", Mode.STREAM),
        (Mode.JSON, "text/event-stream", Mode.STREAM),
        (Mode.STREAM, "application/json", Mode.ARRAY),
    ],
)
def test_answers_in_another_mode(asked: Mode, content_type: str, mode: Mode) -> None:
    """The answer's content type says what it is, whatever was asked for; a stream in JSON is an array."""
    capture = DIALECT.capture(question(asked), ResponseHead(200, {"content-type": content_type}))
    assert mode is capture.mode


def test_other_content_types() -> None:
    """What is neither JSON nor a stream of events is not collected."""
    with pytest.raises(DialectError) as caught:
        DIALECT.capture(question(), ResponseHead(200, {"content-type": "application/x-protobuf"}))
    assert Reason.CONTENT_TYPE == caught.value.reason


@pytest.mark.parametrize(
    "body",
    [b"{}", b" \n", b"[", b'["]"', b'["\\"]"', b'["\\\\\\"]', b'[{"a": "[]"}', b"[[]", b'{"a": []}]', b"[}}"],
    ids=[
        "object",
        "blanks",
        "begun",
        "text",
        "quote",
        "escapes",
        "object in it",
        "array in it",
        "array in object",
        "}}",
    ],
)
def test_arrays_that_do_not_end(body: bytes) -> None:
    """What is not an array, or has not closed every bracket outside of its strings, has no end, in any chunks."""
    for size in (1, 2, 3, len(body)):
        scanner = EndScanner()
        assert {None} == {scanner.feed(body[at : at + size]) for at in range(0, len(body), size)}


@pytest.mark.parametrize(
    "body",
    [b"[]", b'["]"]', b'["\\\\"]', b'[ {"a": ["\\"]"]}, [] ]', b'\n["\\u005d\\\\\\"]"]'],
    ids=["empty", "text", "escape", "nested", "escapes"],
)
def test_arrays_that_end(body: bytes) -> None:
    """An array ends at its closing bracket, however it arrives."""
    for size in (1, 2, 3, len(body)):
        scanner = EndScanner()
        ends = [scanner.feed(body[at : at + size]) for at in range(0, len(body), size)]
        assert {None} >= set(ends[:-1])
        assert len(body) == ends[-1] == scanner.feed(b"]")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"4",
        b'{"candidates": {}}',
        b'{"candidates": ["Hi"]}',
        b'{"candidates": [{"content": "Hi", "finishReason": "STOP"}]}',
        b'{"candidates": [{"content": {"parts": "Hi"}, "finishReason": "STOP"}]}',
        _answer("Hi"),
        _answer({"text": "Hi"}, index="0"),
        _answer({"text": "Hi"}, index=True),
        _answer({"text": "Hi"}, index=-1),
        json.dumps({"candidates": [{"index": 0}, {}]}).encode(),
        KEPT[Mode.JSON]["text"] + b"{}",
        KEPT[Mode.JSON]["text"].replace(b"sky", b"\xff\xfe"),
        b"[" * 100_000,
    ],
    ids=[
        "nothing",
        "HTML",
        "list",
        "number",
        "no list",
        "no objects",
        "text for content",
        "text for parts",
        "text for a part",
        "index in text",
        "index of true",
        "negative index",
        "two of one index",
        "trailing",
        "no UTF-8",
        "deep",
    ],
)
def test_not_understood(body: bytes) -> None:
    """What is not an answer of Gemini is refused, however it is broken and however it came."""
    assert Reason.ANSWER_NOT_UNDERSTOOD == _refusal(Mode.JSON, body)
    if body and body != b"[]":
        good = KEPT[Mode.JSON]["text"]
        assert Reason.ANSWER_NOT_UNDERSTOOD == _refusal(Mode.ARRAY, b"[" + body + b"," + good + b"]")
        assert Reason.ANSWER_NOT_UNDERSTOOD == _refusal(Mode.STREAM, encode(body) + encode(good))


@pytest.mark.parametrize("mode", [Mode.STREAM, Mode.ARRAY])
def test_no_chunks(mode: Mode) -> None:
    """A stream without chunks is empty."""
    bodies = {Mode.ARRAY: b"[]", Mode.STREAM: b": hello\n\n"}
    assert Reason.EMPTY_ANSWER == _refusal(mode, bodies[mode])


@pytest.mark.parametrize("finish", ["stop", "", 1, True, ["STOP"], {"reason": "STOP"}], ids=repr)
def test_finish_of_another_kind(finish: object) -> None:
    """Only the word that is known to be good is good."""
    assert Reason.FINISH_REASON == _refusal(Mode.JSON, _answer({"text": "Hi"}, finish=finish))


@pytest.mark.parametrize(
    "part",
    [{"text": ""}, {"text": None}, {"thoughtSignature": "c2ln"}, {"thought": True}, {"functionCall": None}, {}],
    ids=str,
)
def test_nothing_said(part: dict[str, object]) -> None:
    """A signature, or an empty text, says nothing."""
    assert Reason.EMPTY_ANSWER == _refusal(Mode.JSON, _answer(part))


@pytest.mark.parametrize(
    "part",
    [{"text": " "}, {"inlineData": {}}, {"functionCall": {"name": "f"}}, {"executableCode": {}}, {"new": 1}],
    ids=str,
)
def test_something_said(part: dict[str, object]) -> None:
    """A blank, data, and calls without arguments are answers."""
    settle(Mode.JSON, _answer(part))


def test_line_over_the_limit() -> None:
    """A stream with a line over the limit is refused."""
    with pytest.raises(DialectError) as caught:
        settle(Mode.STREAM, KEPT[Mode.STREAM]["text"], dialect=Gemini(sse_line_bytes_max=60))
    assert Reason.ANSWER_NOT_UNDERSTOOD == caught.value.reason


def test_count_is_kept() -> None:
    """A count of tokens is collected, kept, and replayed to the byte whatever the rule wishes."""
    counting = GeminiCountTokens(sse_line_bytes_max=1024)
    asked = counting.read({"contents": [{}]}, raw=b"", head=head())
    capture = counting.capture(asked, answer_head(Mode.JSON))
    assert _feed(capture, [b'{"total', b'Tokens": 31}'])
    answer = captured(capture.mode, capture.body())
    assert answer is counting.settle(asked, answer, tool_calls=False)
    replay = counting.replay(asked, [answer])
    assert replay is not None
    assert (TYPES[Mode.JSON], b'{"totalTokens": 31}') == (replay.content_type, replay.body)


def test_count_as_a_stream() -> None:
    """A count of tokens does not come as a stream."""
    with pytest.raises(DialectError) as caught:
        GeminiCountTokens(sse_line_bytes_max=1024).capture(question(), answer_head(Mode.STREAM))
    assert Reason.CONTENT_TYPE == caught.value.reason


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"error": {"code": 503}}', Reason.IN_BAND_ERROR),
        (b"{}", Reason.ANSWER_NOT_UNDERSTOOD),
        (b'{"totalTokens": true}', Reason.ANSWER_NOT_UNDERSTOOD),
        (b'{"totalTokens": "31"}', Reason.ANSWER_NOT_UNDERSTOOD),
        (b"[]", Reason.ANSWER_NOT_UNDERSTOOD),
    ],
    ids=["error", "empty", "true", "text", "list"],
)
def test_no_count(body: bytes, reason: Reason) -> None:
    """What is not a count is not kept."""
    with pytest.raises(DialectError) as caught:
        counting = GeminiCountTokens(sse_line_bytes_max=1024)
        counting.settle(question(), captured(Mode.JSON, body), tool_calls=True)
    assert reason == caught.value.reason
