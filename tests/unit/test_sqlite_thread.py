"""The one connection thread: order, bounds, cancellation, errors, and an end that does not hang."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from ai_cache_extproc.clients.sqlite import SqliteThread, map_errors
from ai_cache_extproc.clients.sqlite_file import Schema
from ai_cache_extproc.errors import BackendError, BackendRejected, BackendTimeout, BackendUnavailable

SCHEMA = Schema(application_id=1, version=1, statements=("CREATE TABLE IF NOT EXISTS t (v INTEGER)",))
PATH = Path("cache.db")
# Counts for hours, unless it is interrupted.
ENDLESS = "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT count(*) FROM c"


def insert(number: int) -> Callable[[sqlite3.Connection], None]:
    """A job that writes a number."""

    def work(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO t VALUES (?)", (number,))

    return work


def numbers(connection: sqlite3.Connection) -> list[int]:
    """What was written, in the order of writing."""
    return [number for (number,) in connection.execute("SELECT v FROM t ORDER BY rowid")]


async def test_jobs_run_in_order_in_one_other_thread(tmp_path: Path) -> None:
    """Jobs of one turn and of the next run one after the other, none in the loop's thread."""
    async with SqliteThread.open(tmp_path / "t.db", schema=SCHEMA) as thread:
        first = [asyncio.ensure_future(thread.run("insert", insert(number))) for number in range(10)]
        await asyncio.sleep(0)
        second = [asyncio.ensure_future(thread.run("insert", insert(number))) for number in range(10, 20)]
        await asyncio.gather(*first, *second)
        assert list(range(20)) == await thread.run("select", numbers)
        idents = {await thread.run("ident", lambda _: threading.get_ident()) for _ in range(3)}
    assert 1 == len(idents)
    assert threading.get_ident() not in idents


async def test_the_thread_ends_with_the_context(tmp_path: Path) -> None:
    """Nothing is left running, and what was asked for before the end is done."""
    async with SqliteThread.open(tmp_path / "t.db", schema=SCHEMA) as thread:
        pending = [asyncio.ensure_future(thread.run("insert", insert(number))) for number in range(5)]
        await asyncio.sleep(0)
    await asyncio.gather(*pending)
    assert "sqlite" not in {each.name for each in threading.enumerate()}
    async with SqliteThread.open(tmp_path / "t.db", schema=SCHEMA) as thread:
        assert list(range(5)) == await thread.run("select", numbers)


async def test_a_closed_connection_refuses(tmp_path: Path) -> None:
    """After the end a job is refused at once."""
    async with SqliteThread.open(tmp_path / "t.db", schema=SCHEMA) as thread:
        pass
    with pytest.raises(BackendUnavailable, match="sqlite select: the connection is closed"):
        await thread.run("select", numbers)


async def test_the_queue_is_bounded(tmp_path: Path) -> None:
    """Beyond `jobs_max` waiting jobs the next is refused; when they are done there is room again."""
    release = threading.Event()
    async with SqliteThread.open(tmp_path / "t.db", schema=SCHEMA, jobs_max=3) as thread:
        waiting = [asyncio.ensure_future(thread.run("wait", lambda _: release.wait(20))) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(BackendUnavailable, match="3 operations are waiting"):
            await thread.run("select", numbers)
        release.set()
        assert [True, True, True] == await asyncio.gather(*waiting)
        assert [] == await thread.run("select", numbers)


async def test_a_cancelled_job_is_not_run(tmp_path: Path) -> None:
    """A job whose caller left before its turn is dropped; one under way is finished, and nobody is told."""
    begun, release = threading.Event(), threading.Event()

    def hold(connection: sqlite3.Connection) -> None:
        begun.set()
        release.wait(20)
        insert(1)(connection)

    async with SqliteThread.open(tmp_path / "t.db", schema=SCHEMA, jobs_max=3) as thread:
        under_way = asyncio.ensure_future(thread.run("hold", hold))
        await asyncio.to_thread(begun.wait, 20)
        waiting = asyncio.ensure_future(thread.run("insert", insert(2)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert [True, True] == [under_way.cancel(), waiting.cancel()]
        release.set()
        assert [1] == await thread.run("select", numbers)
        for _ in range(10):
            assert [1] == await thread.run("select", numbers)


async def test_an_error_reaches_only_its_own_caller(tmp_path: Path) -> None:
    """Of jobs that cross together, the one that fails raises and the others give their results."""
    async with SqliteThread.open(tmp_path / "t.db", schema=SCHEMA) as thread:
        results = await asyncio.gather(
            thread.run("one", lambda _: 1),
            thread.run("bad", lambda connection: connection.execute("SELECT nothing")),
            thread.run("bug", lambda _: int("a bug")),
            thread.run("two", lambda _: 2),
            return_exceptions=True,
        )
    assert [int, BackendUnavailable, ValueError, int] == [type(result) for result in results]


async def test_an_opening_that_fails_leaves_no_thread(tmp_path: Path) -> None:
    """The error of opening is raised where the file is opened, and the thread ends."""
    with pytest.raises(BackendUnavailable):
        async with SqliteThread.open(tmp_path / "t.db", schema=Schema(1, 1, ("NO SQL",))):
            pass
    assert "sqlite" not in {each.name for each in threading.enumerate()}


async def test_an_endless_statement_is_interrupted_at_the_end(tmp_path: Path) -> None:
    """Closing waits so long and no longer: the statement is stopped, and what waits behind it is refused."""
    with capture_logs() as logs:
        async with SqliteThread.open(tmp_path / "t.db", schema=SCHEMA, close_s_max=0.02) as thread:
            endless = asyncio.ensure_future(thread.run("count", lambda connection: connection.execute(ENDLESS)))
            behind = asyncio.ensure_future(thread.run("select", numbers))
            await asyncio.sleep(0.005)
        results = await asyncio.gather(endless, behind, return_exceptions=True)
    assert [BackendTimeout, BackendUnavailable] == [type(result) for result in results]
    assert ["store_close_interrupted"] == [line["event"] for line in logs]
    assert "sqlite" not in {each.name for each in threading.enumerate()}


def test_a_job_that_nothing_stops_does_not_hold_the_loop(tmp_path: Path) -> None:
    """Where even an interruption does not help the loop ends, and the thread ends quietly when it can."""
    release = threading.Event()

    async def run() -> None:
        async with SqliteThread.open(tmp_path / "t.db", schema=SCHEMA, close_s_max=0.02) as thread:
            stuck = asyncio.ensure_future(thread.run("wait", lambda _: release.wait(20)))
            await asyncio.sleep(0.005)
        stuck.cancel()

    asyncio.run(run())
    (thread,) = [each for each in threading.enumerate() if each.name == "sqlite"]
    release.set()
    thread.join(20)
    assert not thread.is_alive()


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (sqlite3.SQLITE_BUSY, BackendTimeout),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, BackendTimeout),
        (sqlite3.SQLITE_INTERRUPT, BackendTimeout),
        (sqlite3.SQLITE_TOOBIG, BackendRejected),
        (sqlite3.SQLITE_CONSTRAINT_NOTNULL, BackendRejected),
        (sqlite3.SQLITE_FULL, BackendUnavailable),
        (sqlite3.SQLITE_IOERR_WRITE, BackendUnavailable),
        (sqlite3.SQLITE_CORRUPT, BackendUnavailable),
        (None, BackendUnavailable),
    ],
)
def test_sqlites_errors_are_translated(code: int | None, expected: type[BackendError]) -> None:
    """Each result code becomes one of our three kinds, and names the operation and the file."""
    error = sqlite3.OperationalError("the text")
    if code is not None:
        error.sqlite_errorcode = code
    with pytest.raises(BackendError) as caught, map_errors("get", PATH):
        raise error
    assert (expected, "sqlite get: cache.db: the text") == (type(caught.value), str(caught.value))
    assert caught.value.__cause__ is error


def test_the_file_systems_errors_are_translated() -> None:
    """An error of the file system names its own file."""
    expected = r"sqlite open: cache\.db\.key: No such file or directory"
    with pytest.raises(BackendUnavailable, match=expected), map_errors("open", PATH):
        raise FileNotFoundError(2, "No such file or directory", "cache.db.key")


def test_a_value_too_large_for_sqlite_is_refused() -> None:
    """What Python's module refuses by itself is a refusal as well."""
    with pytest.raises(BackendRejected), map_errors("set", PATH):
        raise sqlite3.DataError("string or blob is too big")
