"""Asks workers on their private admin addresses, all at once and each for a bounded time."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import structlog

TIMEOUT_S = 2.0
"""More than the second that a worker's own look at its store may take."""
ANSWER_BYTES_MAX = 16 * 1024 * 1024

_HEAD = re.compile(
    rb"HTTP/1\.1 (?P<status>\d{3}) .*\r\ncontent-length: (?P<bytes>\d{1,9})\r\n", re.DOTALL | re.IGNORECASE
)

log = structlog.get_logger()


class Seat(Protocol):
    """What is known of a worker without asking it."""

    @property
    def number(self) -> int:
        """Counts from 0."""
        ...

    @property
    def pid(self) -> int | None:
        """Its process id; None while there is none."""
        ...

    @property
    def ready(self) -> bool:
        """Whether it has said that it serves."""
        ...

    @property
    def starts(self) -> int:
        """How many processes have been in this place."""
        ...


@dataclass(frozen=True, slots=True)
class Answer:
    """What a worker answered over HTTP."""

    status: int
    content: bytes


class Asking:
    """The workers, and their sockets by number. timeout_s: for one answer."""

    def __init__(self, seats: Sequence[Seat], sockets: Sequence[Path], *, timeout_s: float = TIMEOUT_S) -> None:
        self.seats = seats
        self._sockets = sockets
        self._timeout_s = timeout_s

    async def all(self, target: str) -> Mapping[int, Answer]:
        """What each worker answers, by its number; who is not ready or does not answer in time is left out."""
        asked = [(seat, seat.starts, self._sockets[seat.number]) for seat in self.seats if seat.ready]
        answers = await asyncio.gather(*(self._one(seat, socket, target) for seat, _, socket in asked))
        return {
            seat.number: answer
            for (seat, starts, _), answer in zip(asked, answers, strict=True)
            # A process that ended while others were waited for is counted as one that is gone.
            if answer is not None and seat.ready and seat.starts == starts
        }

    async def _one(self, seat: Seat, socket: Path, target: str) -> Answer | None:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await ask(socket, target)
        except (OSError, EOFError, ValueError, TimeoutError) as error:
            log.warning("worker_silent", worker=seat.number, page=target, reason=str(error) or type(error).__name__)
            return None


async def ask(socket: Path, target: str) -> Answer:
    """GET over a Unix socket. Raises OSError, EOFError or ValueError where no whole answer comes, or one that is an error."""
    reader, writer = await asyncio.open_unix_connection(str(socket))
    try:
        writer.write(f"GET {target} HTTP/1.1\r\nhost: worker\r\nconnection: close\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        found = _HEAD.match(head)
        if found is None or int(found["bytes"]) > ANSWER_BYTES_MAX:
            raise ValueError(f"not a worker's answer: {head[:80]!r}")
        if int(found["status"]) not in {200, 503}:
            raise ValueError(f"status {int(found['status'])}")
        return Answer(int(found["status"]), await reader.readexactly(int(found["bytes"])))
    except asyncio.LimitOverrunError as error:
        raise ValueError("not a worker's answer: its head has no end") from error
    finally:
        writer.close()
