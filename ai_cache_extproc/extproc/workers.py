"""Keeps worker processes alive: each is spawned, never forked, and started again whenever it ends, until it is told to stop.

Nothing here knows what a worker serves; what is said between the two is in `orders.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol, assert_never

import structlog

from ai_cache_extproc.errors import ConfigError
from ai_cache_extproc.extproc.orders import Ready, Refused, heard

PAUSE_S_MIN = 0.1
PAUSE_S_MAX = 5.0
SETTLED_S = 10.0
"""A worker that lived this long did not end for how it was started."""

log = structlog.get_logger()


class RestartMetrics(Protocol):
    """Where restarts are counted."""

    def worker_restarted(self, worker: int) -> None:
        """A worker is started again."""
        ...


class Backoff:
    """How long to wait before the next start: twice as long for each worker that did not live."""

    def __init__(self) -> None:
        self._pause_s = PAUSE_S_MIN

    def after(self, lived_s: float) -> float:
        """The pause, in seconds, after a worker that lived this long."""
        if lived_s >= SETTLED_S:
            self._pause_s = PAUSE_S_MIN
        pause_s = self._pause_s
        self._pause_s = min(pause_s * 2, PAUSE_S_MAX)
        return pause_s


class Workers:
    """All places, each of them kept by a task of the caller's (`Worker.keep`).

    command: what is run for a worker. order: what it is told, given the addresses that its predecessor had. ended: called
    at the end of each of its processes. monotonic: seconds.
    """

    def __init__(
        self,
        count: int,
        *,
        command: Callable[[int], Sequence[str]],
        order: Callable[[int, tuple[str, ...]], bytes],
        metrics: RestartMetrics,
        ended: Callable[[int], None],
        monotonic: Callable[[], float],
    ) -> None:
        self._changed = asyncio.Event()
        self.all = tuple(
            Worker(
                number,
                command=command(number),
                order=partial(order, number),
                metrics=metrics,
                changed=self._changed.set,
                ended=partial(ended, number),
                monotonic=monotonic,
            )
            for number in range(count)
        )

    @property
    def listen(self) -> tuple[str, ...]:
        """Where all of them listen, once they are ready."""
        return tuple(address for worker in self.all for address in worker.listen)

    async def started(self) -> ConfigError | None:
        """Wait until all of them are ready, or until one cannot serve as configured: why."""
        while not all(worker.ready for worker in self.all):
            refusal = next((worker.refusal for worker in self.all if worker.given_up), None)
            if refusal is not None:
                return refusal
            self._changed.clear()
            await self._changed.wait()
        return None

    def drain(self) -> None:
        """Let all of them serve what they have begun, and end."""
        for worker in self.all:
            worker.drain()

    def hasten(self) -> None:
        """Let them end at once, in order if they can."""
        for worker in self.all:
            worker.hasten()

    def kill(self) -> None:
        """End those that are left."""
        for worker in self.all:
            worker.kill()

    def poke(self) -> None:
        """Let all of them read the document again."""
        for worker in self.all:
            worker.poke()


class Worker:
    """One place among the workers, and the process that fills it at the moment. As for `Workers`.

    changed: called when it became ready or not, and when it refused.
    """

    def __init__(
        self,
        number: int,
        *,
        command: Sequence[str],
        order: Callable[[tuple[str, ...]], bytes],
        metrics: RestartMetrics,
        changed: Callable[[], None],
        ended: Callable[[], None],
        monotonic: Callable[[], float],
    ) -> None:
        self.number = number
        self.listen: tuple[str, ...] = ()
        self.ready = False
        self.refusal: ConfigError | None = None
        self.starts = 0
        self._command = command
        self._order = order
        self._metrics = metrics
        self._changed = changed
        self._ended = ended
        self._monotonic = monotonic
        self._process: Process | None = None
        self._stop = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """The process id; None while there is no process."""
        return None if self._process is None else self._process.pid

    @property
    def given_up(self) -> bool:
        """Whether it cannot serve as configured. One that once served may again: what stands in its way may go."""
        return self.refusal is not None and not self.listen

    async def keep(self) -> None:
        """Keep a process running until it is told to stop, or refuses to start although it never did."""
        backoff = Backoff()
        while not self._stop.is_set():
            started_s = self._monotonic()
            code = await self._live()
            if self._stop.is_set():
                if code not in {0, -signal.SIGTERM}:
                    log.warning("worker_ended_badly", worker=self.number, exit_code=code)
            elif self.given_up:
                return
            else:
                await self._pause(code, backoff, self._monotonic() - started_s)

    def drain(self) -> None:
        """Let the process serve what it has begun, and end; no other follows it."""
        self._stop.set()
        self.send(signal.SIGTERM)

    def hasten(self) -> None:
        """Let a draining process end at once, in order if it can."""
        self._stop.set()
        self.send(signal.SIGINT if self.ready else signal.SIGKILL)

    def kill(self) -> None:
        """End the process."""
        self._stop.set()
        self.send(signal.SIGKILL)

    def poke(self) -> None:
        """Let the process read the document again. One that is still starting has just been given it."""
        if self.ready:
            self.send(signal.SIGHUP)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process, if there is one."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def _live(self) -> int | None:
        """One process from start to end: its exit code, None if it could not even be started."""
        self.starts += 1
        self.refusal = None
        try:
            # A session of its own: what a terminal sends to everyone is for the supervisor to pass on.
            process = await asyncio.create_subprocess_exec(
                *self._command, stdin=PIPE, stdout=PIPE, start_new_session=True
            )
        except OSError as error:
            log.error("worker_not_started", worker=self.number, reason=str(error))  # noqa: TRY400 - the reason says it all
            return None
        self._process = process
        try:
            if self._stop.is_set():
                process.kill()
            assert process.stdin is not None
            process.stdin.write(self._order(self.listen))
            await self._listen_to(process)
            return await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
            self._process = None
            self.ready = False
            self._changed()
            self._ended()

    async def _listen_to(self, process: Process) -> None:
        """Hear what the process says until it says no more."""
        assert process.stdout is not None
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:
                # Longer than a word can be; the reader has dropped it.
                continue
            if not line:
                return
            self._hear(line)

    def _hear(self, line: bytes) -> None:
        match heard(line):
            case Ready(listen):
                self.listen, self.ready = listen, True
            case Refused(error):
                self.refusal = error
            case None:
                return
            case unknown:
                assert_never(unknown)
        self._changed()

    async def _pause(self, code: int | None, backoff: Backoff, lived_s: float) -> None:
        pause_s = backoff.after(lived_s)
        log.error(
            "worker_ended",
            worker=self.number,
            exit_code=code,
            reason=None if self.refusal is None else str(self.refusal),
            lived_s=round(lived_s, 3),
            starts_in_s=pause_s,
        )
        self._metrics.worker_restarted(self.number)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._stop.wait()
