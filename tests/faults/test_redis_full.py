"""Redis full, flushed, evicting, or slow to write: the cache forgets, and nobody waits or fails."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import Tell
from tests.support.crowd import Crowd, ask_all, echo
from tests.support.fault_proxy import FaultProxy
from tests.support.figures import PeakMemory, entry_keys, rss, scrape, wait_until
from tests.support.gateway import Gateway, redis_store
from tests.support.redis_server import RedisServer
from tests.support.soak import either

pytestmark = pytest.mark.alone

IDENTITY = "aicache:identity-key"
HEALED_S_MAX = 12.0
"""The identity key is looked at every ten seconds."""
BACK_S_MAX = either(4.0, 2.0)
PRESSURE_S = either(1.5, 60.0)
ROOM = 200_000
QUEUED = 20
MIB = 1024 * 1024


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis."""
    with RedisServer(tmp_path / "redis") as running:
        yield running


@pytest.mark.slow
def test_flushall_empties_the_cache_and_no_more(tmp_path: Path, tell: Tell, redis: RedisServer) -> None:
    """Every entry and the identity key gone at once fails nobody; hits come back, and the same key is put back."""
    with Gateway(tmp_path, {"store": redis_store(redis.port)}) as gateway:
        gateway.upstream.fresh(echo)
        key, back, healed_s = redis.cli("GET", IDENTITY), [], 0.0
        with Crowd([gateway.port]) as crowd:
            crowd.wait_for(300)
            for _ in range(either(1, 10)):
                flushed = time.monotonic()
                redis.cli("FLUSHALL")
                back.append(crowd.hits_after(flushed))
                healed_s = wait_until(lambda: redis.cli("EXISTS", IDENTITY) == 1, "no identity key", seconds=30)
    tell(requests=crowd.requests, labels=dict(crowd.labels()), hits_back_s=max(back), identity_key_back_s=healed_s)
    assert [] == crowd.failures
    assert key == redis.cli("GET", IDENTITY)
    assert max(back) < BACK_S_MAX
    assert healed_s < HEALED_S_MAX
    assert 0 == crowd.labels()["BYPASS store_error"]


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["noeviction", "allkeys-lru"])
def test_a_full_redis_fails_nobody(tmp_path: Path, tell: Tell, redis: RedisServer, policy: str) -> None:
    """Out of memory, writes are refused or push others out; both are seen in metrics only, and pass."""
    near = {"bytes_max": 64 * 1024}
    with Gateway(tmp_path, {"store": redis_store(redis.port), "near": near}) as gateway:
        gateway.upstream.fresh(echo)
        with Crowd([gateway.port]) as crowd:
            crowd.wait_for(300)
            redis.cli("CONFIG", "SET", "maxmemory-policy", policy)
            redis.cli("CONFIG", "SET", "maxmemory", redis.cli("INFO", "memory")["used_memory"] + ROOM)
            pressed = time.monotonic()
            crowd.go_on(PRESSURE_S)
            full = scrape(gateway)
            redis.cli("CONFIG", "SET", "maxmemory", 0)
            relieved = time.monotonic()
            stored = full.total("aicache_store_total", result="stored")
            wait_until(lambda: scrape(gateway).total("aicache_store_total", result="stored") > stored, "stores nothing")
            back_s = crowd.hits_after(relieved)
        evicted = redis.cli("INFO", "stats")["evicted_keys"]
        refused = full.total("aicache_backend_errors_total", backend="redis", kind="rejected")
    labels = crowd.labels(pressed)
    tell(requests=crowd.requests, labels=dict(labels), evicted=evicted, refused=refused, hits_back_s=back_s)
    assert [] == crowd.failures
    assert 0 < (refused if policy == "noeviction" else evicted)
    assert 0 < labels["HIT"], "a full cache still answers"
    assert back_s < BACK_S_MAX
    assert 0 == full.total("aicache_breaker_opened_total")


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [False, True], ids=["writes paused", "frozen"])
def test_a_flood_of_misses_does_not_wait_for_writes(
    tmp_path: Path, tell: Tell, redis: RedisServer, frozen: bool
) -> None:
    """With a store that takes no writes the queue fills to its bound; what does not fit is dropped and counted."""
    config = {
        # The breaker would hold off the flood.
        "store": redis_store(redis.port, failures_max=1_000_000),
        "lookup": {"flight_wait_ms": 0},
        "write_queue": {"entries_max": QUEUED},
    }
    with Gateway(tmp_path, config) as gateway, Crowd([gateway.port], clients=32, repertoire=1) as crowd:
        gateway.upstream.fresh(echo)
        crowd.wait_for(500)
        base = rss(gateway.sidecar.pid)
        flooded = time.monotonic()
        if frozen:
            redis.freeze()
        else:
            redis.cli("CLIENT", "PAUSE", 600_000, "WRITE")
        longest = 0.0
        with PeakMemory(gateway.sidecar.pid) as peak:
            while time.monotonic() < flooded + either(2.0, 60.0):
                longest = max(longest, scrape(gateway).total("aicache_write_queue_entries"))
                crowd.go_on(0.05)
        figures = scrape(gateway)
        redis.thaw()
        redis.cli("CLIENT", "UNPAUSE")
        back_s = crowd.hits_after(time.monotonic())
    slowest = max(asked.seconds for asked in crowd.between(flooded) if not asked.streamed)
    dropped = figures.total("aicache_store_total", result="dropped", reason="queue_full")
    tell(requests=crowd.requests, labels=dict(crowd.labels(flooded)), dropped=dropped, queue_longest=longest)
    tell(slowest_json_s=slowest, memory_grown_mib=(peak.bytes - base) / MIB, hits_back_s=back_s)
    assert [] == crowd.failures
    assert 0 < dropped
    assert longest <= QUEUED
    assert 0 == figures.waits_over(either(0.1, 0.06))
    assert slowest < 1.0
    assert peak.bytes - base < 32 * MIB


def test_sigterm_stores_what_is_queued(tmp_path: Path, tell: Tell, redis: RedisServer) -> None:
    """Answers that wait for a slow Redis are all there once the sidecar has ended."""
    slow_s, questions = 0.1, [f"queued {number}" for number in range(QUEUED)]
    with FaultProxy(("127.0.0.1", redis.port)) as proxy:
        # Late replies are no failures here.
        config = {"store": redis_store(proxy.port, timeout_ms=2_000), "drain": {"writes_s": 30}}
        with Gateway(tmp_path, config) as gateway:
            gateway.upstream.fresh(echo)
            proxy.delay(slow_s)
            asyncio.run(ask_all([gateway.port], questions, at_once=QUEUED))
            before = len(entry_keys(redis))
            started = time.monotonic()
            code = gateway.sidecar.stop(signal.SIGTERM, seconds=40)
            took_s = time.monotonic() - started
    tell(stored_before=before, stored=len(entry_keys(redis)), stop_s=took_s)
    assert 0 == code
    assert before < QUEUED, "nothing was queued"
    assert QUEUED == len(entry_keys(redis))
