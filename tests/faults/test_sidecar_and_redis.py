"""The sidecar killed or stopped over Redis: every request and every stream under way ends well, and entries are there after it."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import Tell
from tests.support.crowd import Crowd, Line, echo, text_in, words_for
from tests.support.figures import wait_until
from tests.support.gateway import Gateway, redis_store
from tests.support.redis_server import RedisServer
from tests.support.soak import either
from tests.support.upstream import Received, Script, completion_frames, stream

pytestmark = pytest.mark.alone

SEED = 9
CLIENTS = 32
STREAMS = 50
STREAM_PAUSE_S = 0.2
KILLS = either(3, 20)
STOPS = either(1, 5)
NOTICE_MS = 2_500
"""More than twice Envoy's health check interval."""


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis."""
    with RedisServer(tmp_path / "redis") as running:
        yield running


def long_streams(received: Received) -> Script:
    """Answer questions about streams over a second, others at once."""
    question = received.json()["messages"][0]["content"]  # type: ignore[index]
    if question.startswith("stream"):
        return stream(completion_frames(words_for(question)), pause_s=STREAM_PAUSE_S)
    return echo(received)


@pytest.mark.slow
def test_kill_9_at_random(tmp_path: Path, tell: Tell, redis: RedisServer) -> None:
    """Killed at any moment and started again: nobody fails, no stream lacks its end, and entries are hits at once."""
    chance, back = random.Random(SEED), []
    with Gateway(tmp_path, {"store": redis_store(redis.port)}) as gateway:
        gateway.upstream.fresh(echo)
        with Crowd([gateway.port], clients=either(16, CLIENTS), seed=SEED) as crowd:
            crowd.wait_for(200)
            for _ in range(KILLS):
                crowd.go_on(chance.uniform(0.0, 1.0))
                assert -signal.SIGKILL == gateway.sidecar.stop(signal.SIGKILL)
                crowd.go_on(chance.uniform(0.0, 0.3))
                gateway.start_sidecar()
                gateway.wait_for_sidecar()
                back.append(crowd.hits_after(time.monotonic()))
            crowd.wait_for(either(200, 2_000))
    tell(requests=crowd.requests, labels=dict(crowd.labels()), kills=KILLS, slowest_s=crowd.slowest_s)
    tell(streams=sum(asked.streamed for asked in crowd.asked), hits_back_s=max(back))
    assert [] == crowd.failures
    assert either(600, 10_000) < crowd.requests
    assert {"HIT", "MISS", "none"} <= set(crowd.labels())


async def open_streams(port: int, tag: str) -> list[asyncio.Task[tuple[str, str]]]:
    """Streams on connections of their own; each task ends with the cache's label and what its stream said."""

    async def said(question: str) -> tuple[str, str]:
        line = Line(port)
        try:
            answered = await line.ask(question, streamed=True)
            assert 200 == answered.status
            return answered.label, text_in(answered.body, streamed=True)
        finally:
            await line.close()

    return [asyncio.create_task(said(f"stream {tag} {number}")) for number in range(STREAMS)]


def start_again(gateway: Gateway) -> None:
    """Start the sidecar, and return when Envoy has found it well since: what it knows before that may be of the one before."""
    gateway.start_sidecar()
    probes = "cluster.ai_cache.health_check.success$"
    before = gateway.envoy_stat(probes)
    wait_until(lambda: gateway.envoy_stat(probes) > before, "Envoy never probed the sidecar")
    gateway.wait_for_sidecar()


@pytest.mark.slow
async def test_sigterm_under_load(tmp_path: Path, tell: Tell, redis: RedisServer) -> None:
    """Clients and streams notice nothing of a restart; what the streams brought home is stored before the end."""
    with Gateway(tmp_path, {"store": redis_store(redis.port)}) as gateway:
        gateway.upstream.fresh(long_streams)
        with Crowd([gateway.port], clients=CLIENTS, pause_s=0.05) as crowd:
            await asyncio.to_thread(crowd.wait_for, 200)
            stops = []
            for number in range(STOPS):
                streams = await open_streams(gateway.port, str(number))
                await asyncio.sleep(STREAM_PAUSE_S * 2)
                started = time.monotonic()
                assert 0 == await asyncio.to_thread(gateway.sidecar.stop, signal.SIGTERM)
                stops.append(time.monotonic() - started)
                words = ["".join(words_for(f"stream {number} {each}")) for each in range(STREAMS)]
                assert [("MISS", each) for each in words] == await asyncio.gather(*streams)
                await asyncio.to_thread(start_again, gateway)
                again = await asyncio.gather(*await open_streams(gateway.port, str(number)))
                assert [("HIT", each) for each in words] == again
    tell(requests=crowd.requests, labels=dict(crowd.labels()), streams=STOPS * STREAMS * 2, longest_stop_s=max(stops))
    assert [] == crowd.failures


@pytest.mark.slow
def test_a_restart_without_failing_open(tmp_path: Path, tell: Tell, redis: RedisServer) -> None:
    """Even where a request without the sidecar fails, two of them restart in turn unnoticed: health says so first."""
    config = {"store": redis_store(redis.port), "drain": {"notice_ms": NOTICE_MS}}
    closed = {"failure_mode_allow": False}
    with Gateway(tmp_path / "b", config) as second:
        ports = second.sidecar_ports
        with Gateway(tmp_path / "a", config, filter_says=closed, upstream=second.upstream, beside=ports) as first:
            second.upstream.fresh(echo)
            wait_until(lambda: first.envoy_stat("cluster.ai_cache.membership_healthy$") == 2, "not both are there")
            with Crowd([first.port], clients=16) as crowd:
                crowd.wait_for(200)
                for gateway in (first, second)[: either(1, 2)]:
                    assert 0 == gateway.sidecar.stop(signal.SIGTERM)
                    crowd.wait_for(50)
                    gateway.start_sidecar()
                    wait_until(
                        lambda: first.envoy_stat("cluster.ai_cache.membership_healthy$") == 2, "not both are there"
                    )
                    crowd.wait_for(50)
            failures = first.envoy_stat("ext_proc.ai_cache.streams_failed$")
            # The first of two signals; the second, at the end, is not for waiting.
            for gateway in (first, second):
                gateway.sidecar.send(signal.SIGTERM)
    tell(requests=crowd.requests, labels=dict(crowd.labels()), slowest_s=crowd.slowest_s, ext_proc_failed=failures)
    assert [] == crowd.failures
    assert {"HIT", "MISS"} == set(crowd.labels())
