"""Answers on their way into the store, behind the client's back: judged whole, remembered near, stored.

The queue is bounded; what does not fit is given back to whoever offered it. A lease that was handed over with an answer belongs to this file until it lands.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from ai_cache_extproc.cache.exact import Exact
from ai_cache_extproc.cache.flights import Flights
from ai_cache_extproc.config.rules import Rule
from ai_cache_extproc.dialects.base import Dialect
from ai_cache_extproc.errors import BackendError, BackendTimeout, DialectError
from ai_cache_extproc.model import Captured, Entry, Identity, Miss, Question
from ai_cache_extproc.telemetry.metrics import Metrics

log = structlog.get_logger()

# Judging a larger answer takes longer than a streamed chunk may wait; it moves to a thread.
_INLINE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, eq=False)
class Fill:
    """One whole answer to be kept for the question that missed."""

    question: Question
    dialect: Dialect
    rule: Rule
    miss: Miss
    captured: Captured


class WriteBack:
    """The queue and the one task that empties it."""

    def __init__(
        self,
        *,
        exact: Exact,
        flights: Flights,
        metrics: Metrics,
        clock: Callable[[], float],
        entries_max: int,
        bytes_max: int,
        store_timeout_s: float = 5,
    ) -> None:
        """clock: seconds since the epoch. store_timeout_s: for one write, out of everyone's way."""
        self._exact = exact
        self._flights = flights
        self._metrics = metrics
        self._clock = clock
        self._entries_max = entries_max
        self._bytes_max = bytes_max
        self._store_timeout_s = store_timeout_s
        self._queue: deque[Fill] = deque()
        self._bytes = 0
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        metrics.watch_write_queue(lambda: len(self._queue), lambda: self._bytes)

    def offer(self, fill: Fill) -> bool:
        """Take an answer and its lease; False if the queue is full, and then the lease stays with the caller."""
        size = len(fill.captured.body)
        if len(self._queue) >= self._entries_max or self._bytes + size > self._bytes_max:
            return False
        self._queue.append(fill)
        self._bytes += size
        self._idle.clear()
        self._wake.set()
        return True

    async def run(self) -> None:
        """Empty the queue until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                fill = self._queue.popleft()
                try:
                    await self._keep(fill)
                except Exception:
                    self._metrics.exchange_fault()
                    log.exception("fill_fault", key=fill.miss.identity.id)
                finally:
                    self._bytes -= len(fill.captured.body)
                    if fill.miss.lease is not None:
                        self._flights.leave(fill.miss.lease)
            self._idle.set()

    async def drain(self, seconds: float) -> bool:
        """Wait until everything taken so far is stored; False if that took longer than `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def _keep(self, fill: Fill) -> None:
        identity = fill.miss.identity
        try:
            await self._judge(fill)
        except DialectError as error:
            self._metrics.stored("refused", error.reason)
            log.debug("answer_refused", key=identity.id, reason=error.reason, detail=error.detail)
            if fill.miss.lease is not None:
                self._flights.refuse(fill.miss.lease, remember=True)
            return
        entry = self._joined(fill)
        self._exact.remember(identity, entry)
        if fill.miss.lease is not None:
            self._flights.land(fill.miss.lease, entry)
        await self._store(fill, entry)

    async def _judge(self, fill: Fill) -> None:
        captured, tool_calls = fill.captured, fill.rule.keep_tool_calls
        if len(captured.body) <= _INLINE_BYTES:
            fill.dialect.judge(fill.question, captured.mode, captured.body, tool_calls=tool_calls)
        else:
            await asyncio.to_thread(
                fill.dialect.judge, fill.question, captured.mode, captured.body, tool_calls=tool_calls
            )

    def _joined(self, fill: Fill) -> Entry:
        """The fresh answer, beside what is known of the other mode."""
        known = fill.miss.known.fresh(self._clock()) if fill.miss.known is not None else ()
        others = tuple(captured for captured in known if captured.mode is not fill.captured.mode)
        return Entry(
            dialect=fill.question.dialect,
            model=fill.question.model,
            rule=fill.rule.name,
            captures=(*others, fill.captured),
        )

    async def _store(self, fill: Fill, entry: Entry) -> None:
        ttl_s = entry.expires_s - self._clock()
        if ttl_s <= 0:
            self._metrics.stored("dropped", "expired")
            return
        try:
            await self._write(fill.miss.identity, entry, ttl_s)
        except BackendError as error:
            self._metrics.backend_error(error)
            self._metrics.stored("failed", "store_error")
            log.warning("store_failed", key=fill.miss.identity.id, reason=str(error))
        else:
            self._metrics.stored("stored")

    async def _write(self, identity: Identity, entry: Entry, ttl_s: float) -> None:
        try:
            async with asyncio.timeout(self._store_timeout_s):
                await self._exact.write(identity, entry, ttl_s=ttl_s)
        except TimeoutError as error:
            raise BackendTimeout("store", "set", f"no answer in {self._store_timeout_s} s") from error
