"""The template dialect: which requests are questions, which answers are text and nothing else, and what is kept."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest

from ai_cache_extproc.config.template import Template
from ai_cache_extproc.dialects.template import TemplateDialect
from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.model import Captured, Mode, Question, RequestHead, ResponseHead

DIALECT = TemplateDialect(Template(), sse_line_bytes_max=1024 * 1024)
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "First?"},
    {"role": "assistant", "content": "Yes."},
    {"role": "user", "content": "Last?"},
]
ROLE = {"choices": [{"index": 0, "delta": {"role": "assistant"}}]}
STOP = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
HEAD = RequestHead("POST", "/", "api", {})
DONE = b"data: [DONE]\n\n"


def dialect(**settings: Any) -> TemplateDialect:
    """A dialect of a template with these settings."""
    return TemplateDialect(Template(**settings), sse_line_bytes_max=1024)


def read(body: object, asked: TemplateDialect = DIALECT) -> Question:
    """Read a body as the exchange does; text goes as it is written."""
    raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    return asked.read(orjson.loads(raw), raw=raw, head=HEAD)


def said(text: str | None, **members: Any) -> dict[str, Any]:
    """One event that says a piece of text."""
    return {"choices": [{"index": 0, "delta": {"content": text} | members}]}


def stream(*events: object, end: bytes = DONE) -> bytes:
    """Events as a stream."""
    frames = [b"data: " + json.dumps(event).encode() + b"\n\n" for event in events]
    return b"".join((*frames, end))


def answer(content: object = "Text.", *, finish: str | None = "stop", **members: Any) -> bytes:
    """A JSON answer of the usual shape."""
    message = {"role": "assistant", "content": content} | members
    return json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": finish}]}).encode()


def kept(body: bytes, mode: Mode = Mode.JSON, asked: TemplateDialect = DIALECT) -> str:
    """The text that is kept of an answer."""
    captured = Captured(mode, "application/json", body, created_s=1, expires_s=2, elapsed_s=3)
    settled = asked.settle(read({"messages": MESSAGES}), captured, tool_calls=True)
    assert (Mode.TEXT, 1, 2, 3) == (settled.mode, settled.created_s, settled.expires_s, settled.elapsed_s)
    return settled.body.decode()


def refused(body: bytes, mode: Mode = Mode.JSON, asked: TemplateDialect = DIALECT) -> str:
    """Why an answer is not kept."""
    with pytest.raises(DialectError) as error:
        kept(body, mode, asked)
    return error.value.reason


QUESTION = read({"messages": MESSAGES})


# Questions.


def test_the_last_question() -> None:
    """By default the content of the last message is the question."""
    question = read({"model": "m", "messages": MESSAGES})
    assert ("Last?", "m", Mode.JSON) == (question.text, question.model, question.mode)


def test_all_questions() -> None:
    """`all` joins what the user said, a line each; what is no text stands there as it was written."""
    body = '{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":[1, 2]}]}'
    assert "a\n[1, 2]" == read(body, dialect(question="all")).text


def test_content_that_is_no_text_is_taken_as_it_is_written() -> None:
    """An array is a question too: its JSON, blanks and order included."""
    body = '{"messages":[{"role":"user","content":[ {"type":"text","text":"a"} ]}]}'
    assert '[ {"type":"text","text":"a"} ]' == read(body).text


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("messages.0.content", "Be brief."),
        ("messages.#.content", '["Be brief.", "First?", "Yes.", "Last?"]'),
        ('messages.#(role=="user")#.content', '["First?","Last?"]'),
        ("$.messages[1].content", "First?"),
    ],
)
def test_any_path_may_lead_to_the_question(path: str, text: str) -> None:
    """GJSON and JSONPath both."""
    found = read({"messages": MESSAGES}, dialect(question_path=path)).text
    assert text.replace(" ", "") == found.replace(" ", "")


@pytest.mark.parametrize(
    "body",
    [{}, {"messages": []}, {"messages": [{"content": ""}]}, {"messages": [{"content": None}]}, {"prompt": "a"}],
    ids=json.dumps,
)
def test_without_a_question_there_is_a_bypass(body: object) -> None:
    """Nothing where the rule looks, or nothing in it."""
    with pytest.raises(DialectError, match="no question") as error:
        read(body)
    assert "not_understood" == error.value.reason


@pytest.mark.parametrize("body", [{}, {"messages": 1}, {"messages": [1, {"role": "assistant"}]}], ids=json.dumps)
def test_without_a_user_there_is_a_bypass(body: object) -> None:
    """The same for all questions."""
    with pytest.raises(DialectError, match="no question"):
        read(body, dialect(question="all"))


def test_half_a_surrogate_pair_is_a_bypass() -> None:
    """What JSON can spell and UTF-8 cannot is no key."""
    with pytest.raises(DialectError, match="no question"):
        DIALECT.read({"messages": [{"content": "\ud800"}]}, raw=b'{"messages":[{"content":"\\ud800"}]}', head=HEAD)


@pytest.mark.parametrize(
    ("value", "mode"),
    [
        (True, Mode.STREAM), (1, Mode.STREAM), ("true", Mode.STREAM), ("1", Mode.STREAM), ("T", Mode.STREAM),
        (False, Mode.JSON), (0, Mode.JSON), ("yes", Mode.JSON), (None, Mode.JSON), ([], Mode.JSON), ({}, Mode.JSON),
    ],
    ids=repr,
)  # fmt: skip
def test_stream_is_read_as_the_plugin_reads_it(value: object, mode: Mode) -> None:
    """True, numbers and the words that Go takes for true ask for a stream."""
    assert mode is read({"messages": MESSAGES, "stream": value}).mode


def test_a_model_that_is_no_text_is_none() -> None:
    """The model only stands in logs."""
    assert "" == read({"model": 4, "messages": MESSAGES}).model


# JSON answers.


def test_the_text_of_an_answer() -> None:
    """What stands at the path is kept, and nothing else."""
    assert 'Say "hi"\n' == kept(answer('Say "hi"\n'))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param(b"not JSON", "answer_not_understood", id="not JSON"),
        pytest.param(b"[]", "answer_not_understood", id="no object"),
        pytest.param(b'{"error": {"message": "no"}}', "in_band_error", id="error"),
        pytest.param(b'{"choices": []}', "finish_reason", id="no choice"),
        pytest.param(answer(finish="length"), "finish_reason", id="length"),
        pytest.param(answer(finish=None), "finish_reason", id="no finish"),
        pytest.param(answer(""), "empty_answer", id="empty"),
        pytest.param(answer(" \n"), "empty_answer", id="blank"),
        pytest.param(answer(None), "empty_answer", id="null"),
        pytest.param(answer(tool_calls=[{"id": "1"}]), "tool_calls", id="tool calls"),
        pytest.param(answer(function_call={"name": "f"}), "tool_calls", id="function call"),
        pytest.param(answer(reasoning_content="Hm."), "more_than_text", id="reasoning"),
        pytest.param(answer(refusal="No."), "more_than_text", id="refusal"),
        pytest.param(answer([{"type": "text", "text": "a"}]), "more_than_text", id="parts"),
        pytest.param(
            b'{"choices":[{"message":{"content":"a"},"finish_reason":"stop"},{"message":{"content":"b"}}]}',
            "more_than_text",
            id="two choices",
        ),
        pytest.param(
            b'{"choices":[{"message":{"content":"a"},"finish_reason":"stop","logprobs":{"content":[1]}}]}',
            "more_than_text",
            id="log probabilities",
        ),
        pytest.param(
            b'{"choices":[{"message":{"content":"\\ud800"},"finish_reason":"stop"}]}',
            "answer_not_understood",
            id="surrogate",
        ),
    ],
)
def test_an_answer_that_is_more_or_less_than_text(body: bytes, reason: str) -> None:
    """Only a whole text that ended by itself is kept."""
    assert reason == refused(body)


def test_another_shape_needs_only_its_path() -> None:
    """An API without choices says nothing about why it ended; its JSON is whole by its length."""
    other = dialect(answer_path="output.text")
    assert "a" == kept(b'{"output": {"text": "a"}}', asked=other)
    assert "empty_answer" == refused(b'{"output": {}}', asked=other)


def test_choices_further_down_are_watched_too() -> None:
    """DashScope's choices stand in `output`."""
    other = dialect(answer_path="output.choices.0.message.content")
    good = b'{"output": {"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}]}}'
    assert "a" == kept(good, asked=other)
    assert "finish_reason" == refused(good.replace(b"stop", b"length"), asked=other)


# Streams.


@pytest.mark.parametrize(
    ("events", "text"),
    [
        pytest.param([ROLE, said("a"), said("b"), STOP], "ab", id="role first"),
        pytest.param([{"choices": []}, said("a"), STOP], "a", id="Azure's empty choices"),
        pytest.param([said(""), said(None), said("a"), STOP, {"choices": [], "usage": {}}], "a", id="empty deltas"),
        pytest.param([said("a"), {"choices": [{"index": 0, "delta": {"content": "b"}, "finish_reason": "stop"}]}], "ab", id="stop with text"),
    ],
)  # fmt: skip
def test_the_text_of_a_stream(events: list[object], text: str) -> None:
    """Pieces are joined; events without any are no fault."""
    assert text == kept(stream(*events), Mode.STREAM)


def test_comments_crlf_and_keep_alives() -> None:
    """What a stream may hold besides events is passed over."""
    body = stream(said("é"), STOP).replace(b"\n", b"\r\n")
    assert "é" == kept(b": hello\r\n\r\n" + body + b": bye\r\n\r\n", Mode.STREAM)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param(stream(said("a")), "cut", id="no finish"),
        pytest.param(stream(said("a"), end=b""), "cut", id="cut"),
        pytest.param(stream(said("a"), STOP)[:-20], "cut", id="cut before the end"),
        pytest.param(
            stream(said("a"), {"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]}), "finish_reason", id="length"
        ),
        pytest.param(stream(STOP), "empty_answer", id="empty"),
        pytest.param(stream(said("a"), {"error": {"code": 500}}), "in_band_error", id="error"),
        pytest.param(b"event: error\ndata: {}\n\n" + DONE, "in_band_error", id="error event"),
        pytest.param(stream(said("a", tool_calls=[{"index": 0}]), STOP), "tool_calls", id="tool calls"),
        pytest.param(stream(said("a", reasoning_content="Hm."), STOP), "more_than_text", id="reasoning"),
        pytest.param(
            stream(said("a"), {"choices": [{"index": 1, "delta": {"content": "b"}}]}, STOP), "more_than_text", id="two choices"
        ),
        pytest.param(b"data: {\n\n" + DONE, "answer_not_understood", id="not JSON"),
    ],
)  # fmt: skip
def test_a_stream_that_is_more_or_less_than_text(body: bytes, reason: str) -> None:
    """Only a whole text that ended by itself is kept."""
    assert reason == refused(body, Mode.STREAM)


def test_a_stream_of_another_shape_needs_its_end() -> None:
    """Without choices only the end event tells that a stream was whole."""
    other = dialect(stream_path="text")
    assert "ab" == kept(stream({"text": "a"}, {"text": "b"}), Mode.STREAM, other)
    assert "cut" == refused(stream({"text": "a"}, end=b""), Mode.STREAM, other)


def test_a_finish_ends_a_stream_without_an_end_event() -> None:
    """Where the choice said `stop`, nothing of the text can be lacking."""
    assert "a" == kept(stream(said("a"), STOP, end=b""), Mode.STREAM)


# Capturing and replaying.


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_a_capture_is_whole_at_its_end(size: int) -> None:
    """However a stream is cut into chunks, it is whole at its end event, or where the upstream ends it."""
    head = ResponseHead(200, {"content-type": "text/event-stream"})
    for body in (stream(said("é"), STOP), stream(said("é"), STOP, end=b"")):
        capture = DIALECT.capture(QUESTION, head)
        chunks = [body[start : start + size] for start in range(0, len(body), size)]
        early = [capture.feed(chunk, end_of_stream=False) for chunk in chunks[:-1]]
        assert not any(early[:-2])
        assert capture.feed(chunks[-1], end_of_stream=True)
        assert "é" == kept(capture.body(), Mode.STREAM)


def test_trailers_end_a_stream_too() -> None:
    """Response trailers stand where the end of the stream would be told."""
    capture = DIALECT.capture(QUESTION, ResponseHead(200, {"content-type": "text/event-stream"}))
    capture.feed(stream(said("a"), STOP, end=b""), end_of_stream=False)
    assert capture.end()


def test_json_is_captured_by_its_length() -> None:
    """JSON is captured as in every dialect, and anything else is refused."""
    capture = DIALECT.capture(QUESTION, ResponseHead(200, {"content-type": "application/json", "content-length": "2"}))
    assert capture.feed(b"{}", end_of_stream=False)
    with pytest.raises(DialectError):
        DIALECT.capture(QUESTION, ResponseHead(200, {"content-type": "text/html"}))


@pytest.mark.parametrize("streamed", [False, True], ids=["JSON", "stream"])
def test_one_text_serves_both_modes(streamed: bool) -> None:
    """A kept text is an answer in whichever mode is asked."""
    text = Captured(Mode.TEXT, "text/plain", b"Hi", created_s=1, expires_s=2, elapsed_s=3)
    replay = DIALECT.replay(read({"messages": MESSAGES, "stream": streamed}), [text])
    assert replay is not None
    assert (b"data:" in replay.body, "event-stream" in replay.content_type) == (streamed, streamed)
    assert b"Hi" in replay.body


def test_other_captures_are_no_answer() -> None:
    """An entry that another rule wrote is a miss here."""
    other = Captured(Mode.JSON, "application/json", b"{}", created_s=1, expires_s=2, elapsed_s=3)
    assert DIALECT.replay(read({"messages": MESSAGES}), [other]) is None
