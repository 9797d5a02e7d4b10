"""An HTTP/1.1 client in a process of its own: `python -m bench.load`, outcome as JSON on stdout.

Every connection asks again as soon as its answer is whole, or with `--rate` when the next request is due.
Nothing is retried: a connection that ends early ends the run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import time
from collections import Counter
from dataclasses import asdict, dataclass
from typing import cast

import uvloop

from bench.traffic import Questions
from bench.upstream import content_length

_STATUS = re.compile(rb"HTTP/1\.1 (\d+)")
_CACHE_STATUS = re.compile(rb"\r\nx-ai-cache-status: *(\w+)", re.IGNORECASE)
_ANSWER_ID = re.compile(rb'"id": ?"([^"]+)"')


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run saw. seen: answers by HTTP status and cache status (`200 HIT`); ids: distinct answers."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    seen: dict[str, int]
    ids: int


class Run:
    """The requests still to send and the answers seen so far, shared by the connections of one run."""

    def __init__(self, questions: Questions, *, requests: int, first: int, distinct: int, rate: float) -> None:
        """rate: requests per second; 0 for as many as can be had."""
        self._questions = questions
        self._first = first
        self._distinct = distinct
        self._requests = requests
        self._interval_s = 1 / rate if rate else 0.0
        self._started_s = time.monotonic()
        self._sent = 0
        self._seen: Counter[str] = Counter()
        self._ids: set[bytes] = set()
        self._elapsed_ns: list[int] = []
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def next_request(self) -> tuple[float, bytes] | None:
        """When the next request is due, on the monotonic clock, and its bytes; None when there is none left."""
        if self._sent == self._requests:
            return None
        due_s = self._started_s + self._sent * self._interval_s
        number = self._first + self._sent % self._distinct
        self._sent += 1
        return due_s, self._questions.request(number)

    def answered(self, head: bytes, body: bytes, *, elapsed_ns: int) -> None:
        """Count one whole answer."""
        status = _STATUS.match(head)
        cache_status = _CACHE_STATUS.search(head)
        found = _ANSWER_ID.search(body)
        words = [match[1].decode() for match in (status, cache_status) if match]
        self._seen[" ".join(words)] += 1
        self._ids.add(found[1] if found else b"")
        self._elapsed_ns.append(elapsed_ns)
        if len(self._elapsed_ns) == self._requests and not self.finished.done():
            self.finished.set_result(None)

    def failed(self, reason: str) -> None:
        """End the run: a connection was lost while it waited for an answer."""
        if not self.finished.done():
            self.finished.set_exception(ConnectionError(reason))

    def outcome(self, seconds: float) -> Outcome:
        """What was seen, after `finished`."""
        ordered = sorted(self._elapsed_ns)
        return Outcome(
            requests=self._requests,
            seconds=seconds,
            p50_ms=ordered[len(ordered) // 2] / 1e6,
            p99_ms=ordered[len(ordered) * 99 // 100] / 1e6,
            seen=dict(self._seen),
            ids=len(self._ids),
        )


class Connection(asyncio.Protocol):
    """One keep-alive connection of a run."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._received = b""
        self._waiting = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the first time."""
        # uvloop's transports do not inherit from asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._ask()

    def data_received(self, data: bytes) -> None:
        """Count the answer once it is whole, then ask again."""
        self._received += data
        head_end = self._received.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head, body = self._received[:head_end], self._received[head_end + 4 :]
        if len(body) < content_length(head):
            return
        self._received = b""
        self._run.answered(head, body, elapsed_ns=time.monotonic_ns() - self._started_ns)
        self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the run, if an answer was due."""
        if self._waiting:
            self._run.failed(f"connection lost while waiting for an answer: {exc!r}")

    def _ask(self) -> None:
        turn = self._run.next_request()
        self._waiting = turn is not None
        if turn is not None:
            due_s, request = turn
            wait_s = due_s - time.monotonic()
            if wait_s > 0:
                asyncio.get_running_loop().call_later(wait_s, self._send, request)
            else:
                self._send(request)

    def _send(self, request: bytes) -> None:
        self._started_ns = time.monotonic_ns()
        self._transport.write(request)


async def _load(arguments: argparse.Namespace) -> Outcome:
    loop = asyncio.get_running_loop()
    run = Run(
        Questions(arguments.topic),
        requests=arguments.requests,
        first=arguments.first,
        distinct=arguments.distinct,
        rate=arguments.rate,
    )
    started = time.monotonic()
    for _ in range(arguments.connections):
        await loop.create_connection(lambda: Connection(run), "127.0.0.1", arguments.port)
    async with asyncio.timeout(arguments.seconds_max):
        await run.finished
    return run.outcome(time.monotonic() - started)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--requests", type=int, required=True)
    parser.add_argument("--connections", type=int, default=48)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--distinct", type=int, default=1, help="how many questions take turns")
    parser.add_argument("--rate", type=float, default=0, help="requests per second; 0 for as many as can be had")
    parser.add_argument("--seconds-max", type=float, default=120)
    return parser.parse_args()


if __name__ == "__main__":
    print(json.dumps(asdict(uvloop.run(_load(_arguments())))))
