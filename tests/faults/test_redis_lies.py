"""Redis slow, cut off, talking rubbish or refusing: nobody's request fails, and a connection gone bad is not kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.faults.conftest import Tell
from tests.support.crowd import Crowd, echo
from tests.support.fault_proxy import FaultProxy
from tests.support.figures import scrape
from tests.support.gateway import Gateway, redis_store
from tests.support.redis_server import RedisServer
from tests.support.soak import either

pytestmark = pytest.mark.alone

REQUESTS = either(200, 1000)
FAULT_S = either(0.7, 10.0)
BUDGET_BOUND_S = either(0.1, 0.06)
BACK_S_MAX = either(4.0, 2.0)
SILENCE_S = 3.0
"""How long a connection may be silent beyond an answer's time before it is given up."""
WRITES = ("SET", "DEL")


class Rig(NamedTuple):
    """A gateway whose sidecar reaches Redis through a proxy, and keeps nothing near."""

    redis: RedisServer
    proxy: FaultProxy
    gateway: Gateway


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """One for all faults; each leaves it whole."""
    folder: Path = tmp_path_factory.mktemp("lies")
    with (
        RedisServer(folder / "redis") as redis,
        FaultProxy(("127.0.0.1", redis.port)) as proxy,
        Gateway(folder, {"store": redis_store(proxy.port), "near": {"bytes_max": 0}}) as gateway,
    ):
        gateway.upstream.fresh(echo)
        yield Rig(redis, proxy, gateway)


def saying(line: bytes, only: tuple[str, ...] | None = None) -> Callable[[FaultProxy], None]:
    """The fault that answers with an error of Redis."""
    return lambda proxy: proxy.reply_with(line + b"\r\n", only=only)


LASTING = {
    "200 ms late": lambda proxy: proxy.delay(0.2),
    "5 s late": lambda proxy: proxy.delay(5.0),
    "a byte a second": lambda proxy: proxy.drip(1.0),
    "half open": FaultProxy.half_open,
    "BUSY": saying(b"-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."),
    "MOVED": saying(b"-MOVED 3999 127.0.0.1:6381"),
    "OOM": saying(b"-OOM command not allowed when used memory > 'maxmemory'.", WRITES),
    "WRONGTYPE": saying(b"-WRONGTYPE Operation against a key holding the wrong kind of value", ("GET",)),
    "NOPERM": saying(b"-NOPERM this user has no permissions to run the command", ("GET", *WRITES)),
}
"""What a connection may survive."""

DROPPED = {
    "reset in a reply": lambda proxy: proxy.reset_mid_reply(after_bytes=1),
    "garbage": FaultProxy.garbage,
    "a number that is none": lambda proxy: proxy.garbage(b":oops\r\n"),
    "a reply too many": lambda proxy: proxy.garbage(b"+OK\r\n" * 50),
    "LOADING": saying(b"-LOADING Redis is loading the dataset in memory"),
    "LOADING to GET": saying(b"-LOADING Redis is loading the dataset in memory", ("GET",)),
    "READONLY": saying(b"-READONLY You can't write against a read only replica.", WRITES),
    "NOAUTH": saying(b"-NOAUTH Authentication required.", ("GET", *WRITES)),
    "MASTERDOWN": saying(
        b"-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", ("GET",)
    ),
}
"""After what a connection must not be used again."""

FAULTS = [pytest.param(fault, False, id=name) for name, fault in LASTING.items()]
FAULTS += [pytest.param(fault, True, id=name) for name, fault in DROPPED.items()]


@pytest.mark.parametrize(("fault", "dropped"), FAULTS)
def test_a_lying_redis_fails_nobody(rig: Rig, tell: Tell, fault: Callable[[FaultProxy], None], dropped: bool) -> None:
    """Every answer is whole and in time, the trouble is counted, and hits are back soon after it is over."""
    with Crowd([rig.gateway.port], clients=24, pause_s=0.04) as crowd:
        crowd.hits_after(time.monotonic())
        before, connections = scrape(rig.gateway), rig.proxy.connections_accepted
        since = time.monotonic()
        fault(rig.proxy)
        crowd.wait_for(REQUESTS)
        crowd.go_on(since + FAULT_S - time.monotonic())
        during = scrape(rig.gateway)
        rig.proxy.pass_through()
        back_s = crowd.hits_after(time.monotonic())
    renewed = rig.proxy.connections_accepted - connections
    late = during.waits_over(BUDGET_BOUND_S) - before.waits_over(BUDGET_BOUND_S)
    errors = during.total("aicache_backend_errors_total") - before.total("aicache_backend_errors_total")
    opened = during.total("aicache_breaker_opened_total") - before.total("aicache_breaker_opened_total")
    tell(requests=crowd.requests, labels=dict(crowd.labels(since)), slowest_s=crowd.slowest_s, hits_back_s=back_s)
    tell(waits_beyond_budget=late, errors=errors, breaker_opened=opened, connections_renewed=renewed)
    assert [] == crowd.failures
    assert 0 == late
    assert 0 < errors
    assert not dropped or 0 < renewed
    assert back_s < BACK_S_MAX + SILENCE_S
    assert 0 == during.total("aicache_exchange_faults_total")
