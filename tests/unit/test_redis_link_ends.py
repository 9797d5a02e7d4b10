"""What ends a connection to Redis, what only its breaker hears of, and what neither does."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ai_cache_extproc.clients.redis.link import ReplyError, backend_error
from ai_cache_extproc.errors import BackendRejected, BackendTimeout, BackendUnavailable
from ai_cache_extproc.model import BreakerState
from tests.support.redis_wire import REPLY_BYTES_MAX, SILENCE_S, TIMEOUT_S, Connection

RUBBISH = {
    "http": b"HTTP/1.1 400 Bad Request\r\n",
    "tls": b"\x15\x03\x03\x00\x02\x02\x28",
    "nul": b"\x00" * 50,
    "bad length": b"$x\r\n",
    "negative length": b"$-7\r\n",
    "map with a list for a key": b"%1\r\n*0\r\n:1\r\n",
    "empty push": b">0\r\n",
}


@pytest.mark.parametrize("said", RUBBISH.values(), ids=RUBBISH)
async def test_rubbish_ends_the_connection(said: bytes) -> None:
    """What is no reply of Redis is a failure, whoever waits is told, and nothing more is asked there."""
    connection = Connection()
    waiting, gone = connection.link.ask("GET", "key"), connection.link.ask("GET", "other")
    gone.cancel()
    connection.hear(said)
    with pytest.raises(BackendUnavailable, match="not a reply of Redis"):
        await waiting
    assert (True, True, False) == (connection.wire.aborted, connection.breaker.is_open, connection.link.is_up)
    assert 1 == len(connection.told.losses)
    with pytest.raises(BackendUnavailable, match="redis SET: not a reply of Redis"):
        await connection.link.ask("SET", "key", "value")


async def test_a_reply_that_nobody_asked_for_ends_the_connection() -> None:
    """From then on the order of replies could not be trusted."""
    connection = Connection()
    assert b"asked" == await connection.answered(b"+asked\r\n")
    connection.hear(b"+unasked\r\n")
    assert not connection.link.is_up
    assert connection.breaker.is_open


async def test_a_reply_beyond_the_bound_ends_the_connection() -> None:
    """Memory is not filled with a reply that nobody could use; one of that size exactly is taken."""
    connection = Connection()
    value = b"x" * (REPLY_BYTES_MAX - 20)
    assert value == await connection.answered(b"$%d\r\n%s\r\n" % (len(value), value))
    waiting = connection.link.ask("GET", "large")
    connection.hear(b"$999999\r\n", b"x" * (REPLY_BYTES_MAX // 2))
    assert connection.link.is_up
    connection.hear(b"x" * (REPLY_BYTES_MAX // 2))
    with pytest.raises(BackendUnavailable, match="a reply of more than 10000 bytes"):
        await waiting
    assert connection.breaker.is_open


@pytest.mark.parametrize("code", ["READONLY", "LOADING", "MASTERDOWN", "NOAUTH", "WRONGPASS", "NOREPLICAS"])
async def test_a_server_that_is_not_the_one_to_ask_is_left(code: str) -> None:
    """The caller is told what the server said, the breaker hears of it, and the connection is not kept."""
    connection = Connection()
    first, second = connection.link.ask("SET", "key", "value"), connection.link.ask("GET", "key")
    connection.hear(f"-{code} some words\r\n".encode())
    with pytest.raises(ReplyError, match=f"^{code} some words$") as caught:
        await first
    assert isinstance(backend_error(caught.value, "set", "here:1"), BackendUnavailable)
    assert connection.breaker.is_open
    with pytest.raises(BackendUnavailable, match=f"redis GET: {code} some words"):
        await second
    assert [f"{code} some words"] == connection.told.losses
    assert connection.wire.aborted


@pytest.mark.parametrize("code", ["BUSY", "CLUSTERDOWN", "TRYAGAIN"])
async def test_a_server_that_is_busy_counts_as_failing_and_is_kept(code: str) -> None:
    """It will answer on the same connection once it is done."""
    connection = Connection()
    with pytest.raises(ReplyError) as caught:
        await connection.answered(f"-{code} some words\r\n".encode())
    assert isinstance(backend_error(caught.value, "get", "here:1"), BackendUnavailable)
    assert (True, True) == (connection.breaker.is_open, connection.link.is_up)
    assert b"OK" == await connection.answered(b"+OK\r\n")
    assert [BreakerState.OPEN, BreakerState.CLOSED] == connection.told.states


@pytest.mark.parametrize("code", ["OOM", "WRONGTYPE", "MOVED", "ASK", "NOPERM", "ERR"])
async def test_a_refusal_by_a_server_that_works_is_none_of_the_breakers_business(code: str) -> None:
    """The server is well; it is the question that it does not answer."""
    connection = Connection()
    connection.breaker.failed()
    with pytest.raises(ReplyError) as caught:
        await connection.answered(f"-{code} 1 127.0.0.1:2\r\n".encode())
    assert code == caught.value.code
    error = backend_error(caught.value, "get", "here:1")
    assert isinstance(error, BackendRejected)
    assert f"redis get: here:1: {code} 1 127.0.0.1:2" == str(error)
    assert (False, True) == (connection.breaker.is_open, connection.link.is_up)


async def test_only_answers_in_time_are_a_good_sign() -> None:
    """A server that answers everything late keeps the breaker open."""
    connection = Connection()
    late = connection.link.ask("PING")
    connection.elapse(TIMEOUT_S)
    with pytest.raises(BackendTimeout):
        await late
    assert connection.breaker.is_open
    connection.hear(b"+PONG\r\n")
    assert connection.breaker.is_open
    assert b"PONG" == await connection.answered(b"+PONG\r\n")
    assert not connection.breaker.is_open


async def test_where_much_time_is_given_an_answer_is_no_sign() -> None:
    """A server too slow for reads may well be quick enough for writes."""
    connection = Connection(heals=False)
    connection.breaker.failed()
    assert b"OK" == await connection.answered(b"+OK\r\n")
    assert connection.breaker.is_open


async def test_a_timeout_counts_once_and_for_callers_that_left_too() -> None:
    """A silent server is as silent to those who did not wait for it; the same question is not counted again."""
    connection = Connection(failures_max=2)
    connection.link.ask("GET", "key").cancel()
    connection.elapse(TIMEOUT_S * 10)
    assert not connection.breaker.is_open
    asked = connection.link.ask("GET", "other")
    connection.elapse(TIMEOUT_S)
    with pytest.raises(BackendTimeout):
        await asked
    assert connection.breaker.is_open


async def test_silence_ends_the_connection() -> None:
    """What did not come long after it was due will not come; a half-open connection is found out."""
    connection = Connection()
    first = connection.link.ask("GET", "key")
    connection.elapse(TIMEOUT_S + SILENCE_S / 2)
    second = connection.link.ask("GET", "other")
    connection.elapse(SILENCE_S / 4)
    assert connection.link.is_up
    connection.elapse(SILENCE_S / 4)
    assert (["silent for 3 s"], True) == (connection.told.losses, connection.wire.aborted)
    for asked in (first, second):
        with pytest.raises(BackendTimeout):
            await asked


async def test_with_no_patience_a_late_answer_ends_the_connection() -> None:
    """A write that is late is given up together with whatever is stuck behind it."""
    connection = Connection(silence_s=0)
    first = connection.link.ask("SET", "a", "1")
    connection.elapse(TIMEOUT_S / 2)
    second = connection.link.ask("SET", "b", "2")
    connection.elapse(TIMEOUT_S / 2)
    with pytest.raises(BackendTimeout):
        await first
    with pytest.raises(BackendUnavailable, match="redis SET: silent for 0 s"):
        await second


async def test_an_answer_however_late_is_a_sign_of_life() -> None:
    """As long as something comes, the connection is kept."""
    connection = Connection()
    for _ in range(3):
        late = connection.link.ask("PING")
        connection.elapse(SILENCE_S)
        with pytest.raises(BackendTimeout):
            await late
        connection.hear(b"+PONG\r\n")
    connection.elapse(10 * SILENCE_S)
    assert connection.link.is_up


async def test_a_loss_is_told_once_with_its_reason() -> None:
    """The first reason stays, whatever comes after it, and nobody is left waiting."""
    connection = Connection()
    waiting = connection.link.ask("GET", "key")
    connection.link.connection_lost(ConnectionResetError("reset by peer"))
    connection.link.end("another reason")
    connection.link.connection_lost(None)
    connection.hear(b"")
    with pytest.raises(BackendUnavailable, match=r"redis GET: connection lost \(reset by peer\)"):
        await waiting
    assert ["connection lost (reset by peer)"] == connection.told.losses
    await asyncio.sleep(0)
    assert [] == connection.wire.written


async def test_the_servers_own_end_is_told() -> None:
    """A server that shuts down closes without an error."""
    connection = Connection()
    connection.link.connection_lost(None)
    assert ["connection closed by the server"] == connection.told.losses


async def test_nothing_is_asked_before_there_is_a_connection() -> None:
    """Nor is anything kept for later; ending what never began is told as well."""
    connection = Connection(made=False)
    assert not connection.link.is_up
    with pytest.raises(BackendUnavailable, match="redis GET: not connected"):
        await connection.link.ask("GET", "key")
    connection.link.end("given up")
    assert ["given up"] == connection.told.losses


SAID = (
    b"+OK -ERR\xff -READONLY :1 $3 abc $-1 *2 *-1 *0 %1 ~1 >2 >1 _ #t ,1.5 (12 =7 txt:abc !3 ERR |1 $10 invalidate $? x"
)
words = st.sampled_from([word + b"\r\n" for word in [*SAID.split(), b""]])
pieces = st.lists(words | st.binary(max_size=20), max_size=12)


@settings(max_examples=300, deadline=None)
@given(pieces=pieces, questions=st.integers(0, 4))
def test_whatever_is_said_nobody_waits_for_ever(pieces: list[bytes], questions: int) -> None:
    """Any bytes in any pieces answer, refuse or end; nothing escapes, and the end reaches everyone who waits."""

    async def converse() -> None:
        connection = Connection()
        asked = [connection.link.ask("GET", "key") for _ in range(questions)]
        connection.hear(*pieces)
        await asyncio.sleep(0)
        connection.link.end("over")
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        assert all(
            isinstance(outcome, BackendUnavailable | ReplyError)
            for outcome in outcomes
            if isinstance(outcome, BaseException)
        )
        assert 1 == len(connection.told.losses)

    asyncio.run(converse())
