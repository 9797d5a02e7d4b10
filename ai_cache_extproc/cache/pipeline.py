"""The story of a lookup: near, flight, store; and of a fill. The only place that fails open.

Whatever the store does, the caller gets a Hit, a Miss or a Bypass inside the budget.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import structlog

from ai_cache_extproc.cache.admission import Admitted
from ai_cache_extproc.cache.exact import Exact
from ai_cache_extproc.cache.flights import Flights, Grounded, Seat, Turn
from ai_cache_extproc.cache.understanding import locate
from ai_cache_extproc.cache.writeback import Fill, WriteBack
from ai_cache_extproc.config.model import Lookup
from ai_cache_extproc.dialects.base import Capture
from ai_cache_extproc.errors import BackendError
from ai_cache_extproc.keys.identity import Keyring
from ai_cache_extproc.model import Bypass, Captured, Entry, Hit, Identity, Lease, Miss, Mode, Question, Reason
from ai_cache_extproc.telemetry.metrics import Metrics

log = structlog.get_logger()


class Pipeline:
    """Looks up and fills. One per process; knows no exchange."""

    def __init__(
        self,
        *,
        exact: Exact,
        flights: Flights,
        writeback: WriteBack,
        keyring: Keyring | None,
        metrics: Metrics,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """keyring: None while no identity key can be had. clock: seconds since the epoch. jitter: 0..1."""
        self._exact = exact
        self._flights = flights
        self._writeback = writeback
        self._keyring = keyring
        self._metrics = metrics
        self._clock = clock
        self._monotonic = monotonic
        self._jitter = jitter

    def identify(self, admitted: Admitted, question: Question) -> Identity | Bypass:
        """Where the answer to this question is kept for this caller."""
        if self._keyring is None:
            return Bypass(Reason.NO_KEY)
        return locate(self._keyring, admitted, question)

    def near(self, admitted: Admitted, question: Question, identity: Identity) -> Hit | None:
        """A hit that needs no waiting."""
        entry = self._exact.near(identity)
        return None if entry is None else self._hit(admitted, question, identity, entry)

    def join(self, identity: Identity) -> Turn:
        """Take the lead or a seat; whoever takes it gives it to `lookup`, or to `leave`."""
        return self._flights.join(identity.key)

    def leave(self, turn: Turn) -> None:
        """Give a place back unused."""
        self._flights.leave(turn)

    def refuse(self, lease: Lease, *, remember: bool) -> None:
        """The answer will not be kept: nobody waits for it any longer."""
        self._flights.refuse(lease, remember=remember)

    async def lookup(
        self, admitted: Admitted, question: Question, identity: Identity, turn: Turn, *, budget: Lookup
    ) -> Hit | Miss | Bypass:
        """Ask the store, or wait for the one who does. A Miss carries the lease; every other end has given it back."""
        started = self._monotonic()
        try:
            place: Hit | Miss | Lease
            if isinstance(turn, Seat):
                place = await self._await_flight(admitted, question, identity, turn, flight_wait_s(budget, question))
            else:
                place = turn
            if isinstance(place, Lease):
                return await self._lead(admitted, question, identity, place, budget.deadline_ms / 1000)
            return place
        finally:
            self._metrics.lookup(self._monotonic() - started)

    async def _await_flight(
        self, admitted: Admitted, question: Question, identity: Identity, seat: Seat, wait_s: float
    ) -> Hit | Miss | Lease:
        """Wait for the leader. Its entry may lack this mode: then take the lead for it, or wait for who does."""
        until = self._monotonic() + wait_s
        while True:
            landing = await self._flights.wait(seat, max(0.0, until - self._monotonic()))
            if isinstance(landing, Lease):
                return landing
            if isinstance(landing, Grounded):
                self._metrics.flight("timed_out" if landing is Grounded.TIMED_OUT else "abandoned")
                return Miss(identity)
            hit = self._hit(admitted, question, identity, landing)
            if hit is not None:
                self._metrics.flight("followed")
                return hit
            turn = self._flights.join(identity.key)
            if isinstance(turn, Lease):
                return Miss(identity, lease=turn, known=landing)
            seat = turn

    async def _lead(
        self, admitted: Admitted, question: Question, identity: Identity, lease: Lease, deadline_s: float
    ) -> Hit | Miss | Bypass:
        self._metrics.flight("led")
        try:
            return await self._read(admitted, question, identity, lease, deadline_s)
        except BackendError as error:
            self._metrics.backend_error(error)
            log.warning("lookup_failed", backend=error.backend, operation=error.operation, reason=error.reason)
            self._flights.refuse(lease, remember=False)
            return Bypass(Reason.STORE_ERROR)
        except asyncio.CancelledError:
            self._flights.leave(lease)
            raise

    async def _read(
        self, admitted: Admitted, question: Question, identity: Identity, lease: Lease, deadline_s: float
    ) -> Hit | Miss:
        try:
            async with asyncio.timeout(deadline_s):
                entry = await self._exact.read(identity)
        except TimeoutError:
            # Slow, not broken: the answer is still worth keeping, and followers still wait for it.
            return Miss(identity, lease=lease, reason=Reason.STORE_TIMEOUT)
        if entry is None:
            return Miss(identity, lease=lease)
        hit = self._hit(admitted, question, identity, entry)
        if hit is None:
            return Miss(identity, lease=lease, known=entry)
        self._flights.land(lease, entry)
        return hit

    def _hit(self, admitted: Admitted, question: Question, identity: Identity, entry: Entry) -> Hit | None:
        now_s = self._clock()
        captures = entry.fresh(now_s)
        replay = admitted.dialect.replay(question, captures) if captures else None
        if replay is None:
            return None
        # A clock that was set back must not give a negative age (RFC 9111, 5.1).
        age_s = max(0, int(now_s - replay.source.created_s))
        return Hit(identity, replay, age_s=age_s, ttl_s=max(0, int(replay.source.expires_s - now_s)))

    def fill(self, admitted: Admitted, question: Question, miss: Miss, capture: Capture, *, elapsed_s: float) -> bool:
        """Hand a whole answer, and the lease with it, to write-back; False if its queue is full."""
        now_s = self._clock()
        ttl_s = admitted.rule.ttl_s * (1 - admitted.rule.ttl_jitter * self._jitter())
        captured = Captured(
            mode=capture.mode,
            content_type=capture.content_type,
            body=capture.body(),
            created_s=now_s,
            expires_s=now_s + ttl_s,
            elapsed_s=elapsed_s,
        )
        return self._writeback.offer(Fill(question, admitted.dialect, admitted.rule, miss, captured))


def flight_wait_s(budget: Lookup, question: Question) -> float:
    """How long this question may wait for another's answer, in seconds."""
    wait_ms = budget.flight_wait_ms
    if question.mode is Mode.STREAM:
        wait_ms = min(wait_ms, budget.flight_wait_stream_ms)
    return wait_ms / 1000
