"""The one SQLite connection and the one thread that uses it.

A hand-over between threads costs more than a read, so the jobs of one turn of the event loop cross together, and so
do their results. Errors leave here as BackendError: nobody above sees sqlite3's own.
"""

from __future__ import annotations

import asyncio
import math
import queue
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar, runtime_checkable

import structlog

from ai_cache_extproc.clients.sqlite_file import Schema, SqliteFile, is_damage, primary_code
from ai_cache_extproc.errors import BackendError, BackendRejected, BackendTimeout, BackendUnavailable

log = structlog.get_logger()

T = TypeVar("T")

_BACKEND = "sqlite"
# After an opening that failed, jobs are refused this long without another attempt.
_RETRY_S = 1.0
# A damaged file is replaced once in this time; a disk that damages every file must not be filled with new ones.
_RENEW_S = 60.0
# How often to look whether the path still names the file that is open: a stat each time costs as much as a read.
_LOOK_S = 1.0
_TIMEOUTS = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_INTERRUPT})
_REJECTIONS = frozenset(
    {sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_RANGE}
)


@contextmanager
def map_errors(operation: str, path: Path) -> Iterator[None]:
    """Turn what sqlite3 and the file system raise into a BackendError that names the file."""
    try:
        yield
    except sqlite3.Error as error:
        code = primary_code(error)
        kind: type[BackendError] = BackendUnavailable
        if code in _TIMEOUTS:
            kind = BackendTimeout
        elif code in _REJECTIONS or isinstance(error, sqlite3.DataError):
            kind = BackendRejected
        raise kind(_BACKEND, operation, f"{path}: {error}") from error
    except OSError as error:
        raise BackendUnavailable(_BACKEND, operation, f"{error.filename or path}: {error.strerror}") from error


@dataclass(slots=True)
class _Job(Generic[T]):
    operation: str
    work: Callable[[sqlite3.Connection], T]
    future: asyncio.Future[T]
    result: T | None = None
    error: BaseException | None = None

    def deliver(self) -> None:
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)  # type: ignore[arg-type]  # None is the result where T is None


class SqliteThread:
    """Runs jobs on the connection, in the order in which they came. Belongs to the event loop that opened it."""

    def __init__(
        self,
        file: SqliteFile,
        *,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        jobs_max: int,
    ) -> None:
        self._file = file
        self._loop = loop
        self._clock = clock
        self._jobs_max = jobs_max
        self._turn: list[_Job[object]] = []
        self._outstanding = 0
        self._closing = False
        self._abandoned = False
        self._ended = asyncio.Event()
        # Unbounded by itself: `jobs_max` bounds what is outstanding, wherever it stands.
        self._queue: queue.SimpleQueue[list[_Job[object]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._main, name="sqlite")
        self._connection: sqlite3.Connection | None = None
        self._open_from = -math.inf
        self._renew_from = -math.inf
        self._look_from = -math.inf

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        path: Path,
        *,
        schema: Schema,
        clock: Callable[[], float] = time.monotonic,
        jobs_max: int = 4096,
        busy_timeout_ms: int = 50,
        close_s_max: float = 5.0,
    ) -> AsyncIterator[SqliteThread]:
        """Open the file and start the thread; on leaving, finish what was asked for, within `close_s_max`.

        clock: monotonic. jobs_max: more than these are refused. Raises ConfigError, BackendError.
        """
        file = SqliteFile(path, schema=schema, busy_timeout_ms=busy_timeout_ms)
        loop = asyncio.get_running_loop()
        opened = cls(file, loop=loop, clock=clock, jobs_max=jobs_max)
        opened._thread.start()
        try:
            await opened.run("open", lambda _: None)
            yield opened
        finally:
            await opened._close(close_s_max)

    async def run(self, operation: str, work: Callable[[sqlite3.Connection], T]) -> T:
        """Return what `work` returns in the thread; it may run twice if the file had to be replaced.

        A job whose caller was cancelled before its turn is not run. Raises BackendError, and whatever else `work` does.
        """
        if self._closing:
            raise BackendUnavailable(_BACKEND, operation, "the connection is closed")
        if self._outstanding >= self._jobs_max:
            raise BackendUnavailable(_BACKEND, operation, f"{self._jobs_max} operations are waiting")
        future: asyncio.Future[T] = self._loop.create_future()
        if not self._turn:
            self._loop.call_soon(self._hand_over)
        self._turn.append(_Job(operation, work, future))  # type: ignore[arg-type]  # each job keeps its own type
        self._outstanding += 1
        return await future

    def _hand_over(self) -> None:
        if self._turn:
            self._queue.put(self._turn)
            self._turn = []

    def _deliver(self, jobs: list[_Job[object]]) -> None:
        self._outstanding -= len(jobs)
        for job in jobs:
            job.deliver()

    async def _close(self, close_s_max: float) -> None:
        self._closing = True
        self._hand_over()
        self._queue.put(None)
        if not await self._has_ended(close_s_max):
            self._abandoned = True
            if self._connection is not None:
                self._connection.interrupt()
            log.warning("store_close_interrupted", path=str(self._file.path), waited_s=close_s_max)
            if not await self._has_ended(close_s_max):
                return
        self._thread.join()

    async def _has_ended(self, wait_s: float) -> bool:
        try:
            async with asyncio.timeout(wait_s):
                return await self._ended.wait()
        except TimeoutError:
            return False

    def _main(self) -> None:
        """The thread: from here on down nothing runs in the loop, except what is handed to `_tell`."""
        try:
            while self._serve(self._queue.get()):
                pass
        finally:
            self._disconnect()
            self._tell(self._ended.set)

    def _serve(self, jobs: list[_Job[object]] | None) -> bool:
        if jobs is None:
            return False
        for job in jobs:
            if not job.future.cancelled():
                self._perform(job)
        self._tell(self._deliver, jobs)
        return True

    def _perform(self, job: _Job[object]) -> None:
        try:
            if self._abandoned:
                raise BackendUnavailable(_BACKEND, job.operation, "the connection is closing")
            self._look_after_file()
            job.result = job.work(self._connection or self._connect(job.operation))
        except BaseException as error:  # noqa: BLE001  # raised again where the job is awaited
            self._fail(job, error)

    def _fail(self, job: _Job[object], error: BaseException) -> None:
        """Run a job once more if all that it lacks is a sound file, else keep its error."""
        try:
            with map_errors(job.operation, self._file.path):
                if not self._renewed(error):
                    raise error
                job.result = job.work(self._connect(job.operation))
        except BaseException as final:  # noqa: BLE001  # raised again where the job is awaited
            job.error = final

    def _renewed(self, error: BaseException) -> bool:
        if not isinstance(error, sqlite3.DatabaseError) or not is_damage(error) or self._clock() < self._renew_from:
            return False
        self._renew_from = self._clock() + _RENEW_S
        self._disconnect()
        self._file.set_aside(str(error))
        return True

    def _connect(self, operation: str) -> sqlite3.Connection:
        if self._clock() < self._open_from:
            raise BackendUnavailable(_BACKEND, operation, f"{self._file.path} did not open a moment ago")
        self._open_from = self._clock() + _RETRY_S
        self._connection = self._file.open()
        self._open_from = -math.inf
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def _look_after_file(self) -> None:
        """Let go of a file that was removed or replaced: what is written there, nobody else would ever see."""
        if self._connection is None or self._clock() < self._look_from:
            return
        self._look_from = self._clock() + _LOOK_S
        if self._file.moved():
            log.warning("store_file_moved", path=str(self._file.path))
            self._disconnect()

    def _tell(self, callback: Callable[..., object], *arguments: object) -> None:
        # A loop that did not wait for the thread is closed by now, and nobody is left to hear.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback, *arguments)


@runtime_checkable
class KeepsFile(Protocol):
    """A store with a file in which others may keep tables of their own."""

    @property
    def thread(self) -> SqliteThread:
        """Where jobs on it run."""
        ...
