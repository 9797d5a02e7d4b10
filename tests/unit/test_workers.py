"""Keeping worker processes alive, with processes that only do what a test says."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from ai_cache_extproc.extproc.workers import PAUSE_S_MAX, PAUSE_S_MIN, SETTLED_S, Backoff, Worker, Workers

PATIENCE_S = 30.0
SERVES = """
import signal
print('{"ready": ["127.0.0.1:1"]}', flush=True)
signal.pause()
"""
REFUSES = """print('{"refused": {"path": "listen", "reason": "is taken", "source": null}}')"""
DRAINS = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
signal.signal(signal.SIGHUP, lambda *_: print('{"ready": ["poked"]}', flush=True))
print('{"ready": ["127.0.0.1:1"]}', flush=True)
while True: signal.pause()
"""


class Kept:
    """One worker, what was counted of it and the orders that it got."""

    def __init__(self, script: str, *, count: int = 1, program: str = sys.executable) -> None:
        self.restarts: list[int] = []
        self.ends: list[int] = []
        self.orders: list[tuple[str, ...]] = []
        self.workers = Workers(
            count,
            # Without site packages a start takes a hundredth of a second.
            command=lambda number: [program, "-I", "-S", "-c", script, str(number)],
            order=self._order,
            metrics=self,
            ended=self.ends.append,
            monotonic=time.monotonic,
        )

    def worker_restarted(self, worker: int) -> None:
        self.restarts.append(worker)

    def _order(self, _number: int, earlier: tuple[str, ...]) -> bytes:
        self.orders.append(earlier)
        return b"an order that nobody reads"

    @property
    def one(self) -> Worker:
        """The first worker."""
        return self.workers.all[0]


async def until(holds: Callable[[], bool]) -> None:
    """Wait for something to become so."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110 - processes do not tell
            await asyncio.sleep(0.005)


@asynccontextmanager
async def kept(script: str, *, count: int = 1, program: str = sys.executable) -> AsyncIterator[Kept]:
    """Keep workers that run a script; at the end none is left."""
    running = Kept(script, count=count, program=program)
    async with asyncio.TaskGroup() as group:
        for worker in running.workers.all:
            group.create_task(worker.keep())
        try:
            yield running
        finally:
            running.workers.kill()


def test_the_pause_doubles_until_a_worker_has_lived() -> None:
    """At once at first, never longer than the bound, and short again after a life of some length."""
    backoff = Backoff()
    pauses = [backoff.after(0) for _ in range(8)]
    assert [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, PAUSE_S_MAX, PAUSE_S_MAX] == pauses
    assert PAUSE_S_MIN == backoff.after(SETTLED_S)
    assert PAUSE_S_MIN * 2 == backoff.after(SETTLED_S - 1)


async def test_workers_are_ready_when_all_have_said_so() -> None:
    """Each has a process, and says where it listens."""
    async with kept(SERVES, count=2) as running:
        async with asyncio.timeout(PATIENCE_S):
            assert None is await running.workers.started()
        assert ("127.0.0.1:1", "127.0.0.1:1") == running.workers.listen
        assert 2 == len({worker.pid for worker in running.workers.all} - {None})
    assert [None, None] == [worker.pid for worker in running.workers.all]
    assert [] == running.restarts


async def test_a_worker_that_is_killed_is_started_again() -> None:
    """At its old address, counted and logged with its exit code."""
    with capture_logs() as lines:
        async with kept(SERVES) as running:
            await until(lambda: running.one.ready)
            first = running.one.pid
            running.one.send(signal.SIGKILL)
            await until(lambda: running.one.ready and running.one.pid != first)
    assert ([0], [0, 0], 2) == (running.restarts, running.ends, running.one.starts)
    assert [(), ("127.0.0.1:1",)] == running.orders
    (line,) = [line for line in lines if line["event"] == "worker_ended"]
    assert (0, -signal.SIGKILL, None, PAUSE_S_MIN) == (
        line["worker"],
        line["exit_code"],
        line["reason"],
        line["starts_in_s"],
    )


async def test_a_worker_that_ends_by_itself_is_started_again() -> None:
    """Exit code 0 too: nobody told it to end."""
    async with kept("pass") as running:
        await until(lambda: len(running.restarts) == 2)
        assert not running.one.ready


async def test_a_refusal_at_the_start_is_final() -> None:
    """A worker that cannot serve as configured is not tried again, and the reason is known."""
    async with kept(REFUSES, count=2) as running:
        async with asyncio.timeout(PATIENCE_S):
            refusal = await running.workers.started()
        await until(lambda: len(running.ends) == 2)
    assert "listen: is taken" == str(refusal)
    assert [] == running.restarts


async def test_a_refusal_after_it_had_served_is_tried_again(tmp_path: Path) -> None:
    """What stands in the way of a restart may go; until then the log says what it is."""
    served = tmp_path / "served"
    script = f"""
from pathlib import Path
if Path({str(served)!r}).exists():
    {REFUSES}
else:
    Path({str(served)!r}).touch()
    {SERVES.strip().splitlines()[1]}
"""
    with capture_logs() as lines:
        async with kept(script) as running:
            await until(lambda: len(running.restarts) == 2)
            assert not running.one.given_up
            served.unlink()
            await until(lambda: len(running.restarts) == 3)
    assert [None, "listen: is taken"] == [line["reason"] for line in lines if line["event"] == "worker_ended"][:2]


async def test_noise_on_the_output_is_no_word() -> None:
    """Whatever a library prints there, however long, is passed over."""
    noise = f"import sys; print('hello'); print('{{}}'); print('x' * 200_000, flush=True)\n{SERVES}"
    async with kept(noise) as running:
        await until(lambda: running.one.ready)
        assert [] == running.restarts


async def test_a_program_that_cannot_be_started_is_tried_again() -> None:
    """Too many processes, or no interpreter for a moment: the reason is logged."""
    with capture_logs() as lines:
        async with kept("", program="/nonexistent/python") as running:
            await until(lambda: len(running.restarts) == 2)
    reasons = [line["reason"] for line in lines if line["event"] == "worker_not_started"]
    assert "No such file or directory" in reasons[0]
    assert [] == running.ends


async def test_draining_ends_it_and_none_follows() -> None:
    """SIGTERM is passed on; a good end says nothing."""
    with capture_logs() as lines:
        async with kept(DRAINS) as running:
            await until(lambda: running.one.ready)
            running.workers.drain()
            await until(lambda: running.one.pid is None)
    assert ([], [0], []) == (running.restarts, running.ends, lines)


async def test_a_bad_end_while_draining_is_named() -> None:
    """An exit code that nobody asked for is in the log."""
    script = DRAINS.replace("sys.exit(0)", "sys.exit(3)")
    with capture_logs() as lines:
        async with kept(script) as running:
            await until(lambda: running.one.ready)
            running.workers.drain()
            await until(lambda: running.one.pid is None)
    assert [("worker_ended_badly", 3)] == [(line["event"], line["exit_code"]) for line in lines]


@pytest.mark.parametrize("script", [DRAINS, "import signal; signal.pause()"], ids=["ready", "still starting"])
async def test_hastening_ends_a_worker_at_any_age(script: str) -> None:
    """One that serves may end in order, one that is starting has nothing to lose."""
    async with kept(script) as running:
        await until(lambda: running.one.pid is not None and running.one.ready == (script is DRAINS))
        running.workers.hasten()
        await until(lambda: running.one.pid is None)
    assert [] == running.restarts


async def test_only_who_serves_is_told_to_read_the_document_again() -> None:
    """SIGHUP would end a process that is starting, which has just been given the document."""
    async with kept(DRAINS) as running:
        running.workers.poke()
        await until(lambda: running.one.ready)
        running.workers.poke()
        await until(lambda: running.one.listen == ("poked",))
        assert [] == running.restarts


async def test_a_stop_during_a_pause_or_a_start_is_heard() -> None:
    """Nothing is started after the stop."""
    async with kept("pass") as running:
        await until(lambda: len(running.restarts) == 4)
        running.workers.drain()
    starts = running.one.starts
    assert 4 <= starts <= 5
    async with kept(SERVES) as running:
        await asyncio.sleep(0)
        assert (1, None) == (running.one.starts, running.one.pid)
        running.workers.drain()
    assert 1 == running.one.starts


async def test_a_cancelled_keeper_leaves_no_process() -> None:
    """If the supervisor fails, its workers end."""
    running = Kept(SERVES)
    task = asyncio.create_task(running.one.keep())
    await until(lambda: running.one.ready)
    pid = running.one.pid
    assert pid is not None
    task.cancel()
    await asyncio.wait((task,))
    await until(lambda: not alive(pid))


def alive(pid: int) -> bool:
    """Whether there is such a process, one that has ended and was not waited for not counted."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
