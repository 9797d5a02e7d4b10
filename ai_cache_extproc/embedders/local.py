"""Models in this process: one thread runs them, a short queue stands before it, and the event loop never waits.

Everything that blocks (loading, embedding, measuring) runs in that thread; the rest in the loop that opened it.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import Final, Protocol, TypeAlias, TypeVar

import numpy as np
import structlog

from ai_cache_extproc.clients.breaker import Gate
from ai_cache_extproc.config.embedders import EmbeddedEmbedder, OnnxEmbedder
from ai_cache_extproc.config.thresholds import threshold_for
from ai_cache_extproc.embedders.base import CHECKED_TEXT, OPERATION, UnusableVectors, Vectors, cleaned, unit_vectors
from ai_cache_extproc.errors import BackendRejected, BackendTimeout, BackendUnavailable
from ai_cache_extproc.model import BreakerState

log = structlog.get_logger()

T = TypeVar("T")
Watch: TypeAlias = Callable[[str, str, BreakerState | None], None]

SERVER: Final = "in-process"
CHARS_CEILING: Final = 2048
_LENGTHS: Final = (16, 24, 32, 48, 64, 96, 128, 160, 192, 256, 320, 384, 512, 768, 1024, 1536, CHARS_CEILING)
# The rest of the budget is for the way to the thread and back.
_SHARE: Final = 0.8
# Chinese, because a character of it is a token or nearly so, where a Latin one is a quarter.
_SAMPLE: Final = (
    "云计算平台如何在保证数据安全的前提下提升企业的运营效率和客户满意度请举例说明具体的实施步骤以及常见问题"
)


class Model(Protocol):
    """What runs in the thread. Blocks."""

    name: str
    identity: str
    dimensions: int

    def encode(self, text: str) -> object:
        """One vector. Raises ValueError for a text that the model cannot take whole."""
        ...


class LocalEmbedder:
    """An Embedder whose model runs here."""

    def __init__(
        self,
        name: str,
        settings: EmbeddedEmbedder | OnnxEmbedder,
        model: Model,
        *,
        chars_max: int,
        thread: ThreadPoolExecutor,
        gate: Gate,
    ) -> None:
        self.name = name
        self.identity = model.identity
        self.dimensions: int = model.dimensions
        self.default_threshold, self.is_calibrated = threshold_for(model.name)
        self.chars_max = chars_max
        self._settings = settings
        self._model = model
        self._thread = thread
        self._gate = gate
        self._loop = asyncio.get_running_loop()
        self._outstanding = 0

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        settings: EmbeddedEmbedder | OnnxEmbedder,
        load: Callable[[], Model],
        *,
        breaker_watch: Watch | None,
        clock: Callable[[], float] = time.monotonic,
        stopwatch: Callable[[], float] = time.thread_time,
    ) -> AsyncIterator[LocalEmbedder]:
        """Load the model, measure how long a text may be, and start the thread that serves.

        clock: monotonic seconds. stopwatch: measures embeddings, in the thread's own processor time, so that a machine
        that is busy at start is not taken for a slow one.
        Raises ConfigError for a model that is not installed or not there.
        """
        name = settings.type
        watch = breaker_watch or _nobody

        def changed(state: BreakerState) -> None:
            watch(name, SERVER, state)

        gate = Gate(failures_max=settings.failures_max, probe_s=settings.probe_ms / 1000, changed=changed, clock=clock)
        thread = ThreadPoolExecutor(1, thread_name_prefix="embedder", initializer=_stand_back, initargs=(settings,))
        # A start that stood back would not end on a busy machine. ONNX's threads start with the model, and stay as they are.
        starting = ThreadPoolExecutor(1) if settings.type == "embedded" else thread
        try:
            model, chars_max = await asyncio.get_running_loop().run_in_executor(
                starting, _started, load, settings, stopwatch
            )
            if starting is not thread:
                # What the model started for it ends with it.
                starting.shutdown(wait=False)
            if not chars_max:
                # A slow machine must not be kept from starting; the breaker sees how it goes on.
                chars_max = _LENGTHS[0]
                log.warning("embedder_slow", embedder=name, model=model.name, budget_ms=settings.timeout_ms)
            log.info("embedder_ready", embedder=name, model=model.name, chars_max=chars_max)
            changed(BreakerState.CLOSED)
            yield cls(name, settings, model, chars_max=chars_max, thread=thread, gate=gate)
        finally:
            # What the thread is at cannot be stopped, and nobody waits for it.
            for each in (thread, starting):
                each.shutdown(wait=False, cancel_futures=True)
            watch(name, SERVER, None)

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """See Embedder. One text after the other, so that a long list does not keep others from the thread."""
        vectors = np.empty((len(texts), self.dimensions), dtype=np.float32)
        for row, text in enumerate(texts):
            vectors[row : row + 1] = await self._one(cleaned(text))
        return vectors

    async def check(self) -> None:
        """See Embedder."""
        await self.embed([CHECKED_TEXT])

    async def _one(self, text: str) -> Vectors:
        if not self._gate.admit():
            raise BackendUnavailable(self.name, OPERATION, "its circuit breaker is open")
        try:
            raw = await self._in_thread(text)
        except BackendTimeout:
            self._gate.failed()
            raise
        except BaseException:
            self._gate.left()
            raise
        self._gate.succeeded()
        try:
            rows = np.reshape(np.asarray(raw), (1, -1))
            return unit_vectors(rows, count=1, dimensions=self.dimensions)
        except UnusableVectors as error:
            raise BackendRejected(self.name, OPERATION, str(error)) from error

    async def _in_thread(self, text: str) -> object:
        # One is being embedded, the rest waits.
        if self._outstanding > self._settings.queue_max:
            raise BackendUnavailable(
                self.name, OPERATION, f"{self._settings.queue_max} texts are waiting (`queue_max`)"
            )
        limit_ms = self._settings.timeout_ms
        job = self._thread.submit(self._model.encode, text)
        self._outstanding += 1
        job.add_done_callback(self._ended)
        try:
            async with asyncio.timeout(limit_ms / 1000):
                return await asyncio.wrap_future(job)
        except TimeoutError as error:
            raise BackendTimeout(self.name, OPERATION, f"not done within {limit_ms} ms") from error
        except (ValueError, RuntimeError) as error:
            raise BackendRejected(
                self.name, OPERATION, f"the model took no such text ({type(error).__name__})"
            ) from error

    def _ended(self, _job: Future[object]) -> None:
        """Runs in whichever thread ended the job."""
        # A loop that is closed by now counts nothing any more.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._count_down)

    def _count_down(self) -> None:
        self._outstanding -= 1


def _started(
    load: Callable[[], Model], settings: EmbeddedEmbedder | OnnxEmbedder, stopwatch: Callable[[], float]
) -> tuple[Model, int]:
    """The model, and how long a text may be."""
    model = load()
    if settings.chars_max is not None:
        return model, settings.chars_max
    return model, measured_chars_max(model.encode, settings.timeout_ms / 1000 * _SHARE, stopwatch)


def measured_chars_max(encode: Callable[[str], object], budget_s: float, clock: Callable[[], float]) -> int:
    """How many characters the model embeds within the budget, 0 if not even the fewest. Blocks for some budgets."""
    sample = _SAMPLE * (CHARS_CEILING // len(_SAMPLE) + 1)
    encode(sample[: _LENGTHS[0]])
    fits = 0
    for length in _LENGTHS:
        if min(_seconds(encode, sample[:length], clock) for _ in range(3)) > budget_s:
            break
        fits = length
    return fits


def _seconds(encode: Callable[[str], object], text: str, clock: Callable[[], float]) -> float:
    began_s = clock()
    encode(text)
    return clock() - began_s


def threads_of(settings: EmbeddedEmbedder | OnnxEmbedder) -> int:
    """How many threads one embedding may use on this machine."""
    return min(settings.threads, os.cpu_count() or 1)


def _stand_back(settings: EmbeddedEmbedder | OnnxEmbedder) -> None:
    """Let the thread that serves go first: on Linux each thread has a policy of its own, and those it starts inherit it.

    Niceness does not do: who wakes up still waits for the slice of who is nicer, which is some milliseconds.
    """
    if sys.platform == "linux" and settings.scheduling == "idle":
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def _nobody(backend: str, server: str, state: BreakerState | None) -> None:
    pass
