"""One server's connections: what is said first on them, and servers that greet in odd ways or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
from structlog.testing import capture_logs

from ai_cache_extproc.errors import BackendRejected, BackendUnavailable
from ai_cache_extproc.model import Hearing
from ai_cache_extproc.stores.base import Claim
from ai_cache_extproc.stores.redis import RedisStore
from tests.support.scripted_redis import HELLO_3, NOTHING, OK, Answer, ScriptedRedis, scripted
from tests.support.shared_redis import answers, settings_for, tended, until

KEY = "aicache:key"


@asynccontextmanager
async def store_at(script: ScriptedRedis, *, connected: bool = True, **settings: object) -> AsyncIterator[RedisStore]:
    """A store at a server that does what it is told."""
    async with tended(settings_for(f"redis://127.0.0.1:{script.port}", **settings), connected=connected) as store:
        yield store


def names(script: ScriptedRedis) -> list[bytes]:
    """The commands that were asked, without probes."""
    return [command[0] for command in script.asked if command[0] != b"PING"]


async def test_the_first_words() -> None:
    """Who we are and as whom, the database, and on the connection for reads what is to be heard."""
    async with scripted() as script, store_at(script, username="me", password="secret") as store:
        hello = [b"HELLO", b"3", b"AUTH", b"me", b"secret", b"SETNAME", b"ai-cache-extproc"]
        tracking = [b"CLIENT", b"TRACKING", b"ON", b"BCAST", b"PREFIX", b"aicache:"]
        assert [hello, tracking, hello] == [command for command in script.asked if command[0] != b"PING"]
        assert Hearing.ALL is store._client.hearing


async def test_a_password_without_a_name_is_the_default_users() -> None:
    """As Redis itself takes it."""
    async with scripted() as script, store_at(script, username=None, password="secret"):
        assert [b"HELLO", b"3", b"AUTH", b"default", b"secret"] == script.asked[0][:5]


async def test_a_name_without_a_password_is_a_user_that_needs_none() -> None:
    """Redis takes any password of such a user, also an empty one."""
    async with scripted() as script, store_at(script, username="me", password=None):
        assert [b"HELLO", b"3", b"AUTH", b"me", b""] == script.asked[0][:5]


async def test_without_a_password_nobody_logs_in() -> None:
    """A server without users is greeted without credentials."""
    async with scripted() as script, store_at(script, username=None, password=None):
        assert [b"HELLO", b"3", b"SETNAME", b"ai-cache-extproc"] == script.asked[0]


@pytest.mark.parametrize(
    ("login", "expected"),
    [
        ({"username": "me", "password": "secret"}, [b"AUTH", b"me", b"secret"]),
        ({"username": None, "password": "secret"}, [b"AUTH", b"secret"]),
        ({"username": None, "password": None}, None),
    ],
    ids=["name and password", "password", "nothing"],
)
async def test_an_old_server_is_logged_in_to_as_it_knows(
    login: dict[str, object], expected: list[bytes] | None
) -> None:
    """Where HELLO is unknown AUTH is said by itself, and no news are asked for."""
    for refusal in (b"-ERR unknown command 'HELLO'\r\n", b"-NOPROTO unsupported protocol version\r\n"):
        async with (
            scripted({b"HELLO": refusal}) as script,
            tended(settings_for(f"redis://127.0.0.1:{script.port}", **login)) as store,
        ):
            assert ([expected] * 2 if expected else []) == [said for said in script.asked if said[0] == b"AUTH"]
            assert b"CLIENT" not in names(script)
            assert Hearing.NONE is store._client.hearing


GREETINGS: dict[str, tuple[dict[bytes, Answer], str]] = {
    "wrong password": ({b"HELLO": b"-WRONGPASS invalid username-password pair\r\n"}, "WRONGPASS"),
    "not allowed": ({b"HELLO": b"-NOPERM no\r\n"}, "NOPERM no"),
    "loading": ({b"HELLO": b"-LOADING Redis is loading the dataset in memory\r\n"}, "LOADING"),
    "loading, but polite": ({b"PING": b"-LOADING Redis is loading the dataset in memory\r\n"}, "LOADING"),
    "a replica without its master": ({b"PING": b"-MASTERDOWN Link with MASTER is down\r\n"}, "MASTERDOWN"),
    "web server": ({b"HELLO": b"HTTP/1.1 400 Bad Request\r\n\r\n"}, "not a reply of Redis"),
    "no such database": ({b"SELECT": b"-ERR DB index is out of range\r\n"}, "DB index is out of range"),
}


@pytest.mark.parametrize(("replies", "reason"), GREETINGS.values(), ids=GREETINGS)
async def test_a_server_that_does_not_let_us_in_is_not_used(replies: dict[bytes, Answer], reason: str) -> None:
    """It is tried again and again, the log says once why, and questions are refused meanwhile."""
    with capture_logs() as logs:
        async with scripted(replies) as script:
            url = f"redis://127.0.0.1:{script.port}/5"
            async with tended(settings_for(url), connected=False) as store:
                await until(lambda: names(script).count(b"HELLO") >= 3)
                with pytest.raises(BackendUnavailable):
                    await store.get(KEY)
                assert Hearing.LOST is store._client.hearing
    (line,) = (line for line in logs if line["event"] == "redis_down")
    assert reason in line["reason"]


async def test_a_server_that_says_nothing_is_given_up_on() -> None:
    """A half-open connection, or a port that something else serves, costs the time of an attempt."""
    with capture_logs() as logs:
        async with (
            scripted({b"HELLO": b""}) as script,
            store_at(script, connected=False, connect_timeout_ms=20) as store,
        ):
            await until(lambda: any(line["event"] == "redis_down" for line in logs))
            with pytest.raises(BackendUnavailable):
                await store.get(KEY)
            script.answers = {b"HELLO": HELLO_3}
            await until(lambda: answers(store))
    assert "not connected within 0.02 s" in next(line["reason"] for line in logs if line["event"] == "redis_down")


async def test_a_host_that_has_no_form_on_the_wire_is_told() -> None:
    """A mistake in the configuration ends in a line of the log, not in the end of the process."""
    with capture_logs() as logs:
        async with tended(settings_for("redis://a..b:6379"), connected=False) as store:
            await until(lambda: any(line["event"] == "redis_down" for line in logs))
            with pytest.raises(BackendUnavailable, match=r"a\.\.b:6379: not connected"):
                await store.get(KEY)


async def test_silence_on_an_idle_connection_is_found_out() -> None:
    """Without a sign of life nothing is heard of changes either, so the connection is made anew."""
    async with scripted() as script, store_at(script, timeout_ms=10, probe_ms=10) as store:
        node = next(iter(store._client._nodes.values()))
        assert node._reading is not None
        node._reading._silence_s = 0.05

        def hello(_: list[bytes]) -> bytes:
            script.answers = {b"HELLO": HELLO_3}
            return HELLO_3

        script.answers = {b"HELLO": hello, b"PING": b""}
        await until(lambda: names(script).count(b"HELLO") >= 4)
        await until(lambda: answers(store))


def greeted(script: ScriptedRedis, times: int) -> bool:
    """Whether so many connections were made."""
    return names(script).count(b"HELLO") == times


async def test_one_connection_lost_is_both_lost() -> None:
    """Reads and writes go to the same server or to none: the other would hide that it is gone."""
    async with scripted() as script, store_at(script) as store:
        node = next(iter(store._client._nodes.values()))
        for expected, link_for in ((4, node.writing), (6, node.reading)):
            link_for("any").end("cut by the test")
            assert not node.is_connected
            await until(partial(greeted, script, expected))
            await until(lambda: answers(store))


async def test_a_connection_lost_while_the_other_is_made_is_not_used() -> None:
    """What was made first may be gone when the second is ready; nothing is heard then, and both are made anew."""
    hellos = 0
    held: asyncio.Event = asyncio.Event()

    async with scripted() as script:

        def hello(_: list[bytes]) -> bytes:
            nonlocal hellos
            hellos += 1
            if hellos == 2:
                node = next(iter(store._client._nodes.values()))
                assert node._reading is not None
                node._reading.end("cut by the test")
                held.set()
            return HELLO_3

        script.answers = {b"HELLO": hello}
        hearings: list[Hearing] = []
        async with store_at(script, connected=False) as store:
            store._client.on_hearing = hearings.append
            await held.wait()
            await until(lambda: answers(store))
            assert hellos >= 4
            assert [Hearing.ALL] == hearings


ODD: dict[str, tuple[bytes, Callable[[RedisStore], Awaitable[object]]]] = {
    "get": (b"GET", lambda store: store.get(KEY)),
    "entries": (b"DBSIZE", lambda store: store.stats()),
    "memory": (b"INFO", lambda store: store.stats()),
}


@pytest.mark.parametrize(("command", "ask"), ODD.values(), ids=ODD)
async def test_a_reply_of_an_odd_kind_is_refused(
    command: bytes, ask: Callable[[RedisStore], Awaitable[object]]
) -> None:
    """A proxy that answers something else is not believed."""
    replies: dict[bytes, Answer] = {b"DBSIZE": b":5\r\n", b"INFO": b"$0\r\n\r\n"}
    async with scripted(replies | {command: b"*0\r\n"}) as script, store_at(script) as store:
        with pytest.raises(BackendRejected, match=r"an odd reply \(list\)"):
            await ask(store)


async def test_sizes_are_those_of_the_server() -> None:
    """Entries of the whole database, memory of the whole server, and its bound where it has one."""
    info = b"# Memory\r\nused_memory:1234\r\nused_memory_human:1.2K\r\nmaxmemory:9999\r\n"
    replies: dict[bytes, Answer] = {b"DBSIZE": b":5\r\n", b"INFO": b"$%d\r\n%s\r\n" % (len(info), info)}
    async with scripted(replies) as script, store_at(script) as store:
        stats = await store.stats()
        assert (5, 1234, 9999) == (stats.entries, stats.bytes, stats.bytes_max)


async def test_a_lease_that_somebody_touched_meanwhile_stays() -> None:
    """Where the key changed under WATCH nothing is deleted; that is no error."""
    replies: dict[bytes, Answer] = {b"GET": b"$2\r\nus\r\n", b"MULTI": OK, b"DEL": b"+QUEUED\r\n", b"EXEC": b"_\r\n"}
    async with scripted(replies) as script, store_at(script) as store:
        assert not await store._client.compare_and_delete(KEY, b"us")
        assert [b"WATCH", b"GET", b"MULTI", b"DEL", b"EXEC"] == names(script)[-5:]


async def test_a_lease_of_another_is_watched_no_longer() -> None:
    """A look that ends in nothing must not end a later transaction."""
    async with scripted({b"GET": b"$4\r\nthem\r\n"}) as script, store_at(script) as store:
        assert not await store._client.compare_and_delete(KEY, b"us")
        await until(lambda: names(script)[-3:] == [b"WATCH", b"GET", b"UNWATCH"])


@pytest.mark.parametrize("command", [b"WATCH", b"GET", b"MULTI", b"EXEC"], ids=bytes.decode)
async def test_a_refused_step_of_a_transaction_is_told(command: bytes) -> None:
    """Whichever step the server refuses, the error is one of ours, and the next transaction can begin."""
    replies: dict[bytes, Answer] = {b"GET": b"$2\r\nus\r\n", b"DEL": b"+QUEUED\r\n", b"EXEC": b"*1\r\n:1\r\n"}
    async with scripted(replies | {command: b"-ERR not now\r\n"}) as script, store_at(script) as store:
        for _ in range(2):
            with pytest.raises(BackendRejected, match="ERR not now"):
                await store._client.compare_and_delete(KEY, b"us")
        script.answers = {**script.answers, command: replies.get(command, OK)}
        assert await store._client.compare_and_delete(KEY, b"us")


async def test_a_lease_that_expired_between_two_looks_is_held_for_a_moment() -> None:
    """Neither ours nor anyone's: whoever waits looks again."""
    async with scripted({b"SET": NOTHING, b"GET": NOTHING}) as script, store_at(script) as store:
        assert Claim.HELD is await store.claim_lease(KEY, b"us", ttl_s=1)
