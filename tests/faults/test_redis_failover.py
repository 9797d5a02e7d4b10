"""A Sentinel failover, a Cluster's, and a slot on its way from node to node: nobody fails, and the cache comes back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.crc import key_slot

from tests.faults.conftest import Tell
from tests.support.crowd import Answered, Crowd, ask_all, echo
from tests.support.figures import scrape, wait_until
from tests.support.gateway import Gateway
from tests.support.redis_fleet import ClusterFleet, SentinelFleet, Step
from tests.support.redis_server import RedisServer
from tests.support.soak import either

pytestmark = pytest.mark.alone

BACK_S_MAX = either(6.0, 3.0)
BUDGET_BOUND_S = either(0.1, 0.06)
FAILOVERS = either(1, 5)
KNOWN = [f"known {number}" for number in range(60)]


def known(gateway: Gateway) -> list[Answered]:
    """Ask what was stored at the beginning."""
    return asyncio.run(ask_all([gateway.port], KNOWN))


@pytest.mark.slow
@pytest.mark.parametrize("frozen", either([False], [False, True]), ids=["kill -9", "SIGSTOP"][: either(1, 2)])
def test_a_sentinel_failover(tmp_path: Path, tell: Tell, frozen: bool) -> None:
    """With its master gone the cache goes on at the one that is promoted, and finds what was stored there."""
    back, stores, waits = [], [], 0
    with SentinelFleet(tmp_path / "redis") as fleet:
        store = {
            "type": "redis",
            "url": [f"redis://{host}:{port}" for host, port in fleet.sentinels],
            "sentinel": {"master": fleet.master_name},
        }
        with Gateway(tmp_path, {"store": store, "near": {"bytes_max": 0}}) as gateway:
            gateway.upstream.fresh(echo)
            with Crowd([gateway.port]) as crowd:
                crowd.wait_for(200)
                for _ in range(FAILOVERS):
                    former = fleet.master
                    if frozen:
                        former.freeze()
                    else:
                        fleet.kill_master()
                    fleet.wait_for_promotion()
                    promoted = fleet.promoted_at
                    back.append(crowd.hits_after(promoted))
                    stored = scrape(gateway).total("aicache_store_total", result="stored")

                    def stores_again(stored: float = stored) -> bool:
                        return scrape(gateway).total("aicache_store_total", result="stored") > stored

                    wait_until(stores_again, "stores nothing")
                    stores.append(time.monotonic() - promoted)
                    (former.thaw if frozen else former.start)()
                    fleet.wait_for_return(former)
                    crowd.wait_for(100)
            waits = scrape(gateway).waits_over(BUDGET_BOUND_S)
    tell(requests=crowd.requests, labels=dict(crowd.labels()), slowest_s=crowd.slowest_s, waits_beyond_budget=waits)
    tell(hits_back_s=max(back), stores_back_s=max(stores))
    assert [] == crowd.failures
    assert 0 == waits
    assert max(back) < BACK_S_MAX
    assert max(stores) < BACK_S_MAX


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ClusterFleet]:
    """Six nodes."""
    with ClusterFleet(tmp_path / "redis") as running:
        yield running


def clustered(cluster: ClusterFleet) -> dict[str, Any]:
    """A sidecar's document that names three of the nodes, and keeps nothing near."""
    urls = [f"redis://{host}:{port}" for host, port in cluster.addresses[:3]]
    return {"store": {"type": "redis", "url": urls, "cluster": True}, "near": {"bytes_max": 0}}


def keys_at(node: RedisServer) -> dict[str, bytes]:
    """The keys of the entries that a node holds, by what answers call them."""
    keys = [key for key in node.cli("KEYS", "aicache:0:*") if not key.endswith(b":lease")]
    return {key.rpartition(b":")[2][:32].decode(): key for key in keys}


@pytest.mark.slow
def test_a_cluster_loses_a_master(tmp_path: Path, tell: Tell, cluster: ClusterFleet) -> None:
    """Slots without a master are bypassed; soon after the promotion what was stored there is a hit again."""
    back, there = [], 0
    with Gateway(tmp_path, clustered(cluster)) as gateway:
        gateway.upstream.fresh(echo)
        ids = [answered.key for answered in known(gateway)]
        with Crowd([gateway.port]) as crowd:
            crowd.wait_for(200)
            for round_ in range(either(1, 3)):
                slot = 16_383 * round_ // 2
                killed = cluster.master_of(slot)
                lost = [question for question, ident in zip(KNOWN, ids, strict=True) if ident in keys_at(killed)]
                there += len(lost)
                killed.cli("WAIT", 1, 1000)
                cluster.kill(killed)
                cluster.wait_for_promotion(slot, killed)
                promoted = time.monotonic()

                def all_hit(lost: list[str] = lost) -> bool:
                    answers = asyncio.run(ask_all([gateway.port], lost))
                    return {"HIT"} == {answered.label for answered in answers}

                wait_until(all_hit, "no hits at the promoted node")
                back.append(time.monotonic() - promoted)
                killed.start()
                cluster.wait_until_whole()
        waits = scrape(gateway).waits_over(BUDGET_BOUND_S)
    tell(requests=crowd.requests, labels=dict(crowd.labels()), slowest_s=crowd.slowest_s, waits_beyond_budget=waits)
    tell(hits_back_s=max(back), entries_there=there)
    assert [] == crowd.failures
    assert 0 < there
    assert 0 == waits
    assert max(back) < BACK_S_MAX


@pytest.mark.slow
def test_slots_of_a_cluster_move(tmp_path: Path, tell: Tell, cluster: ClusterFleet) -> None:
    """While slots move, with their keys on either side, every request is answered; MOVED and ASK are followed."""
    asks: list[str] = []
    with Gateway(tmp_path, clustered(cluster)) as gateway:
        gateway.upstream.fresh(echo)
        ids = [answered.key for answered in known(gateway)]
        masters = cluster.nodes[:3]
        with Crowd([gateway.port]) as crowd:
            crowd.wait_for(200)
            for number, (question, ident) in enumerate(zip(KNOWN, ids, strict=True)):
                if number >= either(10, 60):
                    break
                key = next(keys_at(node)[ident] for node in masters if ident in keys_at(node))
                source = cluster.master_of(key_slot(key))
                target = next(node for node in masters if node is not source)

                def look(step: Step, question: str = question) -> None:
                    (answered,) = asyncio.run(ask_all([gateway.port], [question]))
                    asks.append(f"{step.name} {answered.label} {answered.reason}".strip())

                cluster.move_slot(key_slot(key), target, stepwise=look)
        again = known(gateway)
        figures = scrape(gateway)
    labels = {label: asks.count(label) for label in sorted(set(asks))}
    tell(requests=crowd.requests, labels=dict(crowd.labels()), while_moving=labels, slowest_s=crowd.slowest_s)
    assert [] == crowd.failures
    assert {"OPENED HIT", "KEY HIT", "OWNED HIT"} >= set(labels), "the key is always at one of both"
    assert {"HIT"} == {answered.label for answered in again}
    assert 0 == figures.waits_over(BUDGET_BOUND_S)
