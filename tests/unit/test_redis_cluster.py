"""The client at a real Cluster: slots that move, slots that nobody has, and servers that come and go."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from redis.crc import key_slot
from structlog.testing import capture_logs

from ai_cache_extproc.clients.redis.address import Login, Server
from ai_cache_extproc.clients.redis.client import RedisClient
from ai_cache_extproc.clients.redis.node import NodeOptions
from ai_cache_extproc.clients.redis.topology import Layout
from ai_cache_extproc.config.model import RedisStore as Settings
from ai_cache_extproc.errors import BackendError, BackendRejected, BackendUnavailable
from ai_cache_extproc.model import BreakerState, Hearing
from ai_cache_extproc.stores.redis import RedisStore
from tests.support.redis_fleet import ClusterFleet, Step
from tests.support.redis_server import RedisServer, server_port
from tests.support.scripted_redis import NOTHING, OK, scripted
from tests.support.shared_redis import Breakers, answers, settings_for, tended, until, url_of

KEYS = ["aicache:{moving}:1", "aicache:{moving}:2", "aicache:{moving}:3"]
LEASE = "aicache:{moving}:lease"
SLOT = key_slot(b"moving")


def settings_of(fleet: ClusterFleet) -> Settings:
    """Found through one of its replicas."""
    return settings_for(url_of(fleet.nodes[5]), cluster=True)


def owner_of(store: RedisStore, key: str) -> Server | None:
    """Whom the client takes for the owner of a key."""
    return store._client._layout.owner(key.encode())


def address_of(node: RedisServer) -> Server:
    """As the client knows it."""
    return Server("127.0.0.1", node.port)


@contextmanager
def somewhere_else(fleet: ClusterFleet) -> Iterator[tuple[RedisServer, RedisServer]]:
    """The owner of the slot and another master; afterwards the slot is where it was."""
    source = fleet.master_of(SLOT)
    target = next(node for node in fleet.nodes[:3] if node is not source)
    try:
        yield source, target
    finally:
        if fleet.master_of(SLOT) is not source:
            fleet.move_slot(SLOT, source)


async def test_every_key_is_asked_of_its_owner(shared_cluster: ClusterFleet) -> None:
    """Keys of all slots come back, from masters alone."""
    breakers = Breakers()
    async with tended(settings_of(shared_cluster), watch=breakers) as store:
        names = [f"aicache:{number}" for number in range(100)]
        await asyncio.gather(*(store.set(name, name.encode(), ttl_s=60) for name in names))
        assert [name.encode() for name in names] == list(await asyncio.gather(*map(store.get, names)))
        assert 100 == (await store.stats()).entries
        masters = {("redis", str(address_of(node))) for node in shared_cluster.nodes[:3]}
        assert masters == set(breakers.now)


async def test_a_slot_that_moved_is_followed(shared_cluster: ClusterFleet) -> None:
    """The old owner names the new one; the question is asked there at once, and later ones go there by themselves."""
    async with tended(settings_of(shared_cluster)) as store:
        for key in KEYS:
            await store.set(key, key.encode(), ttl_s=60)
        with somewhere_else(shared_cluster) as (source, target):
            assert address_of(source) == owner_of(store, KEYS[0])
            await asyncio.to_thread(shared_cluster.move_slot, SLOT, target)
            assert [key.encode() for key in KEYS] == list(await asyncio.gather(*map(store.get, KEYS)))
            await store.set(KEYS[0], b"x" * 200_000, ttl_s=60)
            await until(lambda: owner_of(store, KEYS[0]) == address_of(target))
            assert 200_000 == len(await store.get(KEYS[0]) or b"")
            assert Hearing.ALL is store._client.hearing


async def test_a_slot_on_its_way_is_asked_for_where_each_key_is(shared_cluster: ClusterFleet) -> None:
    """Between the first step and the last some keys are here and some there; each is found, read and written."""
    loop = asyncio.get_running_loop()
    seen: list[Step] = []

    async with tended(settings_of(shared_cluster)) as store:

        async def look(step: Step) -> None:
            assert [key.encode() for key in KEYS] == list(await asyncio.gather(*map(store.get, KEYS)))
            await store.set(f"aicache:{{moving}}:{len(seen)}:new", b"new", ttl_s=60)
            assert b"new" == await store.get(f"aicache:{{moving}}:{len(seen)}:new")
            seen.append(step)

        for key in KEYS:
            await store.set(key, key.encode(), ttl_s=60)
        with somewhere_else(shared_cluster) as (_, target):
            await asyncio.to_thread(
                shared_cluster.move_slot,
                SLOT,
                target,
                stepwise=lambda step: asyncio.run_coroutine_threadsafe(look(step), loop).result(),
            )
    assert [Step.OPENED, Step.KEY, Step.KEY, Step.KEY, Step.OWNED] == seen


async def test_a_lease_in_a_slot_that_moved_is_not_lost(shared_cluster: ClusterFleet) -> None:
    """Giving it back fails there by name, and finds the new owner as soon as that is known."""
    async with tended(settings_of(shared_cluster)) as store:
        only_looks_for_a_cause(store)
        await store.claim_lease(LEASE, b"us", ttl_s=60)
        with somewhere_else(shared_cluster) as (_, target):
            await asyncio.to_thread(shared_cluster.move_slot, SLOT, target)
            with pytest.raises(BackendError, match="MOVED"):
                await store.release_lease(LEASE, b"us")
            await until(lambda: owner_of(store, LEASE) == address_of(target))
            await until(lambda: answers(store))
            await store.release_lease(LEASE, b"us")
            assert target.cli("GET", LEASE) is None


async def test_slots_without_an_owner_cost_only_their_keys(shared_cluster: ClusterFleet) -> None:
    """Keys elsewhere work on; near copies must not be trusted meanwhile; everything heals with the slot."""
    source = shared_cluster.master_of(SLOT)
    other = next(key for key in map("aicache:{}".format, range(100)) if owned_elsewhere(shared_cluster, key, source))
    async with tended(settings_of(shared_cluster)) as store:
        only_looks_for_a_cause(store)
        await store.set(other, b"other", ttl_s=60)
        try:
            await asyncio.to_thread(shared_cluster.take_slot, SLOT)
            with pytest.raises(BackendUnavailable, match="CLUSTERDOWN"):
                await store.get(KEYS[0])
            await until(lambda: owner_of(store, KEYS[0]) is None)
            with pytest.raises(BackendUnavailable, match="redis GET: no server is known for this key"):
                await store.get(KEYS[0])
            with pytest.raises(BackendUnavailable, match="redis PING: not every key has a server"):
                await store.check()
            assert b"other" == await store.get(other)
            assert Hearing.LOST is store._client.hearing
        finally:
            source.cli("CLUSTER", "ADDSLOTS", SLOT)
            await asyncio.to_thread(shared_cluster.wait_until_whole)
        await until(lambda: answers(store))
        assert await store.get(KEYS[0]) is None


def only_looks_for_a_cause(store: RedisStore) -> None:
    """Whatever is found out about the layout from here on was noticed, not come across."""
    store._client._topology.look_every_s = 1e6


def owned_elsewhere(fleet: ClusterFleet, key: str, node: RedisServer) -> bool:
    """Whether another node has this key."""
    return fleet.master_of(key_slot(key.encode())) is not node


async def test_redirections_end() -> None:
    """Servers that name each other in turn are not followed for ever, nor one that is not known."""
    async with scripted() as one, scripted() as two:
        slots = b"*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:%d\r\n" % one.port
        one.answers = {**one.answers, b"CLUSTER": slots, b"GET": b"-MOVED 5 127.0.0.1:%d\r\n" % one.port}
        async with tended(settings_for(f"redis://127.0.0.1:{one.port}", cluster=True)) as store:
            with pytest.raises(BackendRejected, match="MOVED 5"):
                await store.get(KEYS[0])
            assert 4 == sum(command[0] == b"GET" for command in one.asked), "the question, and three redirections"
            for target in (b"127.0.0.1:%d" % two.port, b"127.0.0.1:x", b""):
                one.answers = {**one.answers, b"GET": b"-MOVED 5 %s\r\n" % target}
                with pytest.raises(BackendUnavailable, match="moved to a server not connected yet"):
                    await store.get(KEYS[0])
            one.answers = {**one.answers, b"GET": b"-ASK 5 :%d\r\n" % one.port}
            with pytest.raises(BackendRejected, match="ASK 5"):
                await store.get(KEYS[0])
            assert b"ASKING" in [command[0] for command in one.asked]


async def test_what_follows_asking_need_not_be_waited_for() -> None:
    """A redirection that is given up, or whose ASKING is refused, leaves nothing behind."""
    async with scripted() as one:
        slots = b"*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:%d\r\n" % one.port
        refusals = {b"ASKING": b"-ERR no\r\n", b"GET": b"-ASK 5 127.0.0.1:%d\r\n" % one.port}
        one.answers = {**one.answers, b"CLUSTER": slots, **refusals}
        async with tended(settings_for(f"redis://127.0.0.1:{one.port}", cluster=True)) as store:
            with pytest.raises(BackendRejected):
                await store.get(KEYS[0])
            asked = [asyncio.ensure_future(store.get(KEYS[0])) for _ in range(20)]
            for task in asked:
                await asyncio.sleep(0)
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
            one.answers = {**one.answers, b"GET": NOTHING, b"ASKING": OK}
            assert await store.get(KEYS[0]) is None


# redis-py leaves the sockets of a cancelled look to the garbage collector, which says so.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_client_that_is_told_to_end_ends() -> None:
    """At whatever moment of its look at the layout: what it asks with may swallow the order."""
    async with scripted() as one:
        slots = b"*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:%d\r\n" % one.port
        for answer in (slots, b"-ERR no\r\n"):
            one.answers = {**one.answers, b"CLUSTER": answer}
            for turns in range(60):
                settings = settings_for(f"redis://127.0.0.1:{one.port}", cluster=True)
                async with RedisStore.open(settings, prefix="aicache:", breaker_watch=Breakers()) as store:
                    tending = asyncio.create_task(store.tend())
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    tending.cancel()
                    await asyncio.gather(tending, return_exceptions=True)
                    assert tending.cancelled()
    gc.collect()


class Moving:
    """A Topology that says whatever the test does."""

    look_every_s: float | None = 0.01

    def __init__(self) -> None:
        self.layout: Layout | BackendError = BackendUnavailable("redis", "discover", "nobody answers")
        self.known: list[list[Server]] = []

    async def discover(self, known: Iterable[Server]) -> Layout:
        self.known.append(list(known))
        if isinstance(self.layout, BackendError):
            raise self.layout
        return self.layout


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[RedisServer, RedisServer]]:
    """Two servers that know nothing of each other."""
    with RedisServer(tmp_path / "one") as one, RedisServer(tmp_path / "two") as other:
        yield one, other


async def running(topology: Moving, breakers: Breakers, use: Callable[[RedisClient], Awaitable[None]]) -> None:
    """Use a client of this topology."""
    options = NodeOptions(
        login=Login(),
        tls=None,
        database=0,
        prefixes=("aicache:",),
        timeout_s=10,
        write_timeout_s=10,
        connect_timeout_s=10,
        probe_s=10,
        silence_s=10,
        reply_bytes_max=1000,
        failures_max=5,
    )
    client = RedisClient(topology, options, breaker_changed=lambda server, state: breakers("redis", server, state))
    tending = asyncio.create_task(client.tend())
    try:
        await use(client)
    finally:
        tending.cancel()
        await asyncio.gather(tending, return_exceptions=True)


async def test_servers_come_and_go_with_the_layout(two: tuple[RedisServer, RedisServer]) -> None:
    """A new owner is used as soon as it is connected; the old one is left, and so is the gauge of its breaker."""
    topology, breakers = Moving(), Breakers()
    one, other = map(address_of, two)

    def alone(name: str) -> bool:
        return {("redis", name)} == set(breakers.now)

    async def use(client: RedisClient) -> None:
        for server, node in ((one, two[0]), (other, two[1]), (one, two[0])):
            topology.layout = Layout.of_one(server)
            await until(partial(alone, str(server)))
            await until(lambda: client.hearing is Hearing.ALL)
            await client.write("key", "SET", "key", "value")
            assert b"value" == node.cli("GET", "key")
            node.cli("FLUSHALL")

    with capture_logs() as logs:
        await running(topology, breakers, use)
    assert BreakerState.OPEN not in breakers.told
    assert 1 >= sum(line["event"] == "redis_not_found" for line in logs)


async def test_a_layout_that_cannot_be_found_is_looked_for_again(two: tuple[RedisServer, RedisServer]) -> None:
    """What is known stays in use meanwhile; the log says so once; those that answer are asked first."""
    topology, breakers = Moving(), Breakers()
    one, dead = address_of(two[0]), Server("127.0.0.1", server_port())

    async def use(client: RedisClient) -> None:
        await until(lambda: len(topology.known) > 2)
        topology.layout = Layout((0, 8000), (dead, one))
        await until(lambda: topology.known[-1] == [one, dead])
        assert Hearing.LOST is client.hearing
        topology.layout = BackendUnavailable("redis", "discover", "nobody answers")
        looks = len(topology.known)
        await until(lambda: len(topology.known) > looks + 2)
        key = next(key for key in map(str, range(100)) if key_slot(key.encode()) >= 8000)
        assert await client.read(key, "GET", key) is None

    with capture_logs() as logs:
        await running(topology, breakers, use)
    assert 2 == sum(line["event"] == "redis_not_found" for line in logs)


async def test_of_every_server_asks_them_all_or_says_why_not(two: tuple[RedisServer, RedisServer]) -> None:
    """One that refuses, or is gone, makes the whole answer an error."""
    topology, breakers = Moving(), Breakers()
    one, other = map(address_of, two)
    topology.layout = Layout((0, 8000), (one, other))

    async def use(client: RedisClient) -> None:
        await until(lambda: client.hearing is Hearing.ALL)
        assert [b"PONG", b"PONG"] == await client.of_every_server("PING")
        two[1].cli("LPUSH", "key", "value")
        with pytest.raises(BackendRejected, match=f"redis GET: {other}: WRONGTYPE"):
            await client.of_every_server("GET", "key")
        two[1].freeze()
        asked = asyncio.ensure_future(client.of_every_server("PING"))
        await asyncio.sleep(0)
        two[1].kill()
        with pytest.raises(BackendUnavailable, match="redis PING: connection"):
            await asked

    await running(topology, breakers, use)
