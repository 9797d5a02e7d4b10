"""Collecting an answer of Gemini while it passes: JSON, a stream of events, or a stream as one JSON array."""

from __future__ import annotations

from ai_cache_extproc.dialects.base import Capture
from ai_cache_extproc.dialects.capture import begin_open_ended
from ai_cache_extproc.dialects.framing.json_array import EndScanner
from ai_cache_extproc.dialects.framing.sse import EndEvent
from ai_cache_extproc.model import Mode, ResponseHead

# Gemini's own streams have no end event: they end, and the last chunk says why, which `settle` sees. A gateway that
# speaks OpenAI's language to others may send theirs.
END_EVENT = EndEvent("data", "[DONE]")


def begin(head: ResponseHead, asked: Mode) -> Capture:
    """Begin the capture that the answer's content type asks for. JSON in answer to a stream's question is an array.

    Raises DialectError(CONTENT_TYPE) for what is neither JSON nor an event stream.
    """
    capture = begin_open_ended(head, END_EVENT)
    if capture.mode is Mode.JSON and asked is not Mode.JSON:
        return ArrayCapture(capture.content_type)
    return capture


class ArrayCapture:
    """A stream as one JSON array: whole at its closing bracket; blanks that follow are not part of the answer."""

    mode: Mode = Mode.ARRAY

    def __init__(self, content_type: str) -> None:
        self.content_type = content_type
        self.size_bytes = 0
        self._scanner = EndScanner()
        self._chunks: list[bytes] = []

    def feed(self, chunk: bytes, *, end_of_stream: bool) -> bool:  # noqa: ARG002
        """Append a chunk; true from the closing bracket on. Where the stream ends before it, it was cut."""
        if self._scanner.end is None:
            self._chunks.append(chunk)
            self.size_bytes += len(chunk)
        return self._scanner.feed(chunk) is not None

    def end(self) -> bool:
        """Trailers complete nothing."""
        return self._scanner.end is not None

    def body(self) -> bytes:
        """The bytes through the closing bracket, or all so far."""
        return b"".join(self._chunks)[: self._scanner.end]
