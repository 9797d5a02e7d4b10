"""Several real Redis servers at once: a master with its replica and three Sentinels, or a Cluster of six nodes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Self

import redis

from tests.support.redis_server import ADMIN, ADMIN_PASSWORD, RedisServer, server_port

WAIT_S_MAX = 30.0
SLOTS = 16_384
HOST = "127.0.0.1"


class _Fleet:
    """Starts its servers together and kills them together."""

    def __init__(self, servers: Sequence[RedisServer]) -> None:
        self.servers = servers

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            for server in self.servers:
                undo.callback(server.kill)
                server.launch()
            for server in self.servers:
                server.wait_ready()
            self.form()
            undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self.servers:
            server.kill()

    def form(self) -> None:
        """Return when the servers know one another."""
        raise NotImplementedError


class SentinelFleet(_Fleet):
    """A master, a replica and three Sentinels with a quorum of two; a context manager.

    password, sentinel_password: of the data nodes' and of the Sentinels' default user. The first
    Sentinel finds its master down after `down_after_ms`, 600 at least. promoted_at: `time.monotonic()` when the last promotion was seen at the node itself.
    """

    master_name = "cache-master"

    def __init__(
        self,
        folder: Path,
        *,
        password: str | None = None,
        sentinel_password: str | None = None,
        down_after_ms: int = 800,
        options: Sequence[str] = (),
    ) -> None:
        data = ["repl-diskless-sync-delay 0", "repl-timeout 5", "repl-ping-replica-period 1", *options]
        if password:
            data.append(f"masterauth {password}")
        first = RedisServer(folder / "node0", port=server_port(), options=data, acl=_only_user(password))
        second = RedisServer(
            folder / "node1",
            port=server_port(),
            options=[*data, f"replicaof {HOST} {first.port}"],
            acl=_only_user(password),
        )
        self.nodes = [first, second]
        self.master = first
        self.promoted_at = 0.0
        self._down_after_ms = down_after_ms
        watch = [
            f"sentinel monitor {self.master_name} {HOST} {first.port} 2",
            f"sentinel failover-timeout {self.master_name} 2000",
        ]
        if password:
            watch.append(f"sentinel auth-pass {self.master_name} {password}")
        if sentinel_password:
            watch.append(f"sentinel sentinel-pass {sentinel_password}")
        self.sentinel_servers = [
            RedisServer(
                folder / f"sentinel{n}",
                port=server_port(),
                # One after the other: three that find the master down in one moment vote for themselves, every four
                # seconds anew.
                options=[*watch, f"sentinel down-after-milliseconds {self.master_name} {down_after_ms + 200 * n}"],
                acl=_only_user(sentinel_password),
                arguments=["--sentinel"],
            )
            for n in range(3)
        ]
        super().__init__([*self.nodes, *self.sentinel_servers])

    @property
    def sentinels(self) -> list[tuple[str, int]]:
        """The addresses of the Sentinels."""
        return [(HOST, sentinel.port) for sentinel in self.sentinel_servers]

    def form(self) -> None:
        """Return when the replica is in sync and every Sentinel knows the replica and the other two."""
        for sentinel in self.sentinel_servers:
            # A Sentinel dials a node again at most once in this period. The promotion itself ends its connections, so
            # with the second it takes by default it would find the new master down before it has dialled it. Five of
            # them are how old its knowledge of a replica may be that it promotes, and it asks once a second.
            sentinel.cli("SENTINEL", "DEBUG", "PING-PERIOD", self._down_after_ms * 2 // 5)
        self._hurry(lambda: all(map(self._knows_all, self.sentinel_servers)), "the Sentinels do not find one another")
        _wait_until(self._in_sync, "the replica does not follow")

    def kill_master(self) -> RedisServer:
        """SIGKILL the master; returns it."""
        killed = self.master
        killed.kill()
        return killed

    def wait_for_promotion(self) -> RedisServer:
        """Return the other node when it is a master and every running Sentinel names it; it is `master` from then on."""
        (other,) = (node for node in self.nodes if node is not self.master)
        _wait_until(lambda: other.cli("ROLE")[0] == b"master", "nobody was promoted")
        self.promoted_at = time.monotonic()
        _wait_until(lambda: all(self._names(sentinel) == other.port for sentinel in self._running), "not all know it")
        self.master = other
        return other

    def wait_for_return(self, node: RedisServer) -> None:
        """Return when a former master, started again or thawed, is a replica in sync with the master.

        Until then it takes itself for a master. The Sentinels are hurried; left alone they take ten seconds.
        """
        self._hurry(lambda: _in_sync(node), "the former master does not follow")

    def _hurry(self, holds: Callable[[], bool], complaint: str) -> None:
        """Wait while the Sentinels look and talk more often than in production."""
        for sentinel in self._running:
            sentinel.cli("SENTINEL", "DEBUG", "PUBLISH-PERIOD", 100, "INFO-PERIOD", 100)
        _wait_until(holds, complaint)
        for sentinel in self._running:
            sentinel.cli("SENTINEL", "DEBUG", "PUBLISH-PERIOD", 2_000, "INFO-PERIOD", 10_000)

    @property
    def _running(self) -> list[RedisServer]:
        return [sentinel for sentinel in self.sentinel_servers if sentinel.running and not sentinel.frozen]

    def _names(self, sentinel: RedisServer) -> int:
        _host, port = sentinel.cli("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.master_name)
        return int(port)

    def _knows_all(self, sentinel: RedisServer) -> bool:
        reply = sentinel.cli("SENTINEL", "MASTER", self.master_name)
        facts = dict(zip(reply[::2], reply[1::2], strict=True))
        return (b"2", b"1") == (facts[b"num-other-sentinels"], facts[b"num-slaves"])

    def _in_sync(self) -> bool:
        return all(_in_sync(node) for node in self.nodes if node is not self.master)


class Step(Enum):
    """What has just been done of the move of a slot."""

    OPENED = "importing there, migrating here: a key that is not here is an ASK"
    KEY = "one more key is there"
    OWNED = "the slot is there: a MOVED"


class ClusterFleet(_Fleet):
    """Three masters with a third of the slots each and a replica each; a context manager.

    `nodes`: the masters of the beginning, then their replicas in the same order. password: of the default user.
    """

    def __init__(self, folder: Path, *, password: str | None = None, options: Sequence[str] = ()) -> None:
        lines = [
            "cluster-enabled yes",
            "cluster-config-file nodes.conf",
            "cluster-node-timeout 1000",
            "cluster-require-full-coverage no",
            "cluster-allow-replica-migration no",
            "cluster-replica-validity-factor 0",
            "repl-diskless-sync-delay 0",
            *([f"masterauth {password}"] if password else []),
            *options,
        ]
        self._bus = [server_port() for _ in range(6)]
        acl = _only_user(password)
        self.nodes = [
            RedisServer(folder / f"node{n}", port=server_port(), options=[*lines, f"cluster-port {bus}"], acl=acl)
            for n, bus in enumerate(self._bus)
        ]
        super().__init__(self.nodes)

    def form(self) -> None:
        """Return when every node finds the Cluster whole and every replica is in sync."""
        masters, replicas = self.nodes[:3], self.nodes[3:]
        for n, node in enumerate(self.nodes):
            node.cli("CLUSTER", "SET-CONFIG-EPOCH", n + 1)
            for other, bus in zip(self.nodes[:n], self._bus, strict=False):
                node.cli("CLUSTER", "MEET", HOST, other.port, bus)
        for n, master in enumerate(masters):
            master.cli("CLUSTER", "ADDSLOTSRANGE", SLOTS * n // 3, SLOTS * (n + 1) // 3 - 1)
        _wait_until(lambda: all(self._knows_all(node) for node in self.nodes), "the nodes do not find one another")
        for master, replica in zip(masters, replicas, strict=True):
            replica.cli("CLUSTER", "REPLICATE", self.id_of(master))
        _wait_until(lambda: all(map(_in_sync, replicas)), "the replicas do not follow")
        self.wait_until_whole()
        _wait_until(lambda: all(self._sees_replicas(node) for node in self.nodes), "the replicas are not known")

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Of all six nodes."""
        return [(HOST, node.port) for node in self.nodes]

    def kill(self, node: RedisServer) -> None:
        """SIGKILL."""
        node.kill()

    def wait_until_whole(self) -> None:
        """Return when every running node says `cluster_state:ok` with all slots served."""
        _wait_until(lambda: all(map(_is_whole, self._running)), "the Cluster is not whole")

    def take_slot(self, slot: int) -> None:
        """Take a slot from its owner, and from what every running node knows."""
        self.master_of(slot).cli("CLUSTER", "DELSLOTS", slot)

        def taken() -> bool:
            # A message that the owner sent before may have told a node again.
            knowing = [node for node in self._running if _owner(node, slot) is not None]
            for node in knowing:
                node.cli("CLUSTER", "DELSLOTS", slot)
            return not knowing

        _wait_until(taken, f"slot {slot} still has an owner")

    def wait_for_promotion(self, slot: int, after: RedisServer) -> RedisServer:
        """Return the master of `slot` when every running node names it, it is not `after`, and all slots are served."""
        old = after.port

        def promoted() -> bool:
            owners = {_owner(node, slot) for node in self._running}
            return len(owners) == 1 and old not in owners and all(map(_is_whole, self._running))

        _wait_until(promoted, f"nobody was promoted for slot {slot}")
        return self.master_of(slot)

    def master_of(self, slot: int) -> RedisServer:
        """The running node that serves `slot` by its own account, with the highest epoch where several do."""
        masters = self._masters_of(slot)
        assert masters, f"no running node serves slot {slot}"
        return masters[0]

    def replica_of(self, master: RedisServer) -> RedisServer:
        """The running node that follows `master`."""
        ident = self.id_of(master)
        (replica,) = (node for node in self._running if _self_line(node)[3] == ident)
        return replica

    def id_of(self, node: RedisServer) -> str:
        """The node's name in the Cluster."""
        return _self_line(node)[0]

    def move_slot(self, slot: int, to_node: RedisServer, *, stepwise: Callable[[Step], object] | None = None) -> None:
        """Move `slot` with its keys from its master, as `redis-cli --cluster reshard` does.

        stepwise is called after each step, in this thread; the move goes on when it returns. Where it raises the
        move stays as far as it was.
        """
        tell = stepwise or _ignore
        source = self.master_of(slot)
        to_id = self.id_of(to_node)
        to_node.cli("CLUSTER", "SETSLOT", slot, "IMPORTING", self.id_of(source))
        source.cli("CLUSTER", "SETSLOT", slot, "MIGRATING", to_id)
        tell(Step.OPENED)
        auth = [] if source.acl is None else ["AUTH2", ADMIN, ADMIN_PASSWORD]
        while keys := source.cli("CLUSTER", "GETKEYSINSLOT", slot, 1):
            source.cli("MIGRATE", HOST, to_node.port, "", 0, 5000, "REPLACE", *auth, "KEYS", *keys)
            tell(Step.KEY)
        others = [node for node in self._running if node not in (source, to_node) and "master" in _self_line(node)[2]]
        for node in (to_node, source, *others):
            node.cli("CLUSTER", "SETSLOT", slot, "NODE", to_id)
        tell(Step.OWNED)

    @property
    def _running(self) -> list[RedisServer]:
        return [node for node in self.nodes if node.running and not node.frozen]

    def _masters_of(self, slot: int) -> list[RedisServer]:
        found = []
        for node in self._running:
            own = _self_line(node)
            if "master" in own[2] and any(first <= slot <= last for first, last in _ranges(own[8:])):
                found.append((int(own[6]), node))
        return [node for _, node in sorted(found, key=lambda pair: -pair[0])]

    def _knows_all(self, node: RedisServer) -> bool:
        lines = _lines(node)
        return len(lines) == len(self.nodes) and not any("handshake" in line[2] for line in lines)

    def _sees_replicas(self, node: RedisServer) -> bool:
        return sum("slave" in line[2] for line in _lines(node)) == len(self.nodes) // 2


def _ignore(_step: Step) -> None:
    pass


def _only_user(password: str | None) -> str | None:
    return f"user default on >{password} ~* &* +@all" if password else None


def _wait_until(holds: Callable[[], bool], complaint: str) -> None:
    give_up = time.monotonic() + WAIT_S_MAX
    while True:
        # A Sentinel that changes a node's role ends the connections of its clients, ours among them.
        with suppress(redis.ConnectionError):
            if holds():
                return
        assert time.monotonic() < give_up, complaint
        time.sleep(0.01)


def _in_sync(replica: RedisServer) -> bool:
    role = replica.cli("ROLE")
    return bool(role[0] == b"slave" and role[3] == b"connected")


def _is_whole(node: RedisServer) -> bool:
    facts = node.cli("CLUSTER", "INFO")
    return b"cluster_state:ok" in facts and b"cluster_slots_ok:%d\r" % SLOTS in facts


def _lines(node: RedisServer) -> list[list[str]]:
    """CLUSTER NODES: id, address, flags, master's id, ping, pong, epoch, link, slots..."""
    return [line.split(" ") for line in node.cli("CLUSTER", "NODES").decode().splitlines()]


def _self_line(node: RedisServer) -> list[str]:
    (own,) = (line for line in _lines(node) if "myself" in line[2])
    return own


def _owner(node: RedisServer, slot: int) -> int | None:
    """The port of the node that serves `slot` by the account of `node`."""
    for line in _lines(node):
        if any(first <= slot <= last for first, last in _ranges(line[8:])):
            return int(line[1].partition("@")[0].rpartition(":")[2])
    return None


def _ranges(words: Iterable[str]) -> list[tuple[int, int]]:
    pairs = [word.partition("-") for word in words if not word.startswith("[")]
    return [(int(first), int(last or first)) for first, _, last in pairs]
