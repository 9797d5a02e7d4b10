"""Answers on their way into the store, behind the client's back: judged whole, remembered near, stored.

The queue is bounded; what does not fit is given back to whoever offered it. A lease that was handed over with an answer
belongs to this file until it lands, which never waits for the store.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import structlog

from ai_cache_extproc.cache.admission import Admitted
from ai_cache_extproc.cache.exact import Exact
from ai_cache_extproc.cache.pins import is_another_model
from ai_cache_extproc.cache.together import Together
from ai_cache_extproc.config.controls import TAGS_MAX
from ai_cache_extproc.config.rules import Rule
from ai_cache_extproc.dialects.base import BatchDialect, Dialect
from ai_cache_extproc.errors import BackendError, BackendTimeout, DialectError
from ai_cache_extproc.meaning import Asked
from ai_cache_extproc.model import Alias, Captured, Entry, Hit, Identity, Layout, Lease, Miss, Question, Reason, Usage
from ai_cache_extproc.telemetry.metrics import Metrics, StoreResult

log = structlog.get_logger()

# Judging a larger answer takes longer than a streamed chunk may wait; it moves to a thread.
_INLINE_BYTES = 64 * 1024
ENTRY_TAGS_MAX = 4 * TAGS_MAX
"""Those of two captures, whose rule and answers name as many as they may."""


@dataclass(frozen=True, slots=True, eq=False)
class Fill:
    """One whole answer to be kept for the question that missed; items: where those of a batch are kept.

    tags: of the rule and of the answer. understood: told of the answer and its usage once it is read, kept or not.
    asked: by what it is found too. admitted: None where nothing of it matters once the answer is stored.
    """

    question: Question
    dialect: Dialect
    rule: Rule
    miss: Miss
    captured: Captured
    items: tuple[Identity, ...] = ()
    tags: tuple[str, ...] = ()
    understood: Callable[[Captured], None] = lambda _: None
    asked: Asked | None = None
    admitted: Admitted | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Write:
    """What is to be stored for a question. lease: left to expire once it is. size_bytes: as the queue counts it.

    items: those of a batch, kept beside the whole; read once. fill: None for an alias.
    """

    identity: Identity
    value: Entry | Alias
    rule: Rule
    lease: Lease | None
    size_bytes: int
    items: Iterable[tuple[Identity, Entry]] = ()
    fill: Fill | None = None


def nobody(_fill: Fill, _entry: Entry) -> None:
    """To be told where nobody wants to know."""


class WriteBack:
    """The queue and what empties it: answers are judged at once, and stored one after the other."""

    def __init__(
        self,
        *,
        exact: Exact,
        together: Together,
        metrics: Metrics,
        clock: Callable[[], float],
        entries_max: int,
        bytes_max: int,
        store_timeout_s: float,
        stored: Callable[[Fill, Entry], None] = nobody,
    ) -> None:
        """clock: seconds since the epoch. store_timeout_s: for one write, out of everyone's way.

        stored: told of every answer once it is in the store.
        """
        self._exact = exact
        self._flights = together.flights
        self._leases = together.leases
        self._metrics = metrics
        self._clock = clock
        self._entries_max = entries_max
        self._bytes_max = bytes_max
        self._store_timeout_s = store_timeout_s
        self._stored = stored
        self._offered: deque[Fill] = deque()
        self._judged: deque[_Write] = deque()
        self._open = 0
        self._bytes = 0
        self._was_offered = asyncio.Event()
        self._was_judged = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        metrics.watch_write_queue(lambda: self._waiting, lambda: self._bytes)

    @property
    def _waiting(self) -> int:
        return len(self._offered) + len(self._judged)

    def offer(self, fill: Fill) -> bool:
        """Take an answer and its lease; False if the queue is full, and then the lease stays with the caller."""
        size = len(fill.captured.body)
        if self._waiting >= self._entries_max or self._bytes + size > self._bytes_max:
            return False
        self._offered.append(fill)
        self._open += 1
        self._bytes += size
        self._idle.clear()
        self._was_offered.set()
        return True

    def alias(self, hit: Hit, rule: Rule, lease: Lease) -> None:
        """Let the same question find at once what its meaning has found; where that cannot be, give the lease back.

        A rule of meaning alone finds it anew each time. Its alias is kept all the same, for whoever says that it was wrong.
        """
        alias = hit.entry.alias
        is_kept = hit.identity.layout is Layout.NATIVE and self._waiting < self._entries_max
        if alias is None or alias.key == hit.identity.key or not is_kept or self._exact.is_purged(hit.identity, alias):
            self._leases.unkept(lease.key)
            return
        if rule.is_exact:
            self._exact.remember(hit.identity, alias)
        self._open += 1
        self._idle.clear()
        self._judged.append(_Write(hit.identity, alias, rule, lease, 0))
        self._was_judged.set()

    async def run(self) -> None:
        """Empty the queue until cancelled. Whoever waits for an answer gets it however slow the store is."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._judge_all())
            group.create_task(self._store_all())

    async def drain(self, seconds: float) -> bool:
        """Wait until everything taken so far is stored; False if that took longer than `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def _judge_all(self) -> None:
        while True:
            await self._was_offered.wait()
            self._was_offered.clear()
            while self._offered:
                fill = self._offered.popleft()
                entry: Entry | None = None
                try:
                    entry = await self._land(fill)
                except Exception as fault:  # noqa: BLE001 - one fill's fault is not the next one's
                    self._tell_fault(fill.miss.identity, fault)
                finally:
                    if fill.miss.lease is not None:
                        self._flights.leave(fill.miss.lease)
                size = len(fill.captured.body)
                if entry is None:
                    self._done(size)
                else:
                    items = _items(fill, entry)
                    self._judged.append(
                        _Write(fill.miss.identity, entry, fill.rule, fill.miss.lease, size, items, fill)
                    )
                    self._was_judged.set()

    async def _store_all(self) -> None:
        while True:
            await self._was_judged.wait()
            self._was_judged.clear()
            while self._judged:
                write = self._judged.popleft()
                is_stored = False
                try:
                    is_stored = await self._store(write)
                except Exception as fault:  # noqa: BLE001 - as above
                    self._tell_fault(write.identity, fault)
                finally:
                    if not is_stored and write.lease is not None:
                        self._leases.unkept(write.lease.key)
                    self._done(write.size_bytes)

    def _done(self, size_bytes: int) -> None:
        self._open -= 1
        self._bytes -= size_bytes
        if not self._open:
            self._idle.set()

    def _tell_fault(self, identity: Identity, fault: Exception) -> None:
        self._metrics.exchange_fault()
        log.error("fill_fault", key=identity.id, exc_info=fault)

    async def _land(self, fill: Fill) -> Entry | None:
        """Give the answer to everyone here who waits for it; None if it is not fit to keep."""
        identity = fill.miss.identity
        try:
            captured = await self._settled(fill)
        except DialectError as error:
            self._metrics.stored("refused", error.reason)
            log.debug("answer_refused", key=identity.id, reason=error.reason, detail=error.detail)
            if fill.miss.lease is not None:
                self._flights.refuse(fill.miss.lease, remember=True)
            return None
        entry = self._joined(fill, captured)
        is_purged = self._exact.is_purged(identity, entry)
        if is_purged:
            self._metrics.stored("dropped", "purged")
        else:
            self._exact.remember(identity, entry)
        if fill.miss.lease is not None:
            # Those who wait for it asked before the purge, as it did.
            self._flights.land(fill.miss.lease, entry)
        return None if is_purged else entry

    async def _settled(self, fill: Fill) -> Captured:
        read = _settle(fill) if len(fill.captured.body) <= _INLINE_BYTES else await asyncio.to_thread(_settle, fill)
        usage, kept = read
        fill.understood(replace(fill.captured, usage=usage))
        if isinstance(kept, DialectError):
            raise kept
        # Counted once, here, so that a hit need not look for it. A template keeps nothing but the text.
        return replace(kept, usage=usage)

    def _joined(self, fill: Fill, captured: Captured) -> Entry:
        """The fresh answer, beside what is known of the other mode."""
        known, tags = fill.miss.known, fill.tags
        others: tuple[Captured, ...] = ()
        if known is not None:
            others = tuple(other for other in known.fresh(self._clock()) if other.mode is not captured.mode)
        if known is not None and others and known.tags != tags:
            tags = tuple(dict.fromkeys((*tags, *known.tags)))
            if len(tags) > ENTRY_TAGS_MAX:
                # Tags are never left out: a purge would not find the answer they belong to.
                others, tags = (), fill.tags
        return Entry(
            dialect=fill.question.dialect,
            model=fill.question.model,
            rule=fill.rule.name,
            captures=(*others, captured),
            tags=tags,
            purges=fill.miss.identity.purges,
            asked=fill.asked,
        )

    async def _store(self, write: _Write) -> bool:
        """Whether it is in the store now."""
        ttl_s = self._ttl_s(write.rule, write.value)
        if ttl_s is None:
            self._count(write, "dropped", "expired")
            return False
        if self._exact.is_purged(write.identity, write.value):
            self._count(write, "dropped", "purged")
            return False
        try:
            await self._write(write.identity, write.value, ttl_s)
            for identity, item in write.items:
                await self._write(identity, item, ttl_s)
        except BackendError as error:
            self._metrics.backend_error(error)
            self._count(write, "failed", "store_error")
            log.warning("store_failed", key=write.identity.id, reason=str(error))
            return False
        self._count(write, "stored")
        if isinstance(write.value, Entry) and write.fill is not None:
            self._stored(write.fill, write.value)
        return True

    def _count(self, write: _Write, result: StoreResult, reason: str = "") -> None:
        """An alias is no answer, and is not counted as one."""
        if isinstance(write.value, Entry):
            self._metrics.stored(result, reason)

    def _ttl_s(self, rule: Rule, value: Entry | Alias) -> float | None:
        """How long the store is to keep a value; None where it has expired on its way."""
        ttl_s = value.expires_s - self._clock()
        if ttl_s <= 0:
            return None
        if rule.ttl_s is not None:
            # A joined answer may come from a replica whose clock is ahead of ours.
            ttl_s = min(ttl_s, rule.ttl_s)
        return ttl_s + (rule.stale_if_error_s if isinstance(value, Entry) else 0)

    async def _write(self, identity: Identity, entry: Entry | Alias, ttl_s: float) -> None:
        try:
            async with asyncio.timeout(self._store_timeout_s):
                await self._exact.write(identity, entry, ttl_s=ttl_s)
        except TimeoutError as error:
            raise BackendTimeout("store", "set", f"no answer in {self._store_timeout_s} s") from error


def _settle(fill: Fill) -> tuple[Usage | None, Captured | DialectError]:
    """What an answer took, and what is kept of it, or why nothing is."""
    usage = fill.dialect.usage(fill.captured)
    if is_another_model(fill.rule.pin, fill.captured):
        return usage, DialectError(Reason.FALLBACK, "another model answered")
    try:
        return usage, fill.dialect.settle(fill.question, fill.captured, tool_calls=fill.rule.keep_tool_calls)
    except DialectError as error:
        return usage, error


def _items(fill: Fill, entry: Entry) -> Iterator[tuple[Identity, Entry]]:
    """The items of a batch as entries of their own."""
    if fill.items and isinstance(fill.dialect, BatchDialect):
        for identity, item in zip(fill.items, fill.dialect.split(fill.question, entry.captures[-1]), strict=True):
            yield identity, replace(entry, captures=(item,), tags=fill.tags)
