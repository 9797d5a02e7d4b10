"""Ollama: lines, which whole answers may be kept, how one mode becomes the other, and what a rule wants changed."""

from __future__ import annotations

import json
import re

import pytest

from ai_cache_extproc.config.rules import Replaying
from ai_cache_extproc.dialects.framing import ndjson
from ai_cache_extproc.dialects.ollama import Ollama
from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.model import Mode, Reason, ResponseHead
from tests.support.openai_more_answers import OLLAMA, case_id, cases

JSON, STREAM = OLLAMA.kept[Mode.JSON], OLLAMA.kept[Mode.STREAM]
REASONS = {
    "length": Reason.FINISH_REASON,
    "load": Reason.FINISH_REASON,
    "unload": Reason.FINISH_REASON,
    "no_reason": Reason.FINISH_REASON,
    "empty": Reason.EMPTY_ANSWER,
    "error": Reason.IN_BAND_ERROR,
    "not_done": Reason.CUT,
}
NOW = "2027-01-15T08:00:00.250000Z"


def _refusal(mode: Mode, body: bytes, *, tool_calls: bool = True) -> str:
    with pytest.raises(DialectError) as caught:
        OLLAMA.settle(mode, body, tool_calls=tool_calls)
    return caught.value.reason


def _lines(*lines: dict[str, object]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def _objects(body: bytes) -> list[dict[str, object]]:
    return [json.loads(line) for line in body.splitlines()]


def _chat(content: object, **members: object) -> dict[str, object]:
    return {"model": "m", "message": {"role": "assistant", "content": content}, "done": False} | members


END: dict[str, object] = {"done": True, "done_reason": "stop"}


# Lines.


def test_lines() -> None:
    """Lines end with LF or CR LF, blank ones are nothing, and the last may lack its end."""
    assert [b"{}", b"[1]", b"2"] == ndjson.lines(b"{}\r\n\n \n[1]\n2", 100)
    assert [] == ndjson.lines(b"\n\r\n", 100)
    assert b"{}\n" == ndjson.encode(b"{}")


def test_line_over_the_limit() -> None:
    """A longer line is refused, and one of just that length is not."""
    assert [b"x" * 60] == ndjson.lines(b"x" * 60 + b"\r\n", 60)
    with pytest.raises(DialectError) as caught:
        ndjson.lines(b"x" * 61, 60)
    assert Reason.ANSWER_NOT_UNDERSTOOD == caught.value.reason
    strict = Ollama(line_bytes_max=60)
    with pytest.raises(DialectError):
        strict.settle(OLLAMA.question(Mode.STREAM), OLLAMA.captured(Mode.STREAM, STREAM["chat"]), tool_calls=True)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_scanner(size: int) -> None:
    """The end is that of the first line that says so and is what it seems, in chunks of any size."""
    scanner = ndjson.LineScanner(re.compile(b"end"), lambda line: line.startswith(b"end"))
    text = b"one\nthe end?\n\nend!\r\nmore\nend\n"
    ends = [scanner.feed(text[at : at + size]) for at in range(0, len(text), size)]
    assert {None, 20} >= set(ends)
    assert 20 == ends[-1] == scanner.end
    assert 20 == scanner.feed(b"end\n", end_of_stream=True)


def test_scanner_at_the_end_of_the_stream() -> None:
    """The last line may lack its line end where the stream ends; any other is not whole."""
    for text, end in ((b"one\nend", 7), (b"one\nend?", None), (b"", None)):
        scanner = ndjson.LineScanner(re.compile(b"end"), lambda line: line == b"end")
        assert scanner.feed(text) is None
        assert end == scanner.feed(b"", end_of_stream=True)


@pytest.mark.parametrize(
    "content_type", ["application/x-ndjson", "Application/NDJSON; charset=utf-8", "application/jsonl"]
)
def test_content_types_of_lines(content_type: str) -> None:
    """Lines go by several names."""
    capture = OLLAMA.dialect.capture(OLLAMA.question(Mode.STREAM), ResponseHead(200, {"content-type": content_type}))
    assert (Mode.STREAM, content_type) == (capture.mode, capture.content_type)
    assert capture.feed(STREAM["chat"], end_of_stream=False)
    assert (len(STREAM["chat"]), STREAM["chat"]) == (capture.size_bytes, capture.body())
    assert capture.end()


def test_done_inside_a_call() -> None:
    """Arguments and texts that speak of the end do not end a stream; a line that cannot be read does not either."""
    call = {"function": {"name": "f", "arguments": {"done": True, "error": "none"}}}
    message = {"role": "assistant", "content": '{"done":true}', "tool_calls": [call]}
    spoken = _lines({"message": message, "done": False}) + b'{"done":true\n[{"done":true}]\n'
    assert OLLAMA.fed(Mode.STREAM, [spoken]) is None
    assert spoken + _lines(END) == OLLAMA.fed(Mode.STREAM, [spoken + _lines(END)])


def test_error_is_the_end() -> None:
    """A stream that breaks off with an error is whole there, so that it is refused with the right word, not as cut."""
    stream = OLLAMA.refused[Mode.STREAM]["error"]
    assert stream == OLLAMA.fed(Mode.STREAM, [stream], to_end=False)


# Judged.


@pytest.mark.parametrize("case", cases((OLLAMA,), "refused"), ids=case_id)
def test_refused(case: tuple[object, Mode, str]) -> None:
    """Every bad shape is refused with its word."""
    _, mode, name = case
    assert REASONS[name] == _refusal(mode, OLLAMA.refused[mode][name])


@pytest.mark.parametrize("name", ["tool_calls_chat", "parallel_tool_calls_chat"])
@pytest.mark.parametrize("mode", [Mode.JSON, Mode.STREAM])
def test_tool_calls_not_allowed(mode: Mode, name: str) -> None:
    """Answers with tool calls are refused where a rule does not keep them; others are kept."""
    assert Reason.TOOL_CALLS == _refusal(mode, OLLAMA.kept[mode][name], tool_calls=False)
    OLLAMA.settle(mode, OLLAMA.kept[mode]["thinking_chat"], tool_calls=False)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"<html>", id="not JSON"),
        pytest.param(b"[]", id="no object"),
        pytest.param(json.dumps(END).encode(), id="nothing said"),
        pytest.param(json.dumps(END | {"response": 3}).encode(), id="response is a number"),
        pytest.param(json.dumps(END | {"message": "Hi", "response": "Hi"}).encode(), id="message is text"),
    ],
)
def test_not_understood(body: bytes) -> None:
    """What is no answer of Ollama's is refused, however it is broken."""
    assert Reason.ANSWER_NOT_UNDERSTOOD == _refusal(Mode.JSON, body)


def test_line_after_the_last() -> None:
    """Nothing follows the line that says it is done; a stream without lines is cut."""
    assert Reason.ANSWER_NOT_UNDERSTOOD == _refusal(Mode.STREAM, STREAM["chat"] + STREAM["chat"])
    assert Reason.CUT == _refusal(Mode.STREAM, b"\n")


@pytest.mark.parametrize("reason", [None, "", "stopped", ["stop"], True])
def test_reasons(reason: object) -> None:
    """Only `stop` is a good reason to end."""
    assert Reason.FINISH_REASON == _refusal(Mode.JSON, json.dumps(_chat("Hi", done=True, done_reason=reason)).encode())


# Turned.


def test_chat_in_lines() -> None:
    """Thoughts, text with its log probabilities, calls, and a last line with all the rest."""
    message = {"role": "assistant", "content": "Hi", "thinking": "Hm.", "tool_calls": [{"function": {"name": "f"}}]}
    head: dict[str, object] = {"model": "m", "created_at": "2025"}
    answer = head | {"message": message, "logprobs": [1]} | END | {"eval_count": 3, "eval_duration": 9}
    stream = OLLAMA.turned(Mode.STREAM, json.dumps(answer).encode())
    assert stream is not None
    blank = {"role": "assistant", "content": ""}
    assert [
        head | {"message": blank | {"thinking": "Hm."}, "done": False},
        head | {"message": blank | {"content": "Hi"}, "done": False, "logprobs": [1]},
        head | {"message": blank | {"tool_calls": [{"function": {"name": "f"}}]}, "done": False},
        head | {"message": blank} | END | {"eval_count": 3, "eval_duration": 9},
    ] == _objects(stream)


def test_generated_text_in_lines() -> None:
    """The same for a generated text, whose context stands in the last line."""
    stream = OLLAMA.turned(Mode.STREAM, JSON["thinking_generate"], "generate")
    assert stream is not None
    whole = json.loads(JSON["thinking_generate"])
    head = {name: whole[name] for name in ("model", "created_at")}
    assert [
        head | {"response": "", "thinking": "Hm. 8 > 1.", "done": False},
        head | {"response": "9.8", "done": False},
        {name: value for name, value in whole.items() if name != "thinking"} | {"response": ""},
    ] == _objects(stream)


def test_logprobs_without_text() -> None:
    """Log probabilities stay with the last line where there is no text."""
    message = {"role": "assistant", "content": "", "thinking": "Hm."}
    stream = OLLAMA.turned(Mode.STREAM, json.dumps({"message": message, "logprobs": [1]} | END).encode())
    assert stream is not None
    assert [False, True] == ["logprobs" in line for line in _objects(stream)]


def test_long_text_in_pieces() -> None:
    """Long texts travel in lines that fit a buffer of 64 KiB, and arrive unchanged."""
    answer = _chat("\0🌍é" * 10_000) | END
    stream = OLLAMA.turned(Mode.STREAM, json.dumps(answer).encode())
    assert stream is not None
    assert max(map(len, stream.splitlines())) < 65_536
    back = OLLAMA.turned(Mode.JSON, stream)
    assert back is not None
    assert answer == json.loads(back)


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([_chat("a", model="n"), _chat("b") | END], id="two models"),
        pytest.param([_chat("a"), _chat(["b"]) | END], id="a text goes on as a list"),
        pytest.param([_chat("a", context=[1]), _chat("b", context=[2]) | END], id="two contexts"),
    ],
)
def test_not_merged(lines: list[dict[str, object]]) -> None:
    """Lines that contradict each other are a miss for a JSON question."""
    assert OLLAMA.turned(Mode.JSON, _lines(*lines)) is None


@pytest.mark.parametrize(
    "message",
    [
        pytest.param({"content": ["a"]}, id="content is a list"),
        pytest.param({"content": "a", "deep": json.loads("[" * 300 + "]" * 300)}, id="too deep"),
    ],
)
def test_not_split(message: object) -> None:
    """A JSON answer that cannot be written in lines is a miss for who asked for them."""
    assert OLLAMA.turned(Mode.STREAM, json.dumps({"message": message} | END).encode()) is None


def test_long_stream_is_not_merged() -> None:
    """A stream over 256 KiB is a miss for a JSON question; one just below it is merged."""
    for size, answered in ((256 * 1024, True), (256 * 1024 + 1, False)):
        padding = b"\n" * (size - len(STREAM["chat"]))
        assert answered is (OLLAMA.turned(Mode.JSON, padding + STREAM["chat"]) is not None)


# Wishes.


@pytest.mark.parametrize("name", ["thinking_chat", "generate"])
@pytest.mark.parametrize("asked", [Mode.JSON, Mode.STREAM])
@pytest.mark.parametrize("came", [Mode.JSON, Mode.STREAM])
def test_wishes(came: Mode, asked: Mode, name: str) -> None:
    """Counts of 0 and the time now in every line, whichever mode came; durations stay, and there is no id."""
    question, body = OLLAMA.question(asked, name), OLLAMA.kept[came][name]
    plain = OLLAMA.replay(question, came, body)
    replay = OLLAMA.replay(question, came, body, Replaying(usage="zero", ids="fresh"))
    assert plain is not None
    assert replay is not None
    zero = {"prompt_eval_count": 0, "eval_count": 0}
    expected = [line | {"created_at": NOW} | (zero if line["done"] else {}) for line in _objects(plain.body)]
    assert expected == _objects(replay.body)


def test_one_wish() -> None:
    """Either wish alone leaves the other's members alone; lines that do not change stay as they are."""
    question = OLLAMA.question(Mode.STREAM)
    zero = OLLAMA.replay(question, Mode.STREAM, STREAM["chat"], Replaying(usage="zero"))
    fresh = OLLAMA.replay(question, Mode.STREAM, STREAM["chat"], Replaying(ids="fresh"))
    assert zero is not None
    assert fresh is not None
    assert STREAM["chat"].splitlines()[:-1] == zero.body.splitlines()[:-1]
    assert b'"eval_count":282' in fresh.body


def test_long_stream_is_not_changed() -> None:
    """A stream over 512 KiB is a miss where it would have to be changed."""
    stream = b"\n" * 512 * 1024 + STREAM["chat"]
    assert OLLAMA.replay(OLLAMA.question(Mode.STREAM), Mode.STREAM, stream) is not None
    assert OLLAMA.replay(OLLAMA.question(Mode.STREAM), Mode.STREAM, stream, Replaying(usage="zero")) is None
