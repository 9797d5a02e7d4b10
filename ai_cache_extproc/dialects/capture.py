"""Collecting an answer while it passes. Chunks are kept as they come and joined once.

An answer is whole when the bytes say so, never because the stream ended.
"""

from __future__ import annotations

from typing import Protocol

from ai_cache_extproc.dialects.base import Capture
from ai_cache_extproc.dialects.framing.sse import EndEvent, EndScanner
from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.model import Mode, Reason, ResponseHead

_MALFORMED_LENGTH = -1
_LENGTH_DIGITS_MAX = 18


def begin(head: ResponseHead, end_event: EndEvent) -> Capture:
    """Begin the capture that the answer's content type asks for; parameters such as a charset are ignored.

    Raises DialectError(CONTENT_TYPE) for what is neither JSON nor an event stream.
    """
    content_type = head.headers.get("content-type", "")
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == "text/event-stream":
        return EventStreamCapture(content_type, end_event)
    if media_type == "application/json" or media_type.endswith("+json"):
        return JsonCapture(content_type, _declared_length(head))
    raise DialectError(Reason.CONTENT_TYPE, "neither JSON nor an event stream")


def begin_open_ended(head: ResponseHead, end_event: EndEvent) -> Capture:
    """The same for APIs whose streams may end without an end event: whoever settles the answer tells whether it is whole.

    Raises DialectError(CONTENT_TYPE) for what is neither JSON nor an event stream.
    """
    capture = begin(head, end_event)
    return OpenEndedCapture(capture.content_type, end_event) if capture.mode is Mode.STREAM else capture


def _declared_length(head: ResponseHead) -> int | None:
    text = head.headers.get("content-length")
    if text is None:
        return None
    well_formed = text.isascii() and text.isdigit() and len(text) <= _LENGTH_DIGITS_MAX
    return int(text) if well_formed else _MALFORMED_LENGTH


class JsonCapture:
    """One JSON body: whole at its declared length; without one at the end of the stream, or at trailers."""

    mode: Mode = Mode.JSON

    def __init__(self, content_type: str, length_bytes: int | None) -> None:
        """length_bytes: the declared length; None where there is none. A negative one is never reached."""
        self.content_type = content_type
        self.size_bytes = 0
        self._length_bytes = length_bytes
        self._chunks: list[bytes] = []

    def feed(self, chunk: bytes, *, end_of_stream: bool) -> bool:
        """Append a chunk. A body that is longer or shorter than declared is never whole."""
        if chunk:
            self._chunks.append(chunk)
            self.size_bytes += len(chunk)
        if self._length_bytes is None:
            return end_of_stream
        return self.size_bytes == self._length_bytes

    def end(self) -> bool:
        """Trailers follow a body that is whole, unless it is not as long as declared."""
        return self.feed(b"", end_of_stream=True)

    def body(self) -> bytes:
        """The bytes so far."""
        return b"".join(self._chunks)


class Scanner(Protocol):
    """Finds where an answer ends, while it passes. end: how many bytes the whole answer has; None until that is known."""

    end: int | None

    def feed(self, chunk: bytes, *, end_of_stream: bool = False) -> int | None:
        """Look at the next chunk; gives `end`."""
        ...


class ScannedCapture:
    """A stream: whole as soon as its scanner has found its end; what follows is not part of the answer."""

    mode: Mode = Mode.STREAM

    def __init__(self, content_type: str, scanner: Scanner) -> None:
        self.content_type = content_type
        self.size_bytes = 0
        self._scanner = scanner
        self._chunks: list[bytes] = []

    def feed(self, chunk: bytes, *, end_of_stream: bool) -> bool:
        """Append a chunk; true from the end on."""
        if self._scanner.end is None:
            self._chunks.append(chunk)
            self.size_bytes += len(chunk)
        return self._scanner.feed(chunk, end_of_stream=end_of_stream) is not None

    def end(self) -> bool:
        """Trailers complete nothing but a line end: a stream without its end is cut."""
        return self._scanner.feed(b"", end_of_stream=True) is not None

    def body(self) -> bytes:
        """The bytes through the end, or all so far."""
        return b"".join(self._chunks)[: self._scanner.end]


class EventStreamCapture(ScannedCapture):
    """A stream of events: whole as soon as its end event is complete."""

    def __init__(self, content_type: str, end_event: EndEvent) -> None:
        super().__init__(content_type, EndScanner(end_event))


class OpenEndedCapture(EventStreamCapture):
    """A stream of events that is over at its end event, or where the upstream ends it."""

    def feed(self, chunk: bytes, *, end_of_stream: bool) -> bool:
        """Append a chunk; true from the end event on, or at the end of the stream."""
        return super().feed(chunk, end_of_stream=end_of_stream) or end_of_stream

    def end(self) -> bool:
        """Trailers follow whatever the upstream had to say."""
        super().end()
        return True
