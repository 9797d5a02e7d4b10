"""Clocks that disagree by a day, or jump: no answer has a negative age, none lives longer for it, and nobody fails."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import Tell
from tests.faults.shifted_clock import DAY_S
from tests.support.crowd import Answered, Crowd, Line, echo
from tests.support.figures import entry_keys, scrape, wait_until
from tests.support.gateway import Gateway, redis_store
from tests.support.redis_server import RedisServer
from tests.support.soak import either
from tests.support.upstream import Received, Script, answer, completion

TTL_S = 3600


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis."""
    with RedisServer(tmp_path / "redis") as running:
        yield running


def shifted(folder: Path, redis: RedisServer, shift_s: float, other: Gateway) -> Gateway:
    """A gateway whose sidecar lives at another time, over the same Redis and upstream."""
    launch = ("tests.faults.shifted_clock", str(shift_s))
    return Gateway(folder, {"store": redis_store(redis.port)}, launch=launch, upstream=other.upstream)


def ask(gateway: Gateway, question: str, *, streamed: bool = False) -> Answered:
    """One question."""

    async def asked() -> Answered:
        line = Line(gateway.port)
        try:
            return await line.ask(question, streamed=streamed)
        finally:
            await line.close()

    return asyncio.run(asked())


def lifetimes(redis: RedisServer) -> list[float]:
    """How long each entry has left in Redis, in seconds."""
    return [redis.cli("PTTL", key) / 1000 for key in entry_keys(redis)]


def without_usage(received: Received) -> Script:
    """JSON that lacks what a stream brings no more than it does, so that neither can be made of the other."""
    if received.json()["stream"]:
        return echo(received)
    body = json.loads(completion("as JSON"))
    del body["usage"]
    return answer(json.dumps(body).encode())


@pytest.mark.slow
@pytest.mark.parametrize("shift_s", [DAY_S, -DAY_S], ids=["a day ahead", "a day behind"])
def test_replicas_a_day_apart(tmp_path: Path, tell: Tell, redis: RedisServer, shift_s: float) -> None:
    """What either stores lives no longer than its rule says, and is a hit or a miss at the other, never older than it is."""
    with (
        Gateway(tmp_path / "here", {"store": redis_store(redis.port)}) as here,
        shifted(tmp_path / "there", redis, shift_s, here) as there,
    ):
        here.upstream.fresh(echo)
        seen: dict[str, Answered] = {}
        for first, second, question in ((here, there, "from here"), (there, here, "from there")):
            assert "MISS" == ask(first, question).label
            wait_until(lambda: len(entry_keys(redis)) > len(seen), "not stored")
            seen[question] = ask(second, question)
        # One of both finds the other's answer fresh, and one finds it long expired.
        assert ["HIT", "MISS"] == sorted(answered.label for answered in seen.values())
        here.upstream.fresh(without_usage)
        ask(here, "in both modes", streamed=True)
        wait_until(lambda: len(entry_keys(redis)) == 3, "not stored")
        stored = scrape(there).total("aicache_store_total", result="stored")
        assert "MISS" == ask(there, "in both modes").label
        wait_until(lambda: scrape(there).total("aicache_store_total", result="stored") > stored, "not stored")
        left = lifetimes(redis)
        faults = [scrape(each).total("aicache_exchange_faults_total") for each in (here, there)]
    tell(labels={question: answered.label for question, answered in seen.items()}, longest_left_s=max(left))
    assert all(0 <= answered.age_s <= 5 for answered in seen.values())
    assert all(TTL_S / 2 < each <= TTL_S for each in left)
    assert [0, 0] == faults


@pytest.mark.slow
@pytest.mark.alone
def test_a_clock_that_is_set_back(tmp_path: Path, tell: Tell, redis: RedisServer) -> None:
    """A day back under load, and Redis gone and back after it: nobody fails, and waits are bounded as ever."""
    with Gateway(tmp_path / "here", {"store": redis_store(redis.port)}) as here:
        here.upstream.fresh(echo)
        with shifted(tmp_path / "there", redis, 0.0, here) as there, Crowd([there.port]) as crowd:
            crowd.wait_for(200)
            jumped = time.monotonic()
            there.sidecar.send(signal.SIGUSR1)
            back_s = crowd.hits_after(jumped)
            crowd.wait_for(200)
            redis.kill()
            crowd.wait_for(200)
            redis.start()
            here_s = crowd.hits_after(time.monotonic())
            figures = scrape(there)
    tell(requests=crowd.requests, hits_after_the_jump_s=back_s, hits_after_redis_s=here_s)
    assert [] == crowd.failures
    assert 0 == figures.waits_over(either(0.1, 0.06))
    assert 0 == figures.total("aicache_exchange_faults_total")
    assert all(0 < each <= TTL_S for each in lifetimes(redis))
