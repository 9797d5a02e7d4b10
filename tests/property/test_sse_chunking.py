"""However a stream is cut into chunks, it says the same and ends at the same byte."""

from __future__ import annotations

import re
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from ai_cache_extproc.dialects.framing.sse import EndEvent, EndScanner, Frame, FrameDecoder, encode, frames

DONE = EndEvent("data", "[DONE]")
LINE_BYTES_MAX = 10_000

_PARTS = [
    b"data: [DONE]",
    b"data:[DONE]",
    b"data: ",
    b"event: e",
    b":",
    b"[DONE]",
    b"x",
    "é".encode(),
    b"\xff",
    b"\xef\xbb\xbf",
]
_ENDS = [b"\n", b"\r", b"\r\n", b"\n\n", b"\r\n\r\n", b"\r\r"]
names = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), min_size=1)
streams = st.lists(st.sampled_from(_PARTS + _ENDS), max_size=30).map(b"".join)


@st.composite
def chunked(draw: st.DrawFn) -> list[bytes]:
    """A stream cut at random places, also into nothing."""
    stream = draw(streams)
    cuts = draw(st.lists(st.integers(0, len(stream)), max_size=8).map(sorted))
    return [stream[start:end] for start, end in pairwise([0, *cuts, len(stream)])]


def _end_of(stream: bytes) -> int | None:
    """Where the blank line after the first end event's line ends, read line by line."""
    found = False
    for line in re.finditer(rb"([^\r\n]*)(\r\n|\n|\r)", stream):
        if found and not line[1]:
            return line.end()
        found = found or line[1] in {b"data: [DONE]", b"data:[DONE]"}
    return None


@settings(deadline=None)
@given(chunked())
def test_same_frames(chunks: list[bytes]) -> None:
    """The frames of a stream do not depend on its chunks."""
    decoder = FrameDecoder(LINE_BYTES_MAX)
    found = [frame for chunk in chunks for frame in decoder.feed(chunk)]
    assert frames(b"".join(chunks), LINE_BYTES_MAX) == found


@settings(deadline=None)
@given(chunked())
def test_same_end(chunks: list[bytes]) -> None:
    """The end of a stream does not depend on its chunks, and is the one that reading line by line finds."""
    stream = b"".join(chunks)
    scanner = EndScanner(DONE)
    for chunk in chunks:
        scanner.feed(chunk)
    expected = _end_of(stream)
    undecided = expected == len(stream) and stream.endswith(b"\r")
    assert (None if undecided else expected) == scanner.end
    assert expected == scanner.feed(b"", end_of_stream=True)


@settings(deadline=None)
@given(chunked())
def test_same_end_with_the_last_chunk(chunks: list[bytes]) -> None:
    """The end of the stream may be told with its last chunk."""
    scanner = EndScanner(DONE)
    for chunk in chunks[:-1]:
        scanner.feed(chunk)
    assert _end_of(b"".join(chunks)) == scanner.feed(chunks[-1], end_of_stream=True)


@settings(deadline=None)
@given(st.binary(max_size=50), st.none() | names)
def test_encoded_frames_are_read_back(data: bytes, event: str | None) -> None:
    """What is encoded is decoded; line ends inside it arrive as LF."""
    expected = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    assert [Frame(event or "", expected)] == frames(encode(data, event), LINE_BYTES_MAX)
