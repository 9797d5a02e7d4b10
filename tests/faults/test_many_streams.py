"""Memory: what an open stream costs, and that answers being collected stay inside their budget."""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import Tell
from tests.support.crowd import words_for
from tests.support.figures import PeakMemory, rss, scrape, wait_until
from tests.support.gateway import PATIENT, Gateway
from tests.support.h2_streams import Streams
from tests.support.soak import either
from tests.support.upstream import End, Received, Script, completion_frames, stream

pytestmark = pytest.mark.alone

OPEN = either(1_000, 10_000)
WARM = 200
SEED = 11
STREAM_BYTES_MAX = 30 * 1024
LOOK_S = 1.0
"""How often a held stream looks whether it may go on."""
ENDING_S = either(0.5, 15.0)
"""Over how long the streams end: all at one moment would be a test of patience."""
MIB = 1024 * 1024
ANSWERS = either(60, 500)
ANSWER_BYTES = 10 * MIB
PIECE_S = either(0.05, 0.5)
"""Between pieces of 64 KiB: all together some 70 MB a second, so that Envoy itself is not what is late."""
BUDGET_BYTES = either(160, 256) * MIB
QUEUE_BYTES = 32 * MIB


def bodies(count: int, tag: str) -> list[bytes]:
    """So many questions, no two alike, for streams."""
    asked = {"model": "m", "stream": True}
    messages = [{"role": "user", "content": f"{tag} {number}"} for number in range(count)]
    return [json.dumps({**asked, "messages": [message]}).encode() for message in messages]


class Held(list[bytes | float | End]):
    """A stream that stays open after its first frames until it is released."""

    def __init__(self, script: Script, released: threading.Event, *, rest_s: float) -> None:
        super().__init__(script)
        self._released = released
        self._rest_s = rest_s

    def __iter__(self) -> Iterator[bytes | float | End]:
        steps = super().__iter__()
        yield next(steps)
        yield next(steps)
        while not self._released.is_set():
            yield LOOK_S
        yield self._rest_s
        yield from steps


async def held(gateway: Gateway, count: int, tag: str) -> tuple[Streams, int]:
    """Open so many streams, and end them when all are open; with the sidecar's memory while they were."""
    released, chance = threading.Event(), random.Random(SEED)

    def holding(received: Received) -> Script:
        question = received.json()["messages"][0]["content"]  # type: ignore[index]
        script = stream(completion_frames(words_for(question)))
        return Held(script, released, rest_s=chance.uniform(0, ENDING_S))

    gateway.upstream.fresh(holding)
    streams = Streams(gateway.port, bodies(count, tag))
    try:
        await streams.open()
        await asyncio.to_thread(
            wait_until, lambda: scrape(gateway).total("aicache_inflight_streams") >= count, "some are not there"
        )
        resident = rss(gateway.sidecar.pid)
        released.set()
        await streams.finish()
    finally:
        released.set()
        streams.close()
    return streams, resident


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    """Envoy, the sidecar and an upstream."""
    with Gateway(tmp_path, filter_says=PATIENT) as running:
        yield running


@pytest.mark.slow
async def test_open_streams(gateway: Gateway, tell: Tell) -> None:
    """None is refused, each ends well, and each costs the sidecar little while it is open."""
    await held(gateway, WARM, "warm")
    base, started = rss(gateway.sidecar.pid), time.monotonic()
    streams, resident = await held(gateway, OPEN, "open")
    each = (resident - base) / OPEN
    tell(streams=OPEN, bytes_each=each, took_s=time.monotonic() - started)
    outcomes = Counter((one.status, one.label, one.is_whole) for one in streams.received)
    assert {(200, "MISS", True): OPEN} == outcomes
    assert all(one.tail.endswith(b"data: [DONE]\n\n") for one in streams.received)
    assert 0 == gateway.envoy_stat("ext_proc.ai_cache.streams_failed$")
    assert 0 == gateway.envoy_stat("ext_proc.ai_cache.failure_mode_allowed$")
    assert 0 == gateway.envoy_stat("cluster.ai_cache.upstream_rq_pending_overflow$")
    assert each < STREAM_BYTES_MAX


def big(_: Received) -> Script:
    """A stream of ten MiB in slow pieces, so that all of them are under way together."""
    word = "x" * 65_000
    count = ANSWER_BYTES // len(word)
    return stream(completion_frames([word] * count), pause_s=PIECE_S)


@pytest.mark.slow
async def test_big_answers_stay_inside_the_budget(tmp_path: Path, tell: Tell) -> None:
    """Beyond the budget answers pass whole without being kept; the sidecar's memory stays within it."""
    limits = {"answer_bytes_max": ANSWER_BYTES * 2, "capture_bytes_max": BUDGET_BYTES}
    config = {"limits": limits, "write_queue": {"bytes_max": QUEUE_BYTES}, "near": {"bytes_max": 0}}
    with Gateway(tmp_path, config, filter_says=PATIENT) as gateway:
        await held(gateway, WARM, "warm")
        base, started = rss(gateway.sidecar.pid), time.monotonic()
        gateway.upstream.fresh(big)
        streams = Streams(gateway.port, bodies(ANSWERS, "big"))
        with PeakMemory(gateway.sidecar.pid) as peak:
            await streams.open()
            await streams.finish()
        took_s = time.monotonic() - started
        streams.close()
        wait_until(lambda: not scrape(gateway).total("aicache_inflight_streams"), "streams are left")
        figures = scrape(gateway)
        passed_over = gateway.envoy_stat("ext_proc.ai_cache.failure_mode_allowed$")
    over = figures.total("aicache_store_total", reason="capture_budget")
    kept = figures.total("aicache_store_total", result="stored")
    tell(answers=ANSWERS, took_s=took_s, over_budget=over, stored=kept)
    tell(base_mib=base / MIB, grown_mib=(peak.bytes - base) / MIB, budget_mib=BUDGET_BYTES / MIB)
    assert {(200, True)} == {(one.status, one.is_whole) for one in streams.received}
    assert all(one.size > ANSWER_BYTES and one.tail.endswith(b"data: [DONE]\n\n") for one in streams.received)
    assert 0 < over
    assert 0 == figures.total("aicache_inflight_bytes")
    assert 0 == passed_over
    assert peak.bytes - base < BUDGET_BYTES
