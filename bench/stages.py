"""What each stage of a near hit costs without a transport: `python -m bench.stages HEADERS_FILE BODY_FILE` prints a table.

It drives the sidecar's own core with the two messages that Envoy sent when they were recorded (`bench.recorder`).
`warm`: one hit after the other. `cold`: the second-level cache is overwritten before every stage, which is nearer to a
sidecar that shares its core with Envoy and gRPC's threads; what counts there is how much code and memory is touched.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from io import TextIOWrapper
from pathlib import Path
from statistics import median

from ai_cache_extproc.extproc.codec import decode, encode
from ai_cache_extproc.extproc.events import Immediate, Pending, Reply
from ai_cache_extproc.extproc.exchange import Exchange
from ai_cache_extproc.telemetry import logs
from bench.table import table
from bench.traffic import json_answer
from tests.exchange.conversation import Core, answer_json, core, reply_to

HITS = 2_000
OVERWRITTEN_BYTES = 2 * 1024 * 1024


class Stopwatch:
    """Seconds of each stage, in the order in which the names first come. `between` runs off the clock."""

    def __init__(self, between: Callable[[], None]) -> None:
        self.stages_s: dict[str, list[float]] = defaultdict(list)
        self._between = between
        self.restart()

    def restart(self) -> None:
        """What was done since the last stage belongs to none."""
        self._between()
        self._last_s = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Everything since the last call belongs to `stage`."""
        self.stages_s[stage].append(time.perf_counter() - self._last_s)
        self.restart()


async def _store(parts: Core, headers: bytes, body: bytes) -> None:
    exchange = parts.exchange()
    for message in (headers, body):
        event = decode(message)
        assert event is not None
        await reply_to(exchange, event)
    answer_json(exchange, json_answer(1))
    exchange.close()
    await parts.writeback.drain(5)


def _hit(parts: Core, headers: bytes, body: bytes, watch: Stopwatch) -> None:
    watch.restart()
    exchange = parts.exchange()
    watch.lap("exchange made")
    _reply(exchange, headers, "headers", watch)
    reply = _reply(exchange, body, "body", watch)
    assert isinstance(reply, Immediate), reply
    exchange.close()
    watch.lap("closed, with its log line")


def _reply(exchange: Exchange, message: bytes, name: str, watch: Stopwatch) -> Reply:
    event = decode(message)
    watch.lap(f"{name} decoded")
    assert event is not None
    reply = exchange.handle(event)
    watch.lap(f"{name} handled")
    assert not isinstance(reply, Pending)
    encode(reply)
    watch.lap(f"{name} encoded")
    return reply


async def _measure(headers: bytes, body: bytes) -> list[Stopwatch]:
    there, other = bytearray(OVERWRITTEN_BYTES), bytes(OVERWRITTEN_BYTES)

    def overwrite() -> None:
        there[:] = other

    async with core() as parts:
        await _store(parts, headers, body)
        gc.freeze()
        watches = [Stopwatch(lambda: None), Stopwatch(overwrite)]
        for watch in watches:
            for _ in range(HITS):
                _hit(parts, headers, body, watch)
    return watches


def main(headers: Path, body: Path, nowhere: TextIOWrapper) -> None:
    """Measure and print. Log lines go `nowhere`."""
    logs.configure("info", "json", stream=nowhere)
    warm, cold = asyncio.run(_measure(headers.read_bytes(), body.read_bytes()))
    figures = {stage: [median(watch.stages_s[stage]) * 1e6 for watch in (warm, cold)] for stage in warm.stages_s}
    figures["together"] = [sum(column) for column in zip(*figures.values(), strict=True)]
    rows = [(stage, *(f"{figure:.1f}" for figure in pair)) for stage, pair in figures.items()]
    print(table(("A near hit without gRPC", "warm, µs", "cold, µs"), rows))


if __name__ == "__main__":
    with Path("/dev/null").open("w") as devnull:
        main(Path(sys.argv[1]), Path(sys.argv[2]), devnull)
