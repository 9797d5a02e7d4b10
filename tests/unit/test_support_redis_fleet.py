"""The tests' own fleets really fail over and really redirect."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from redis.crc import key_slot
from redis.exceptions import AskError, MovedError

from tests.support.redis_fleet import ClusterFleet, SentinelFleet, Step
from tests.support.redis_server import RedisServer


@pytest.mark.parametrize("passwords", [(None, None), ("data", "sentry")], ids=["open", "with passwords"])
def test_sentinels_promote_the_replica_of_a_killed_master(
    tmp_path: Path, passwords: tuple[str | None, str | None]
) -> None:
    """Whoever asks any Sentinel is sent to the other node after the master has died, and finds the data it had."""
    password, sentinel_password = passwords

    def asked() -> set[int]:
        """What the Sentinels say."""
        ports = set()
        for _host, at in fleet.sentinels:
            with redis.Redis(port=at, password=sentinel_password) as client:
                _, port = client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", fleet.master_name)
                ports.add(int(port))
        return ports

    with SentinelFleet(tmp_path, password=password, sentinel_password=sentinel_password) as fleet:
        fleet.master.cli("SET", "key", "value")
        fleet.master.cli("WAIT", 1, 1000)
        assert {fleet.master.port} == asked()
        died = time.monotonic()
        killed = fleet.kill_master()
        promoted = fleet.wait_for_promotion()
        assert {promoted.port} == asked()
        with redis.Redis(port=promoted.port, password=password) as client:
            assert b"value" == client.get("key")
            client.set("key", "other")
    assert promoted is fleet.master
    assert killed is not promoted
    assert 0.4 < fleet.promoted_at - died < 10


def test_a_killed_master_comes_back_as_a_replica(tmp_path: Path) -> None:
    """Until the Sentinels have seen the old master again it takes itself for one, and then it follows."""
    with SentinelFleet(tmp_path) as fleet:
        killed = fleet.kill_master()
        promoted = fleet.wait_for_promotion()
        promoted.cli("SET", "key", "value")
        killed.start()
        assert b"master" == killed.cli("ROLE")[0]
        fleet.wait_for_return(killed)
        assert b"value" == killed.cli("GET", "key")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterFleet]:
    """Six nodes, formed; its users take keys of their own and leave every node alive."""
    with ClusterFleet(tmp_path_factory.mktemp("cluster")) as running:
        yield running


def answer_of(node: RedisServer, key: str) -> object:
    """What a node says to GET, a redirection being an answer as well."""
    try:
        return node.cli("GET", key)
    except (AskError, MovedError) as redirection:
        return type(redirection), redirection.port


def test_a_cluster_is_whole_and_redirects(cluster: ClusterFleet) -> None:
    """Every slot is served, every master has its replica, and the others name the owner of a key."""
    slot = key_slot(b"key")
    owner = cluster.master_of(slot)
    owner.cli("SET", "key", "value")
    strangers = [node for node in cluster.nodes if node is not owner]
    assert [(MovedError, owner.port)] * 5 == [answer_of(node, "key") for node in strangers]
    assert cluster.nodes[3:] == [cluster.replica_of(node) for node in cluster.nodes[:3]]
    assert 6 == len({port for _, port in cluster.addresses})


def test_a_slot_moves_with_its_keys_and_asks_on_the_way(tmp_path: Path) -> None:
    """A key that is already there is an ASK, one that is still here is answered, and in the end all is a MOVED."""
    with ClusterFleet(tmp_path, password="secret") as cluster:
        slot = key_slot(b"tag")
        source = cluster.master_of(slot)
        target = next(node for node in cluster.nodes[:3] if node is not source)
        for key in ("{tag}1", "{tag}2"):
            source.cli("SET", key, "value")
        seen: dict[Step, list[set[object]]] = {step: [] for step in Step}
        asked, moved = (AskError, target.port), (MovedError, target.port)

        def look(step: Step) -> None:
            seen[step].append({answer_of(source, key) for key in ("{tag}1", "{tag}2")})
            if step is Step.OPENED:
                assert asked == answer_of(source, "{tag}unknown")

        cluster.move_slot(slot, target, stepwise=look)
        assert {Step.OPENED: [{b"value"}], Step.KEY: [{b"value", asked}, {asked}], Step.OWNED: [{moved}]} == seen
        assert target is cluster.master_of(slot)
        assert b"value" == target.cli("GET", "{tag}1")
        cluster.wait_until_whole()


def test_a_move_that_is_stopped_stays_half_done(cluster: ClusterFleet) -> None:
    """A hook that raises leaves the slot open, so that a test can look at it for as long as it likes."""
    slot = key_slot(b"half")
    source = cluster.master_of(slot)
    target = next(node for node in cluster.nodes[:3] if node is not source)
    with pytest.raises(InterruptedError):
        cluster.move_slot(slot, target, stepwise=_stop)
    assert (AskError, target.port) == answer_of(source, "half")
    assert source is cluster.master_of(slot)
    cluster.move_slot(slot, target)
    assert target is cluster.master_of(slot)


def _stop(_step: Step) -> None:
    raise InterruptedError


def _kill(cluster: ClusterFleet, node: RedisServer) -> None:
    cluster.kill(node)


def _freeze(_cluster: ClusterFleet, node: RedisServer) -> None:
    node.freeze()


@pytest.mark.slow
@pytest.mark.parametrize("harm", [_kill, _freeze], ids=["killed", "frozen"])
def test_a_cluster_promotes_the_replica_of_a_lost_node(
    tmp_path: Path, harm: Callable[[ClusterFleet, RedisServer], None]
) -> None:
    """The replica serves the slot with its data, and still does when the lost node is back and follows it."""
    slot = key_slot(b"key")
    with ClusterFleet(tmp_path) as cluster:
        lost = cluster.master_of(slot)
        heir = cluster.replica_of(lost)
        lost.cli("SET", "key", "value")
        lost.cli("WAIT", 1, 1000)
        harm(cluster, lost)
        assert heir is cluster.wait_for_promotion(slot, lost)
        assert b"value" == heir.cli("GET", "key")
        lost.thaw()
        if not lost.running:
            lost.start()
        assert heir is cluster.wait_for_promotion(slot, lost)
        assert (MovedError, heir.port) == answer_of(lost, "key")
        assert lost is cluster.replica_of(heir)
