"""One connection to Redis that many callers share: their questions, the order of replies, and their time."""

from __future__ import annotations

import asyncio

import pytest

from ai_cache_extproc.errors import BackendTimeout, BackendUnavailable
from tests.support.redis_wire import TIMEOUT_S, Connection


async def test_questions_that_come_fast_share_a_write() -> None:
    """The first ones go out at the end of their turn; those of the moment after it wait for each other."""
    connection = Connection()
    for key in ("a", "b", "c"):
        connection.link.ask("GET", key)
    assert [] == connection.wire.written
    await asyncio.sleep(0)
    assert [b"".join(b"*2\r\n$3\r\nGET\r\n$1\r\n%c\r\n" % key for key in b"abc")] == connection.wire.written
    connection.link.ask("SET", "d", b"\x00\xff", "PX", 5)
    await asyncio.sleep(0)
    connection.link.ask("GET", "e")
    connection.elapse(0.002)
    _, second = connection.wire.written
    assert (
        b"*5\r\n$3\r\nSET\r\n$1\r\nd\r\n$2\r\n\x00\xff\r\n$2\r\nPX\r\n$1\r\n5\r\n" + (b"*2\r\n$3\r\nGET\r\n$1\r\ne\r\n")
        == second
    )


async def test_questions_that_come_slowly_wait_for_nothing() -> None:
    """Each is written at the end of its turn, also shortly after another."""
    connection = Connection()
    for _ in range(20):
        connection.link.ask("GET", "a")
        await asyncio.sleep(0)
        connection.elapse(0.001)
    assert 20 == len(connection.wire.written)


async def test_what_was_held_back_is_not_written_once_the_connection_has_ended() -> None:
    """Whoever asked is told, and nothing more goes out."""
    connection = Connection()
    asked = [connection.link.ask("GET", "a") for _ in range(5)]
    await asyncio.sleep(0)
    asked.append(connection.link.ask("GET", "b"))
    connection.link.end("enough")
    for future in asked:
        with pytest.raises(BackendUnavailable, match="enough"):
            await future
    connection.elapse(0.01)
    assert 1 == len(connection.wire.written)


async def test_replies_go_to_their_questions_in_order() -> None:
    """Whatever kinds of reply come in one piece, each goes to the caller whose turn it is."""
    connection = Connection()
    asked = [connection.link.ask("GET", str(number)) for number in range(6)]
    connection.hear(b"+OK\r\n:7\r\n$2\r\n\r\n\r\n$-1\r\n_\r\n*2\r\n:1\r\n$0\r\n\r\n")
    assert [b"OK", 7, b"\r\n", None, None, [1, b""]] == [await future for future in asked]
    assert connection.link.is_up


@pytest.mark.parametrize(
    ("said", "expected"),
    [(b"$5\r\nvalue\r\n", b"value"), (b"$-1\r\n", None), (b"*2\r\n$1\r\na\r\n:1\r\n", [b"a", 1])],
    ids=["value", "nothing", "list"],
)
async def test_a_reply_may_come_byte_by_byte(said: bytes, expected: object) -> None:
    """A caller waits for the last byte and gets the same as if it had come whole."""
    connection = Connection()
    asked = connection.link.ask("GET", "key")
    for byte in said[:-1]:
        connection.hear(bytes([byte]))
        assert not asked.done()
    connection.hear(said[-1:])
    assert expected == await asked


async def test_a_late_reply_reaches_nobody() -> None:
    """A caller is let go when its time is over; its reply, when it comes, is not taken for the next one's."""
    connection = Connection()
    late = connection.link.ask("GET", "slow")
    connection.elapse(TIMEOUT_S)
    with pytest.raises(BackendTimeout, match="redis GET: no answer in 62 ms") as caught:
        await late
    assert ("redis", "GET") == (caught.value.backend, caught.value.operation)
    asked = connection.link.ask("GET", "next")
    connection.hear(b"$4\r\nlate\r\n", b"$4\r\nnext\r\n")
    assert b"next" == await asked


async def test_each_caller_has_its_own_time() -> None:
    """Of those who wait only the overdue are let go; those who asked later are still answered."""
    connection = Connection()
    asked = []
    for _ in range(3):
        asked.append(connection.link.ask("GET", "key"))
        connection.elapse(TIMEOUT_S / 4)
    assert [False, False, False] == [future.done() for future in asked]
    connection.elapse(TIMEOUT_S / 4)
    assert [True, False, False] == [future.done() for future in asked]
    connection.elapse(TIMEOUT_S / 4)
    assert [True, True, False] == [future.done() for future in asked]
    connection.hear(b"+1\r\n+2\r\n+3\r\n")
    assert b"3" == await asked[2]
    for overdue in asked[:2]:
        with pytest.raises(BackendTimeout):
            await overdue


async def test_time_runs_anew_for_a_later_question() -> None:
    """After a question that was answered in time the next one has its whole time, and no more."""
    connection = Connection()
    for _ in range(3):
        assert b"OK" == await connection.answered(b"+OK\r\n")
        connection.elapse(TIMEOUT_S * 0.75)
    asked = connection.link.ask("GET", "key")
    connection.elapse(TIMEOUT_S * 0.75)
    assert not asked.done()
    connection.elapse(TIMEOUT_S * 0.25)
    with pytest.raises(BackendTimeout):
        await asked


async def test_a_server_that_went_silent_keeps_nobody_longer_than_their_time() -> None:
    """Who asks while an earlier reply is overdue already is let go as soon as anyone else."""
    connection = Connection()
    for _ in range(5):
        asked = connection.link.ask("GET", "key")
        connection.elapse(TIMEOUT_S)
        with pytest.raises(BackendTimeout):
            await asked
        connection.elapse(3 * TIMEOUT_S)
    assert connection.link.is_up


async def test_a_cancelled_callers_reply_reaches_nobody() -> None:
    """A caller that went away leaves its place in the order."""
    connection = Connection()
    gone, stays = connection.link.ask("GET", "gone"), connection.link.ask("GET", "stays")
    failing = connection.link.ask("GET", "fails")
    gone.cancel()
    failing.cancel()
    connection.hear(b"$4\r\ngone\r\n$5\r\nstays\r\n-ERR for nobody\r\n")
    assert b"stays" == await stays
    assert b"last" == await connection.answered(b"$4\r\nlast\r\n")


async def test_news_between_replies_are_heard_and_answer_nobody() -> None:
    """Pushes go to the listener: named keys, or all of them after a flush; other kinds are let be."""
    connection = Connection()
    asked = [connection.link.ask("GET", key) for key in "ab"]
    connection.hear(
        b"+a\r\n",
        b">2\r\n$10\r\ninvalidate\r\n*2\r\n$1\r\nx\r\n$3\r\n\xff\xc3\xa9\r\n",
        b">2\r\n$10\r\ninvalidate\r\n_\r\n",
        b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n",
        b"+b\r\n",
        b">2\r\n$10\r\ninvalidate\r\n*2\r\n:1\r\n$1\r\ny\r\n",
    )
    assert [b"a", b"b"] == [await future for future in asked]
    assert [("x", "\ufffdé"), None, ("y",)] == connection.told.keys


async def test_news_without_a_listener_are_let_be() -> None:
    """A connection that nobody listens to goes on all the same."""
    connection = Connection(listens=False)
    connection.hear(b">2\r\n$10\r\ninvalidate\r\n_\r\n")
    assert b"OK" == await connection.answered(b"+OK\r\n")
