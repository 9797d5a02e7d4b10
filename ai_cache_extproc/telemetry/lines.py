"""Log lines on their way out: those up to info wait a moment and leave together, warnings leave at once.

A write for every exchange costs a hit a fifth of its time: it lets go of Python's lock, which gRPC's threads then hold.
"""

from __future__ import annotations

import asyncio
import atexit
from collections.abc import Iterator
from typing import BinaryIO

WAIT_S = 0.1
WAITING_MAX = 1000
"""Lines that wait at the most."""
SHARED_PIECE_BYTES = 4096
"""What a pipe takes in one piece (pipe(7)): processes that share one do not tear each other's lines."""


class Lines:
    """A structlog logger of ready bytes, safe to call from any thread; outside an event loop nothing waits.

    shared: other processes write lines to the same stream.
    """

    def __init__(self, stream: BinaryIO, *, shared: bool = False) -> None:
        self._stream = stream
        self._shared = shared
        self._waiting: list[bytes] = []
        self._due = False
        atexit.register(self.flush)

    def info(self, line: bytes) -> None:
        """Take a line that may wait."""
        self._waiting.append(line)
        if len(self._waiting) >= WAITING_MAX:
            self.flush()
        elif not self._due:
            self._flush_soon()

    def warning(self, line: bytes) -> None:
        """Write a line, and those before it."""
        self._waiting.append(line)
        self.flush()

    debug = info
    error = critical = exception = warning

    def flush(self) -> None:
        """Write all that waits."""
        self._due = False
        waiting, self._waiting = self._waiting, []
        if waiting and not self._stream.closed:
            for piece in _pieces(waiting) if self._shared else (waiting,):
                self._stream.write(b"\n".join(piece) + b"\n")
                self._stream.flush()

    def _flush_soon(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.flush()
        else:
            self._due = True
            loop.call_later(WAIT_S, self.flush)


def _pieces(lines: list[bytes]) -> Iterator[list[bytes]]:
    """The lines in groups that are written in one piece each; a longer line goes alone."""
    piece: list[bytes] = []
    length = 0
    for line in lines:
        if piece and length + len(line) + 1 > SHARED_PIECE_BYTES:
            yield piece
            piece, length = [], 0
        piece.append(line)
        length += len(line) + 1
    yield piece
