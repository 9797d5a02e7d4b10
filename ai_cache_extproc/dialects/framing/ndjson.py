"""Newline-delimited JSON: one object a line, told whole, written, and the end of a stream of them found.

Lines end with LF or CR LF; JSON has no line ends inside.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.model import Reason

_LF = b"\n"
_BLANKS = b" \t\r"


def lines(body: bytes, line_bytes_max: int) -> list[bytes]:
    """The lines of a whole stream, blank ones left out. Raises DialectError for a line over the limit."""
    found = [line.strip(_BLANKS) for line in body.split(_LF)]
    if any(len(line) > line_bytes_max for line in found):
        raise DialectError(Reason.ANSWER_NOT_UNDERSTOOD, f"a line has more than {line_bytes_max} bytes")
    return [line for line in found if line]


def encode(data: bytes) -> bytes:
    """One line; JSON as it is, without line ends."""
    return data + _LF


class LineScanner:
    """Finds the last line of a stream while it passes: one that says a certain thing, and is what it seems to be.

    The last line may lack its line end where the stream ends with it.
    """

    def __init__(self, says: re.Pattern[bytes], is_last: Callable[[bytes], bool]) -> None:
        """says: found in the last line and in few others, which are then asked about. is_last: of a whole line."""
        self.end: int | None = None
        """How many bytes the whole answer has; None until that is known."""
        self._says = says
        self._is_last = is_last
        self._seen = 0
        # The line that has begun.
        self._held: list[bytes] = []

    def feed(self, chunk: bytes, *, end_of_stream: bool = False) -> int | None:
        """Look at the next chunk; gives `end`."""
        start = 0
        while self.end is None and (stop := chunk.find(_LF, start)) >= 0:
            self._finish(chunk[start : stop + 1], self._seen + stop + 1)
            start = stop + 1
        if self.end is None:
            self._seen += len(chunk)
            if start < len(chunk):
                self._held.append(chunk[start:])
            if end_of_stream:
                self._finish(b"", self._seen)
        return self.end

    def _finish(self, rest: bytes, end: int) -> None:
        """Look at a whole line."""
        line = b"".join((*self._held, rest)) if self._held else rest
        self._held.clear()
        if self._says.search(line) is not None and self._is_last(line):
            self.end = end
