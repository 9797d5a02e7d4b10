"""An embedder or an index that is slow, down, refuses or lies: nobody's request fails, and exact hits do not notice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.faults.conftest import Tell
from tests.support.crowd import Crowd, echo
from tests.support.embedding_servers import OpenAI, Vector, vector_of
from tests.support.fault_proxy import FaultProxy
from tests.support.figures import Figures, scrape, wait_until
from tests.support.gateway import Gateway
from tests.support.http_service import Asked, HttpService, Told
from tests.support.loop_thread import LoopThread
from tests.support.real_vectors import PASSWORD, USER, searching_redis
from tests.support.redis_server import RedisServer
from tests.support.soak import either

pytestmark = pytest.mark.alone

REQUESTS = either(150, 1000)
FAULT_S = either(0.5, 10.0)
EMBED_MS = 100
"""With 50 for the store and 50 for the index, 200 in all, which Envoy grants."""
BUDGET_BOUND_S = 0.25


class Rig(NamedTuple):
    """A gateway whose sidecar asks an embedder through a proxy, and an index of a Redis of its own."""

    embedder: OpenAI
    service: HttpService
    proxy: FaultProxy
    searched: RedisServer
    gateway: Gateway


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """One for all faults; each leaves it whole."""
    folder: Path = tmp_path_factory.mktemp("meaning")
    vendor, loop, stack = OpenAI(), LoopThread("embedder"), AsyncExitStack()
    service = HttpService(vendor)
    loop.run(stack.enter_async_context(service.serving()))
    try:
        with FaultProxy(("127.0.0.1", service.port)) as proxy, searching_redis(folder / "index") as index:
            document = {
                "embedder": {
                    **vendor.settings(f"http://127.0.0.1:{proxy.port}"),
                    "timeout_ms": EMBED_MS,
                    "probe_ms": 100,
                    "cache_bytes_max": 0,
                },
                "index": {
                    "type": "redisearch",
                    "url": f"redis://127.0.0.1:{index.port}",
                    "username": USER,
                    "password": PASSWORD,
                },
                # Each crowd asks the same questions again, which are to be new to it.
                "rules": [{"name": "default", "layers": ["exact", "semantic"], "ttl_s": 1}],
            }
            with Gateway(folder, document) as gateway:
                gateway.upstream.fresh(echo)
                yield Rig(vendor, service, proxy, index, gateway)
    finally:
        loop.run(stack.aclose())
        loop.stop()


def with_vector(change: Callable[[Vector], Vector]) -> Callable[[Rig], None]:
    """The fault of vectors that are of no use."""

    def spoil(rig: Rig) -> None:
        rig.embedder.make = lambda text, dimensions: change(vector_of(text, dimensions))

    return spoil


def answering(status: int) -> Callable[[Rig], None]:
    """The fault that answers with an error."""

    def spoil(rig: Rig) -> None:
        def refuse(_: Asked) -> Told:
            return Told(status, {"error": {"message": "no"}}, {"retry-after": "1"})

        rig.service.answer = refuse

    return spoil


FAULTS: dict[str, Callable[[Rig], None]] = {
    "embedder 5 s late": lambda rig: rig.proxy.delay(5.0),
    "embedder half open": lambda rig: rig.proxy.half_open(),
    "embedder resets": lambda rig: rig.proxy.reset_mid_reply(after_bytes=1),
    "embedder talks rubbish": lambda rig: rig.proxy.garbage(),
    "embedder says 429": answering(429),
    "embedder says 500": answering(500),
    "vectors too short": with_vector(lambda vector: vector[:-1]),
    "vectors of zeros": with_vector(lambda vector: [0.0] * len(vector)),
    "vectors with null": with_vector(lambda vector: [None, *vector[1:]]),
    "index frozen": lambda rig: rig.searched.freeze(),
}


def heal(rig: Rig) -> None:
    """As it was."""
    rig.proxy.pass_through()
    rig.service.answer = rig.embedder
    rig.embedder.make = vector_of
    rig.searched.thaw()


def searched(figures: Figures) -> float:
    """How many questions were looked for by their meaning without a fault."""
    return sum(figures.total("aicache_semantic_total", result=result) for result in ("empty", "below", "vetoed", "hit"))


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_nobody_waits_longer_than_the_budget(rig: Rig, tell: Tell, fault: Callable[[Rig], None]) -> None:
    """Every answer is whole and in time, the trouble is counted, exact hits go on; meaning is back once it is over."""
    healthy = searched(scrape(rig.gateway))
    with Crowd([rig.gateway.port], clients=12, pause_s=0.04) as crowd:
        crowd.hits_after(time.monotonic())
        wait_until(lambda: searched(scrape(rig.gateway)) > healthy, "nothing is searched")
        before, since = scrape(rig.gateway), time.monotonic()
        try:
            fault(rig)
            crowd.wait_for(REQUESTS)
            crowd.go_on(since + FAULT_S - time.monotonic())
        finally:
            during = scrape(rig.gateway)
            heal(rig)
        labels = crowd.labels(since)
        back_s = wait_until(lambda: searched(scrape(rig.gateway)) > searched(during), "meaning does not come back")
    late = during.waits_over(BUDGET_BOUND_S) - before.waits_over(BUDGET_BOUND_S)
    failed = _grown(before, during, "failed") + _grown(before, during, "late")
    tell(requests=crowd.requests, labels=dict(labels), failed=failed, back_s=back_s, slowest_s=crowd.slowest_s)
    assert [] == crowd.failures
    assert 0 == late
    assert failed > 0
    assert labels["HIT"] > 0
    assert {label.split()[0] for label in labels} == {"HIT", "MISS"}
    assert 0 == during.total("aicache_exchange_faults_total")


def _grown(before: Figures, after: Figures, result: str) -> float:
    name: Any = "aicache_semantic_total"
    return after.total(name, result=result) - before.total(name, result=result)
