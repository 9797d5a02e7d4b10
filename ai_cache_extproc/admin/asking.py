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


_STATUSES = frozenset({200, 503})


@dataclass(frozen=True, slots=True)
class Call:
    """A request to a worker. target: with its query. authorization: as the client said it.

    statuses: of answers that are handed on. spare_s: how much longer than others it may take.
    """

    target: str
    method: str = "GET"
    authorization: str = ""
    body: bytes = b""
    statuses: frozenset[int] = _STATUSES
    spare_s: float = 0.0

    @property
    def path(self) -> str:
        """The target without its query, which may say what somebody looks for."""
        return self.target.partition("?")[0]

    def written(self) -> bytes:
        """The request as it is sent."""
        head = [f"{self.method} {self.target} HTTP/1.1", "host: localhost", "connection: close"]
        if self.authorization:
            head.append(f"authorization: {self.authorization}")
        if self.method == "POST":
            head.append(f"content-length: {len(self.body)}")
        return "\r\n".join((*head, "", "")).encode("latin-1") + self.body


class Asking:
    """The workers, and their sockets by number. timeout_s: for one answer."""

    def __init__(self, seats: Sequence[Seat], sockets: Sequence[Path], *, timeout_s: float = TIMEOUT_S) -> None:
        self.seats = seats
        self._sockets = sockets
        self._timeout_s = timeout_s

    async def first(self, call: Call) -> Answer | None:
        """What the first worker that answers says; None if none does."""
        for seat in self.seats:
            answer = await self._one(seat, self._sockets[seat.number], call) if seat.ready else None
            if answer is not None:
                return answer
        return None

    async def all(self, call: str | Call | Mapping[int, Call]) -> Mapping[int, Answer]:
        """What each worker answers, by its number; who is not ready or does not answer in time is left out.

        call: a page to GET, or a call; several by the workers' numbers, of which the others are not asked.
        """
        if isinstance(call, str):
            call = Call(call)
        calls = {seat.number: call for seat in self.seats} if isinstance(call, Call) else call
        asked = [
            (seat, seat.starts, self._sockets[seat.number])
            for seat in self.seats
            if seat.ready and seat.number in calls
        ]
        answers = await asyncio.gather(*(self._one(seat, socket, calls[seat.number]) for seat, _, socket in asked))
        return {
            seat.number: answer
            for (seat, starts, _), answer in zip(asked, answers, strict=True)
            # A process that ended while others were waited for is counted as one that is gone.
            if answer is not None and seat.ready and seat.starts == starts
        }

    async def _one(self, seat: Seat, socket: Path, call: Call) -> Answer | None:
        try:
            async with asyncio.timeout(self._timeout_s + call.spare_s):
                return await ask(socket, call)
        except (OSError, EOFError, ValueError, TimeoutError) as error:
            log.warning("worker_silent", worker=seat.number, page=call.path, reason=str(error) or type(error).__name__)
            return None


async def ask(socket: Path, call: Call) -> Answer:
    """Call over a Unix socket. Raises OSError, EOFError or ValueError where no whole answer comes, or one that is an error."""
    reader, writer = await asyncio.open_unix_connection(str(socket))
    try:
        writer.write(call.written())
        head = await reader.readuntil(b"\r\n\r\n")
        found = _HEAD.match(head)
        if found is None or int(found["bytes"]) > ANSWER_BYTES_MAX:
            raise ValueError(f"not a worker's answer: {head[:80]!r}")
        if int(found["status"]) not in call.statuses:
            raise ValueError(f"status {int(found['status'])}")
        return Answer(int(found["status"]), await reader.readexactly(int(found["bytes"])))
    except asyncio.LimitOverrunError as error:
        raise ValueError("not a worker's answer: its head has no end") from error
    finally:
        writer.close()
