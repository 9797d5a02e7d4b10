"""Captures: what makes an answer whole, and what never does."""

from __future__ import annotations

import pytest

from ai_cache_extproc.dialects.base import Capture
from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.model import Mode, Reason
from tests.support.chat_answers import DIALECT, JSON_TYPE, KEPT_JSON, KEPT_STREAMS, STREAM_TYPE, answer_head, question

BODY = KEPT_JSON["text"]


@pytest.mark.parametrize(
    ("content_type", "mode"),
    [
        ("application/json", Mode.JSON),
        ("Application/JSON; charset=utf-8", Mode.JSON),
        ("application/vnd.api+json", Mode.JSON),
        ("text/event-stream", Mode.STREAM),
        ("text/event-stream;charset=UTF-8", Mode.STREAM),
    ],
)
def test_mode_by_content_type(content_type: str, mode: Mode) -> None:
    """The answer's own content type says how it travels; it is kept as it came."""
    capture = DIALECT.capture(question(), answer_head(content_type))
    assert (mode, content_type, 0) == (capture.mode, capture.content_type, capture.size_bytes)


@pytest.mark.parametrize(
    "content_type", ["", "text/html", "application/x-ndjson", "text/json-stream", "application/grpc"]
)
def test_other_content_types(content_type: str) -> None:
    """What is neither JSON nor an event stream is not collected."""
    with pytest.raises(DialectError) as caught:
        DIALECT.capture(question(), answer_head(content_type))
    assert Reason.CONTENT_TYPE == caught.value.reason


def _json(length: str | None = None) -> Capture:
    headers = {} if length is None else {"content_length": length}
    return DIALECT.capture(question(), answer_head(JSON_TYPE, **headers))


def test_json_without_length() -> None:
    """A JSON answer of unknown length is whole at the end of the stream and not before."""
    capture = _json()
    assert not capture.feed(BODY[:9], end_of_stream=False)
    assert not capture.feed(BODY[9:], end_of_stream=False)
    assert capture.feed(b"", end_of_stream=True)
    assert (BODY, len(BODY)) == (capture.body(), capture.size_bytes)


def test_json_ends_at_trailers() -> None:
    """Trailers make a JSON answer whole."""
    capture = _json()
    assert not capture.feed(BODY, end_of_stream=False)
    assert capture.end()


def test_json_length_reached() -> None:
    """A JSON answer is whole at its declared length, whether or not the stream has ended."""
    for end_of_stream in (False, True):
        capture = _json(str(len(BODY)))
        assert not capture.feed(BODY[:-1], end_of_stream=False)
        assert capture.feed(BODY[-1:], end_of_stream=end_of_stream)
        assert BODY == capture.body()


def test_json_shorter_than_declared() -> None:
    """A JSON answer that ends short of its declared length is never whole."""
    capture = _json(str(len(BODY)))
    assert not capture.feed(BODY[:-1], end_of_stream=True)
    assert not capture.end()


@pytest.mark.parametrize("length", ["3", "-1", "nine", "9, 9", "9.0", "", "9" * 5000])
def test_json_longer_than_declared_or_unclear(length: str) -> None:
    """A JSON answer that is longer than declared, or of no clear length, is never whole."""
    capture = _json(length)
    assert not capture.feed(b'{"a":1} ', end_of_stream=False)
    assert not capture.feed(b" ", end_of_stream=True)
    assert not capture.end()


def test_json_cut_after_every_byte() -> None:
    """A cut JSON answer is never both whole and good, with and without a declared length."""
    trials = 0
    for name, body in KEPT_JSON.items():
        for cut in range(len(body.rstrip())):
            declared = _json(str(len(body)))
            assert not declared.feed(body[:cut], end_of_stream=True), name
            undeclared = _json()
            assert not undeclared.feed(body[:cut], end_of_stream=False), name
            assert undeclared.end()
            trials += 2
    assert trials > 1_000


@pytest.mark.parametrize("name", KEPT_STREAMS)
def test_stream_whole_and_byte_by_byte(name: str) -> None:
    """A stream is whole with the last byte of its end event, whether it comes at once or byte by byte."""
    stream = KEPT_STREAMS[name]
    # A lone CR might be half of a line end; only the end of the stream tells.
    known_early = not stream.endswith(b"\r")
    for size in (len(stream), 1):
        capture = DIALECT.capture(question(), answer_head(STREAM_TYPE))
        chunks = [stream[start : start + size] for start in range(0, len(stream), size)]
        seen = [capture.feed(chunk, end_of_stream=False) for chunk in chunks]
        assert [*[False] * (len(chunks) - 1), known_early] == seen
        assert capture.feed(b"", end_of_stream=True)
        assert (stream, len(stream)) == (capture.body(), capture.size_bytes)


def test_stream_ends_on_its_last_frame() -> None:
    """The end of the stream may come with the last frame, or as trailers behind it."""
    stream = KEPT_STREAMS["cr"]
    with_eos = DIALECT.capture(question(), answer_head(STREAM_TYPE))
    assert with_eos.feed(stream, end_of_stream=True)
    with_trailers = DIALECT.capture(question(), answer_head(STREAM_TYPE))
    assert not with_trailers.feed(stream, end_of_stream=False)
    assert with_trailers.end()


def test_stream_bytes_after_the_end() -> None:
    """What follows the end event is not part of the answer, in the same chunk and in later ones."""
    stream = KEPT_STREAMS["text"]
    capture = DIALECT.capture(question(), answer_head(STREAM_TYPE))
    assert capture.feed(stream + b": bye\n\n", end_of_stream=False)
    assert capture.feed(b": bye\n\n", end_of_stream=True)
    assert stream == capture.body()


def test_stream_cut_after_every_byte() -> None:
    """A stream cut after any of its bytes is never whole, whatever is said of its end."""
    trials = 0
    for name, stream in KEPT_STREAMS.items():
        capture = DIALECT.capture(question(), answer_head(STREAM_TYPE))
        for cut in range(len(stream)):
            ended = DIALECT.capture(question(), answer_head(STREAM_TYPE))
            # After CR LF CR only the LF of a blank line is missing: a client reads the end event as complete.
            complete = stream[:cut].endswith(b"[DONE]\r\n\r")
            assert complete == ended.feed(stream[:cut], end_of_stream=True), (name, cut)
            assert not capture.feed(stream[cut - 1 : cut], end_of_stream=False), (name, cut)
            trials += 2
    assert trials > 1_000
