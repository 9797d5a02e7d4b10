"""Server-sent events as WHATWG HTML (9.2) defines them: decoded in pieces, encoded, and their end found.

Lines end with CR LF, LF or CR, mixed at will. A CR at the end of a chunk may be half of a CR LF: where the
answer ends is not said before the next byte is known.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.model import Reason

_BOM = b"\xef\xbb\xbf"
_CR = b"\r"
_LF = b"\n"
_SPACE = b" "

# An alternative for CR may never match the first half of a CR LF, or one line end would count as two.
_LINE_END = rb"(?:\r\n|\n|\r(?=[^\n]))"
_LINE_END_AT_LAST = rb"(?:\r\n|\n|\r(?!\n))"
_BLANK_LINE = re.compile(_LINE_END * 2)
_BLANK_LINE_AT_LAST = re.compile(_LINE_END_AT_LAST * 2)
UNDECIDED_BYTES = len(b"\r\n\r")
"""How much of the end of a chunk may belong to a blank line that the next chunk completes."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One event. data: its lines joined by LF; None where it has none, and then browsers do not dispatch it.

    event: empty where it is not named, which means `message`.
    """

    event: str
    data: bytes | None


class FrameDecoder:
    """Takes a stream in pieces of any size and gives its whole frames. What follows the last blank line is no frame."""

    def __init__(self, line_bytes_max: int) -> None:
        self._line_bytes_max = line_bytes_max
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._after_cr = False
        self._first_line = True
        self._event = ""
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> list[Frame]:
        """The frames that `chunk` completes. Raises DialectError for a line over the limit."""
        if self._after_cr and chunk:
            chunk = chunk.removeprefix(_LF)
            self._after_cr = False
        if not chunk:
            return []
        lines = chunk.splitlines()
        rest = b"" if chunk.endswith((_CR, _LF)) else lines.pop()
        if lines:
            lines[0] = b"".join((*self._held, lines[0]))
            self._held.clear()
            self._held_bytes = 0
            self._after_cr = chunk.endswith(_CR)
        self._hold(rest)
        return self._frames(lines)

    def _hold(self, rest: bytes) -> None:
        if rest:
            self._held.append(rest)
            self._held_bytes += len(rest)
            self._check(self._held_bytes)

    def _check(self, size: int) -> None:
        if size > self._line_bytes_max:
            raise DialectError(Reason.ANSWER_NOT_UNDERSTOOD, f"a line has more than {self._line_bytes_max} bytes")

    def _frames(self, lines: list[bytes]) -> list[Frame]:
        frames = []
        for line in lines:
            self._check(len(line))
            if self._first_line:
                self._first_line = False
                line = line.removeprefix(_BOM)  # noqa: PLW2901  # only the first line may begin with one
            if line:
                self._read(line)
            elif self._event or self._data:
                frames.append(Frame(self._event, _LF.join(self._data) if self._data else None))
                self._event = ""
                self._data = []
        return frames

    def _read(self, line: bytes) -> None:
        """Take a field; comments (an empty name), `id`, `retry` and unknown fields say nothing about an answer."""
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(_SPACE))
        elif name == b"event":
            self._event = value.removeprefix(_SPACE).decode("utf-8", "replace")


def frames(body: bytes, line_bytes_max: int) -> list[Frame]:
    """The frames of a whole stream. Raises DialectError for a line over the limit."""
    return FrameDecoder(line_bytes_max).feed(body)


def event_end(window: bytes | bytearray, start: int, *, end_of_stream: bool) -> int | None:
    """Where the first blank line from `start` on ends, and with it an event; None while that is not known."""
    if window.find(_CR, start) < 0:
        # Line by line, where lines are long: a pattern looks at every byte, and takes 20 times as long.
        at = window.find(_LF, start)
        while at >= 0 and not window.startswith(_LF, at + 1):
            at = window.find(_LF, at + 1)
        return None if at < 0 else at + 2
    blank = (_BLANK_LINE_AT_LAST if end_of_stream else _BLANK_LINE).search(window, start)
    return None if blank is None else blank.end()


def encode(data: bytes | str, event: str | None = None) -> bytes:
    """One frame. Line ends inside `data` become further data lines, so CR and CR LF arrive as LF.

    event: one line, not empty.
    """
    raw = data.encode() if isinstance(data, str) else data
    if _CR in raw:
        raw = raw.replace(b"\r\n", _LF).replace(_CR, _LF)
    head = b"" if event is None else b"event: %b\n" % event.encode()
    return b"%bdata: %b\n\n" % (head, raw.replace(_LF, b"\ndata: "))


class EndEvent:
    """The event with which an API ends its streams, told by one line of it: a field and its whole value."""

    def __init__(self, field: str, value: str) -> None:
        self.value = value.encode()
        begin, whole = re.escape(field.encode()) + b":", re.escape(self.value)
        # The value comes first: a pattern that begins with plain bytes is searched for like them, one that begins by
        # looking behind is tried at every byte, and takes 30 times as long.
        self.line = re.compile(
            rb"%b(?:(?<=[\r\n]%b%b)|(?<=[\r\n]%b %b))(?=[\r\n])" % (whole, begin, whole, begin, whole)
        )
        # A match that a chunk cuts: the line, and the byte before it that makes it begin a line.
        self.cut_bytes = 1 + len(field.encode()) + len(b": ") + len(self.value)


class EndScanner:
    """Finds the end of a stream while it passes, at the speed of `bytes.find`.

    Looks for the line of the end event and the blank line that completes its frame. Does not parse frames: a line
    of the same text inside a longer event is found too, and whoever reads the whole stream refuses it then.
    """

    def __init__(self, end_event: EndEvent) -> None:
        self.end: int | None = None
        """How many bytes the whole answer has; None until that is known."""
        self._end_event = end_event
        self._seen = 0
        # The stream's begin is a line's begin.
        self._tail = _LF
        self._line_found = False

    def feed(self, chunk: bytes, *, end_of_stream: bool = False) -> int | None:
        """Look at the next chunk; gives `end`."""
        if self.end is not None:
            return self.end
        window = self._tail + chunk
        window_at = self._seen - len(self._tail)
        self._seen += len(chunk)
        start = 0
        if not self._line_found:
            line = self._end_event.line.search(window)
            if line is None:
                self._tail = window[-self._end_event.cut_bytes :]
                return None
            self._line_found = True
            start = line.end()
        end = event_end(window, start, end_of_stream=end_of_stream)
        if end is None:
            self._tail = window[max(start, len(window) - UNDECIDED_BYTES) :]
        else:
            self.end = window_at + end
        return self.end
