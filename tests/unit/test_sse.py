"""Server-sent events: frames as WHATWG HTML says, and the end of a stream found while it passes."""

from __future__ import annotations

import pytest

from ai_cache_extproc.dialects.framing.sse import EndEvent, EndScanner, Frame, FrameDecoder, encode, frames
from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.model import Reason

DONE = EndEvent("data", "[DONE]")
MESSAGE_STOP = EndEvent("event", "message_stop")


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: a\n\n", [Frame("", b"a")]),
        (b"data:a\r\rdata:  b\r\r", [Frame("", b"a"), Frame("", b" b")]),
        (b"event: e\r\ndata: a\rdata\ndata: b\r\n\n", [Frame("e", b"a\n\nb")]),
        (b"\xef\xbb\xbfdata: a\n\n", [Frame("", b"a")]),
        (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [Frame("", b"a")]),
        (b": note\n\n:\n\nid: 1\nretry: 5\nunknown: x\n\n", []),
        (b"event: error\n\ndata: a\n\n", [Frame("error", None), Frame("", b"a")]),
        (b"data:\n\n", [Frame("", b"")]),
        (b"data: a\n", []),
        (b"data: a\n\ndata: b", [Frame("", b"a")]),
        (b"\n\n\r\n", []),
        (b"", []),
    ],
)
def test_frames(stream: bytes, expected: list[Frame]) -> None:
    """Fields, comments, line ends and the byte order mark are read as the standard says."""
    assert expected == frames(stream, 100)


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_frames_byte_by_byte(end: bytes) -> None:
    """A decoder fed single bytes, also inside a character and between CR and LF, gives the same frames."""
    stream = "event: e\ndata: Grüße 🌍\n: c\ndata: x\n\ndata: y\n\n".encode().replace(b"\n", end)
    decoder = FrameDecoder(100)
    found = [frame for byte in stream for frame in decoder.feed(bytes((byte,)))]
    assert [Frame("e", "Grüße 🌍\nx".encode()), Frame("", b"y")] == found
    assert [] == decoder.feed(b"")


@pytest.mark.parametrize("chunk_bytes", [1, 7, 1000])
@pytest.mark.parametrize("end", [b"", b"\n\n"])
def test_line_over_the_limit(chunk_bytes: int, end: bytes) -> None:
    """A line over the limit is refused, whether or not its end has come."""
    stream = b"data: " + b"x" * 95 + end
    chunks = [stream[start : start + chunk_bytes] for start in range(0, len(stream), chunk_bytes)]
    decoder = FrameDecoder(100)
    with pytest.raises(DialectError) as caught:
        list(map(decoder.feed, chunks))
    assert Reason.ANSWER_NOT_UNDERSTOOD == caught.value.reason


def test_line_at_the_limit() -> None:
    """A line of exactly the limit is read."""
    assert [Frame("", b"x" * 94)] == frames(b"data: " + b"x" * 94 + b"\n\n", 100)


@pytest.mark.parametrize(
    ("data", "event", "expected"),
    [
        (b"a", None, b"data: a\n\n"),
        ("ü", "e", "event: e\ndata: ü\n\n".encode()),
        ("a\r\nb\rc\n", None, b"data: a\ndata: b\ndata: c\ndata: \n\n"),
        ("", None, b"data: \n\n"),
    ],
)
def test_encode(data: bytes | str, event: str | None, expected: bytes) -> None:
    """A frame holds one data line for each line of its data."""
    assert expected == encode(data, event)


@pytest.mark.parametrize("line", [b"data: [DONE]", b"data:[DONE]"])
@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\n\n", b"\n\r\n", b"\r\r\n"])
@pytest.mark.parametrize("before", [b"", b"data: {}\n\n", b"data: {}\r\r", b"data: {}\r\n\r\n"])
def test_end_found(line: bytes, end: bytes, before: bytes) -> None:
    """The end event is found with its blank line, wherever the stream is cut in two, and nothing after it counts."""
    whole = before + line + end
    for cut in range(len(whole) + 1):
        scanner = EndScanner(DONE)
        first = scanner.feed(whole[:cut])
        assert (None if cut < len(whole) else len(whole)) == first
        assert len(whole) == scanner.feed(whole[cut:] + b": more\n\n")
        assert len(whole) == scanner.end == scanner.feed(b"data: [DONE]\n\n")


@pytest.mark.parametrize("end", [b"\r\r", b"\n\r", b"\r\n\r"])
def test_end_with_a_cr_that_may_be_half(end: bytes) -> None:
    """A CR at the end of a chunk is decided by the next byte, or by the end of the stream."""
    stream = b"data: [DONE]" + end
    followed = EndScanner(DONE)
    assert followed.feed(stream) is None
    assert len(stream) + 1 == followed.feed(b"\ndata: x")
    alone = EndScanner(DONE)
    assert alone.feed(stream) is None
    assert len(stream) == alone.feed(b"x")
    last = EndScanner(DONE)
    assert len(stream) == last.feed(stream, end_of_stream=True)
    late = EndScanner(DONE)
    assert late.feed(stream) is None
    assert len(stream) == late.feed(b"", end_of_stream=True)


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        b"data: [DONE]",
        b"data: [DONE]\n",
        b"data: [DONE]\r\n",
        b"data: [DONE]\r",
        b" data: [DONE]\n\n",
        b"data:  [DONE]\n\n",
        b"data: [DONE] \n\n",
        b"data: [DONE]x\n\n",
        b"xdata: [DONE]\n\n",
        b"data : [DONE]\n\n",
        b'data: {"content": "data: [DONE]"}\n\n',
        b'data: {"content": "\\ndata: [DONE]\\n\\n"}\n\n',
        b": data: [DONE]\n\n",
        b"[DONE]\n\n",
        b"event: [DONE]\n\n",
    ],
)
def test_no_end(stream: bytes) -> None:
    """Nothing but a whole line with its blank line ends a stream, not even the end of the connection."""
    assert EndScanner(DONE).feed(stream, end_of_stream=True) is None
    scanner = EndScanner(DONE)
    assert [None] * len(stream) == [scanner.feed(bytes((byte,))) for byte in stream]
    assert scanner.feed(b"", end_of_stream=True) is None


def test_end_event_with_further_lines() -> None:
    """An end event told by its name ends at the blank line after its data, fed whole and byte by byte."""
    before = b"event: message_delta\ndata: {}\n\n"
    end = b'event: message_stop\r\ndata: {"type":\r\ndata: "message_stop"}\r\n\r\n'
    assert len(before + end) == EndScanner(MESSAGE_STOP).feed(before + end + b"x")
    scanner = EndScanner(MESSAGE_STOP)
    found = [scanner.feed(bytes((byte,))) for byte in before + end]
    assert [*[None] * (len(found) - 1), len(found)] == found
