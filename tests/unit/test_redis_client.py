"""The Redis client against a real server that comes, goes, hangs, refuses and is configured in every way."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from ai_cache_extproc.errors import BackendError, BackendRejected, BackendTimeout, BackendUnavailable
from ai_cache_extproc.model import BreakerState, Hearing
from ai_cache_extproc.stores.redis import RedisStore
from tests.support.redis_server import RedisServer, server_port
from tests.support.shared_redis import Breakers, answers, settings_for, tended, until, url_of

KEY = "aicache:key"
OPEN = {"username": None, "password": None}
"""For servers without an ACL."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of one test, to be broken."""
    with RedisServer(tmp_path) as running:
        yield running


def hearing_of(store: RedisStore) -> Hearing:
    """What the store's client hears of changes."""
    return store._client.hearing


async def test_a_start_without_a_server_heals(tmp_path: Path) -> None:
    """Until the server is there every question is refused at once; then everything works without another word."""
    server = RedisServer(tmp_path, port=server_port())
    with capture_logs() as logs:
        async with tended(settings_for(url_of(server), **OPEN), connected=False) as store:
            await until(lambda: any(line["event"] == "redis_down" for line in logs))
            with pytest.raises(BackendUnavailable, match=f"redis GET: 127.0.0.1:{server.port}: not connected"):
                await store.get(KEY)
            assert Hearing.LOST is hearing_of(store)
            with server:
                await until(lambda: answers(store))
                await store.set(KEY, b"value", ttl_s=60)
                assert b"value" == await store.get(KEY)
                assert Hearing.ALL is hearing_of(store)
                events = [line["event"] for line in logs]
    assert 1 == events.count("redis_down"), "one line for one outage, however many attempts"
    assert 1 == events.count("redis_connected")


async def test_a_server_that_was_killed_is_found_again(server: RedisServer) -> None:
    """Who waits is told at once; what comes back empty is used as it is."""
    async with tended(settings_for(url_of(server), **OPEN)) as store:
        await store.set(KEY, b"value", ttl_s=60)
        for _ in range(2):
            server.kill()
            await until(lambda: hearing_of(store) is Hearing.LOST)
            with pytest.raises(BackendUnavailable):
                await store.get(KEY)
            server.start()
            await until(lambda: answers(store))
            assert await store.get(KEY) is None
            assert Hearing.ALL is hearing_of(store)


async def test_a_frozen_server_opens_its_breaker_and_a_probe_closes_it(server: RedisServer) -> None:
    """After a few questions without an answer nobody is kept waiting any more, until the server answers a probe."""
    breakers = Breakers()
    settings = settings_for(url_of(server), timeout_ms=20, failures_max=3, **OPEN)
    async with tended(settings, watch=breakers) as store:
        await until(lambda: breakers.told[-1] is BreakerState.CLOSED)
        server.freeze()
        with suppress(BackendTimeout):
            while True:
                await store.get(KEY)
        await until(lambda: breakers.told[-1] is BreakerState.OPEN)
        assert {("redis", f"127.0.0.1:{server.port}"): BreakerState.OPEN} == breakers.now
        for ask in (store.get(KEY), store.set(KEY, b"value", ttl_s=1), store.check()):
            with pytest.raises(BackendUnavailable, match="its circuit breaker is open"):
                await ask
        server.thaw()
        await until(lambda: breakers.told[-1] is BreakerState.CLOSED)
        await until(lambda: answers(store))
        assert await store.get(KEY) is None


async def test_a_server_that_refuses_opens_its_breaker_too(tmp_path: Path) -> None:
    """Attempts to connect count; the first good connection closes it."""
    breakers = Breakers()
    server = RedisServer(tmp_path, port=server_port())
    settings = settings_for(url_of(server), failures_max=2, **OPEN)
    async with tended(settings, watch=breakers, connected=False) as store:
        await until(lambda: BreakerState.OPEN in breakers.told)
        with server:
            await until(lambda: answers(store))
            assert [BreakerState.CLOSED, BreakerState.OPEN, BreakerState.CLOSED] == breakers.told


async def test_a_server_that_became_a_replica_is_left_and_tried_again(server: RedisServer) -> None:
    """READONLY ends the connection, so that a failover is noticed; a master again, it is used again."""
    async with tended(settings_for(url_of(server), **OPEN)) as store:
        server.cli("REPLICAOF", "127.0.0.1", 1)
        with pytest.raises(BackendUnavailable, match="READONLY"):
            await store.set(KEY, b"value", ttl_s=60)
        await until(lambda: hearing_of(store) is Hearing.LOST)
        await until(lambda: hearing_of(store) is Hearing.ALL)
        server.cli("REPLICAOF", "NO", "ONE")
        await until(lambda: answers(store))
        await store.set(KEY, b"value", ttl_s=60)
        assert b"value" == await store.get(KEY)


async def test_a_full_server_still_reads(server: RedisServer) -> None:
    """Without memory writes and leases are refused by name, and nothing is torn down."""
    async with tended(settings_for(url_of(server), **OPEN)) as store:
        await store.set(KEY, b"value", ttl_s=60)
        server.cli("CONFIG", "SET", "maxmemory", 1)
        for write in (store.set(KEY, b"other", ttl_s=60), store.claim_lease("aicache:lease", b"us", ttl_s=1)):
            with pytest.raises(BackendRejected, match="OOM"):
                await write
        assert b"value" == await store.get(KEY)
        assert Hearing.ALL is hearing_of(store)


async def test_what_is_no_string_is_read_as_nothing_of_ours(shared_redis: RedisServer) -> None:
    """Somebody else's list under our key is no answer and no fault of the server, and can be deleted."""
    breakers = Breakers()
    async with tended(settings_for(url_of(shared_redis)), watch=breakers) as store:
        shared_redis.cli("LPUSH", KEY, "foreign")
        assert b"" == await store.get(KEY)
        with pytest.raises(BackendRejected, match=f"redis GET: 127.0.0.1:{shared_redis.port}: WRONGTYPE"):
            await store.claim_lease(KEY, b"us", ttl_s=1)
        assert await store.delete(KEY)
        assert await store.get(KEY) is None
        assert Hearing.ALL is hearing_of(store)
    assert BreakerState.OPEN not in breakers.told


async def test_a_wrong_identity_key_is_named(server: RedisServer) -> None:
    """What stands there in its place was not put there by us; the error says what to delete."""
    async with tended(settings_for(url_of(server), **OPEN)) as store:
        server.cli("SET", "aicache:identity-key", "short")
        with pytest.raises(BackendRejected, match="aicache:identity-key is not 32 bytes; delete it"):
            await store.identity_key()


@pytest.mark.parametrize("password", ["", ">secret"], ids=["no password", "password"])
async def test_without_hello_everything_works_but_hearing(tmp_path: Path, password: str) -> None:
    """Where the newer protocol is refused the older one is spoken, in which no changes can be told."""
    acl = f"user aicache on {password or 'nopass'} ~* &* +@all"
    login = {"username": "aicache", "password": password.removeprefix(">") or "any"}
    with RedisServer(tmp_path, options=['rename-command HELLO ""'], acl=acl) as server:
        async with tended(settings_for(url_of(server), **login)) as store:
            await store.set(KEY, b"value", ttl_s=60)
            assert b"value" == await store.get(KEY)
            assert Hearing.NONE is hearing_of(store)


async def test_without_hello_and_without_a_name(tmp_path: Path) -> None:
    """A server from before users are known by name takes a password alone, or none."""
    options = ['rename-command HELLO ""', "requirepass secret"]
    with RedisServer(tmp_path, options=options, acl="user default on >secret ~* &* +@all") as server:
        async with tended(settings_for(url_of(server), username=None, password="secret")) as store:
            assert await store.get(KEY) is None


async def test_where_tracking_is_refused_the_rest_works(tmp_path: Path) -> None:
    """A proxy or an ACL without it costs the exactness of near copies, and one line in the log."""
    with (
        RedisServer(tmp_path, acl="user aicache on >change-me ~aicache:* &* +@all -client") as server,
        capture_logs() as logs,
    ):
        async with tended(settings_for(url_of(server))) as store:
            assert await store.get(KEY) is None
            assert Hearing.NONE is hearing_of(store)
    assert 1 == sum(line["event"] == "redis_tracking_refused" for line in logs)


async def test_tracking_may_be_turned_off(shared_redis: RedisServer) -> None:
    """Nothing is heard then, and nothing was lost; near copies live by their time."""
    async with tended(settings_for(url_of(shared_redis), tracking=False)) as store:
        assert Hearing.NONE is hearing_of(store)
        clients = str(shared_redis.cli("CLIENT", "LIST"))
        assert 2 == clients.count("ai-cache-extproc"), "one connection for reads, one for writes"


async def test_an_empty_prefix_hears_of_every_key(server: RedisServer) -> None:
    """Where keys have no prefix of ours, all of the database's are heard."""
    async with tended(settings_for(url_of(server), **OPEN), prefix="") as store:
        assert Hearing.ALL is hearing_of(store)
        heard: list[tuple[str, ...] | None] = []
        store._client.on_change = heard.append
        server.cli("SET", "anything", "value")
        await until(lambda: ("anything",) in heard)


async def test_the_database_of_the_url_is_used(server: RedisServer) -> None:
    """Keys are where the number says, and changes there are heard."""
    async with tended(settings_for(f"{url_of(server)}/3", **OPEN)) as store:
        await store.set(KEY, b"value", ttl_s=60)
        assert {"db3"} == set(server.cli("INFO", "keyspace"))
        assert Hearing.ALL is hearing_of(store)


async def test_a_database_that_is_not_there_is_named(server: RedisServer) -> None:
    """The server is not used, and the log says why."""
    with capture_logs() as logs:
        async with tended(settings_for(f"{url_of(server)}/99", **OPEN), connected=False) as store:
            await until(lambda: any(line["event"] == "redis_down" for line in logs))
            with pytest.raises(BackendUnavailable):
                await store.get(KEY)
    (line,) = (line for line in logs if line["event"] == "redis_down")
    assert "DB index is out of range" in line["reason"]


async def test_a_unix_socket_is_used_as_soon_as_it_is_there(tmp_path: Path) -> None:
    """The path stands in errors in the place of host and port."""
    server = RedisServer(tmp_path)
    async with tended(settings_for(f"unix://{server.socket}", **OPEN), connected=False) as store:
        with pytest.raises(BackendUnavailable):
            await store.get(KEY)
        with server:
            await until(lambda: answers(store))
            assert await store.get(KEY) is None
            server.cli("LPUSH", KEY, "foreign")
            with pytest.raises(BackendRejected, match=f"{server.socket}: WRONGTYPE"):
                await store.claim_lease(KEY, b"us", ttl_s=1)


async def test_a_rotated_password_is_picked_up(tmp_path: Path) -> None:
    """A wrong password is refused until the file is right; a new one in both places counts from then on."""
    file = tmp_path / "password"
    file.write_text("wrong\n")
    acl = "user aicache on >first ~aicache:* &* +@all"
    settings = settings_for("redis://placeholder", password=None, password_file=file)
    with RedisServer(tmp_path / "redis", acl=acl) as server, capture_logs() as logs:
        settings = settings.model_copy(update={"url": (url_of(server),)})
        async with tended(settings, connected=False) as store:
            await until(lambda: any(line["event"] == "redis_down" for line in logs))
            with pytest.raises(BackendUnavailable):
                await store.get(KEY)
            file.write_text("first\n")
            await until(lambda: answers(store))
            server.cli("ACL", "SETUSER", "aicache", "resetpass", ">second")
            assert await store.get(KEY) is None, "open connections stay logged in"
            server.cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await until(lambda: hearing_of(store) is Hearing.LOST)
            file.write_text("second\n")
            await until(lambda: answers(store))
    assert any("WRONGPASS" in line.get("reason", "") for line in logs)
    assert not any("first" in str(line) or "second" in str(line) for line in logs)


async def test_cancelled_questions_never_mix_up_replies(shared_redis: RedisServer) -> None:
    """Of thousands of reads, writes and leases that are given up at any moment, no other gets a wrong reply."""
    chosen = random.Random(25)
    async with tended(settings_for(url_of(shared_redis))) as store:
        names = [f"aicache:{number}" for number in range(50)]
        for name in names:
            await store.set(name, name.encode(), ttl_s=60)

        async def use(name: str, what: int) -> None:
            if what == 0:
                await store.set(name, name.encode(), ttl_s=60)
            elif what == 1:
                await store.claim_lease(f"{name}:lease", b"us", ttl_s=60)
                await store.release_lease(f"{name}:lease", b"us")
            else:
                assert name.encode() == await store.get(name)

        for _ in range(40):
            tasks = [asyncio.ensure_future(use(chosen.choice(names), chosen.randrange(8))) for _ in range(100)]
            for _ in range(chosen.randrange(4)):
                await asyncio.sleep(0)
            for task in chosen.sample(tasks, 60):
                task.cancel()
            for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                assert outcome is None or isinstance(outcome, asyncio.CancelledError)
        assert [name.encode() for name in names] == [await store.get(name) for name in names]
        assert Hearing.ALL is hearing_of(store), "no connection was lost on the way"


async def test_what_is_asked_while_the_server_dies_ends(server: RedisServer) -> None:
    """Whatever is on its way when a connection is lost gets an error, and nobody waits for ever."""
    async with tended(settings_for(url_of(server), **OPEN)) as store:
        server.freeze()
        asked = [asyncio.ensure_future(store.get(f"{KEY}{number}")) for number in range(100)]
        asked += [asyncio.ensure_future(store.get(KEY)) for _ in range(3)]
        writes = [asyncio.ensure_future(store.set(KEY, b"x" * 100_000, ttl_s=60)) for _ in range(10)]
        await asyncio.sleep(0)
        server.kill()
        outcomes = await asyncio.gather(*asked, *writes, return_exceptions=True)
        assert all(isinstance(outcome, BackendError) for outcome in outcomes)
