"""How late streamed chunks reach the client: `python -m bench.stream`, outcome as JSON on stdout.

The upstream writes its clock into each chunk and this client, a process of the same machine, reads the same clock.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import time
from dataclasses import asdict, dataclass
from typing import cast

import uvloop

from bench.traffic import STAMP_DIGITS, Questions

_STAMP = re.compile(rb'"content":"(\d{%d})"' % STAMP_DIGITS)
_LAST_CHUNK = b"\r\n0\r\n\r\n"
_MISS = b"\r\nx-ai-cache-status: miss\r\n"


@dataclass(frozen=True, slots=True)
class Lags:
    """streams: those that came whole. missed: those the sidecar said MISS to. Milliseconds from write to read."""

    streams: int
    missed: int
    chunks: int
    seconds: float
    p50_ms: float
    p99_ms: float


class Listener(asyncio.Protocol):
    """One connection that asks for a stream, reads it to its end and asks for the next."""

    def __init__(self, questions: Questions, numbers: list[int]) -> None:
        self._questions = questions
        self._numbers = numbers
        self._received = bytearray()
        self._searched = 0
        self.missed = 0
        self.whole = 0
        self.lags_ns: list[int] = []
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the first stream."""
        # uvloop's transports do not inherit from asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._ask()

    def data_received(self, data: bytes) -> None:
        """Compare the clock with every stamp that has come in whole."""
        now_ns = time.monotonic_ns()
        self._received += data
        for stamp in _STAMP.finditer(self._received, self._searched):
            self.lags_ns.append(now_ns - int(stamp[1]))
            self._searched = stamp.end()
        if self._received.endswith(_LAST_CHUNK):
            self.whole += b"data: [DONE]" in self._received
            self.missed += _MISS in self._received.lower()
            self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail, if a stream was due."""
        if not self.finished.done():
            self.finished.set_exception(ConnectionError(f"connection lost in a stream: {exc!r}"))

    def _ask(self) -> None:
        self._received.clear()
        self._searched = 0
        if self._numbers:
            self._transport.write(self._questions.request(self._numbers.pop()))
        else:
            self.finished.set_result(None)


async def _listen(arguments: argparse.Namespace) -> Lags:
    loop = asyncio.get_running_loop()
    questions = Questions(arguments.topic, stream=True)
    numbers = list(range(arguments.first, arguments.first + arguments.streams))
    listeners: list[Listener] = []
    started = time.monotonic()
    for _ in range(arguments.connections):
        _, listener = await loop.create_connection(lambda: Listener(questions, numbers), "127.0.0.1", arguments.port)
        listeners.append(listener)
    async with asyncio.timeout(arguments.seconds_max):
        await asyncio.gather(*(listener.finished for listener in listeners))
    seconds = time.monotonic() - started
    lags_ns = sorted(lag for listener in listeners for lag in listener.lags_ns)
    return Lags(
        streams=sum(listener.whole for listener in listeners),
        missed=sum(listener.missed for listener in listeners),
        chunks=len(lags_ns),
        seconds=seconds,
        p50_ms=lags_ns[len(lags_ns) // 2] / 1e6,
        p99_ms=lags_ns[len(lags_ns) * 99 // 100] / 1e6,
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--streams", type=int, required=True)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seconds-max", type=float, default=120)
    return parser.parse_args()


if __name__ == "__main__":
    print(json.dumps(asdict(uvloop.run(_listen(_arguments())))))
