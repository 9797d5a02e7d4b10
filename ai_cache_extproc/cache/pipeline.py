"""The story of a lookup: near, flight, store, lease, meaning; and of a fill. The only place that fails open.

Whatever the store does, the caller gets a Hit, a Miss or a Bypass inside the budget.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import replace

import structlog

from ai_cache_extproc.cache.admission import Admitted
from ai_cache_extproc.cache.deadlines import Deadlines
from ai_cache_extproc.cache.exact import Exact
from ai_cache_extproc.cache.flights import Grounded, Seat, Turn
from ai_cache_extproc.cache.freshness import hit_of, is_due, lifetime_s, may_serve_stale, stale_hit_of
from ai_cache_extproc.cache.items import Items
from ai_cache_extproc.cache.keysource import HasKeyring
from ai_cache_extproc.cache.semantic import Semantic
from ai_cache_extproc.cache.together import Together
from ai_cache_extproc.cache.understanding import locate
from ai_cache_extproc.cache.writeback import Fill, WriteBack
from ai_cache_extproc.config.model import Lookup
from ai_cache_extproc.config.rules import Rule
from ai_cache_extproc.dialects.base import Capture
from ai_cache_extproc.errors import BackendError
from ai_cache_extproc.meaning import Asked, Judged, Unfit
from ai_cache_extproc.model import (
    Bypass,
    Captured,
    Entry,
    Held,
    Hit,
    Identity,
    Lease,
    Miss,
    Mode,
    Question,
    Reason,
)
from ai_cache_extproc.stores.base import Claim
from ai_cache_extproc.telemetry.metrics import Metrics

log = structlog.get_logger()

_REFRESH = ":refresh"
"""Behind its name, the flight of those who ask ahead of its expiry: nobody who could be answered now waits for them."""


class Pipeline:
    """Looks up and fills. One per process; knows no exchange."""

    def __init__(  # noqa: PLR0913 - a part each
        self,
        *,
        exact: Exact,
        together: Together,
        writeback: WriteBack,
        keys: HasKeyring,
        semantic: Semantic | None = None,
        rechecks: Callable[[Rule], bool],
        metrics: Metrics,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        chance: Callable[[], float] = random.random,
    ) -> None:
        """semantic: None where questions are not matched by their meaning. rechecks: whether an exact hit goes upstream, to be compared.

        clock: seconds since the epoch. chance: 0..1, uniform.
        """
        self._exact = exact
        self._semantic = semantic
        self._rechecks = rechecks
        self._items = Items(exact=exact, keys=keys, clock=clock)
        self._flights = together.flights
        self._leases = together.leases
        self._changes = together.changes
        self._writeback = writeback
        self._deadlines = Deadlines()
        self._keys = keys
        self._metrics = metrics
        self._clock = clock
        self._monotonic = monotonic
        self._chance = chance

    def identify(self, admitted: Admitted, question: Question) -> Identity | Bypass:
        """Where the answer to this question is kept for this caller."""
        keyring = self._keys.current
        if keyring is None:
            return Bypass(Reason.NO_KEY)
        return locate(keyring, admitted, question)

    def near(self, admitted: Admitted, question: Question, identity: Identity) -> Hit | None:
        """A hit that needs no waiting."""
        entry = self._exact.near(identity) if admitted.rule.is_exact else None
        return None if entry is None else self._hit(admitted, question, identity, entry)

    def join(self, identity: Identity) -> Turn:
        """Take the lead or a seat; whoever takes it gives it to `lookup` or `wait`, or to `leave`."""
        return self._flights.join(identity.flight)

    def alone(self, identity: Identity) -> Lease:
        """The place of one who only looks: nobody waits for it, and it waits for nobody."""
        return self._flights.alone(identity.flight)

    def leave(self, turn: Turn) -> None:
        """Give a place back unused."""
        self._flights.leave(turn)

    def refuse(self, lease: Lease, *, remember: bool) -> None:
        """The answer will not be kept: nobody waits for it any longer."""
        self._flights.refuse(lease, remember=remember)

    # Looking up. A Miss carries the lease; a Held is to be waited for; every other end has given its place back.

    def lookup(
        self, admitted: Admitted, question: Question, identity: Identity, lease: Lease, *, budget: Lookup
    ) -> Coroutine[object, object, Hit | Miss | Bypass | Held]:
        """Ask the store, and other processes whether one of them asks the upstream already."""
        self._metrics.flight("led")
        return self._lead(admitted, question, identity, lease, budget=budget)

    async def wait(
        self, admitted: Admitted, question: Question, turn: Held | Seat, identity: Identity, *, budget: Lookup
    ) -> Hit | Miss | Bypass:
        """Wait for whoever asks the upstream, in this process or another."""
        until = self._monotonic() + flight_wait_s(budget, question)
        place: Hit | Miss | Bypass | Held | Lease
        place = turn if isinstance(turn, Held) else await self._follow(admitted, question, identity, turn, until)
        if isinstance(place, Lease):
            place = await self.lookup(admitted, question, identity, place, budget=budget)
        if isinstance(place, Held):
            return await self._follow_elsewhere(admitted, question, place, until, budget=budget)
        return place

    async def refresh(self, hit: Hit, *, budget: Lookup) -> Hit | Miss:
        """Be the one who goes ahead of the expiry, or take the hit after all."""
        turn = self._flights.join(hit.identity.flight + _REFRESH)
        if isinstance(turn, Seat):
            self._flights.leave(turn)
            return hit
        try:
            with self._deadlines.within(budget.deadline_ms / 1000):
                claim = await self._leases.claim(turn.key, ttl_s=_lease_s(budget))
        except (TimeoutError, BackendError) as error:
            self._count(error)
            claim = Claim.HELD
        except asyncio.CancelledError:
            self._flights.leave(turn)
            raise
        if claim is Claim.TAKEN:
            return Miss(hit.identity, lease=turn, known=hit.entry, stale=True)
        self._flights.leave(turn)
        return hit

    async def stale(self, admitted: Admitted, question: Question, miss: Miss, *, budget: Lookup) -> Hit | None:
        """What the store still has, now that the upstream failed; None if it was purged or is too old."""
        try:
            with self._deadlines.within(budget.deadline_ms / 1000):
                entry = await self._exact.read(miss.identity)
        except (TimeoutError, BackendError) as error:
            self._count(error)
            return None
        return None if entry is None else stale_hit_of(admitted, question, miss.identity, entry, self._clock())

    async def _follow(
        self, admitted: Admitted, question: Question, identity: Identity, seat: Seat, until: float
    ) -> Hit | Miss | Lease:
        """Wait for the leader. Its entry may lack this mode: then take the lead for it, or wait for who does."""
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
            turn = self._flights.join(identity.flight)
            if isinstance(turn, Lease):
                return Miss(identity, lease=turn, known=landing if landing.alias is None else None)
            seat = turn

    async def _follow_elsewhere(
        self, admitted: Admitted, question: Question, held: Held, until: float, *, budget: Lookup
    ) -> Hit | Miss | Bypass:
        """Wait for another process, which may die, or not keep its answer: then the lease is free."""
        identity = held.miss.identity
        try:
            with self._changes.wait_for(identity) as waiting:
                while (left_s := until - self._monotonic()) > 0:
                    place = await self._lead(admitted, question, identity, held.lease, budget=budget)
                    if not isinstance(place, Held):
                        self._metrics.flight("followed" if isinstance(place, Hit) else "abandoned")
                        return place
                    await waiting.change(left_s)
        except asyncio.CancelledError:
            self._flights.leave(held.lease)
            raise
        self._metrics.flight("timed_out")
        return held.miss

    async def _lead(
        self, admitted: Admitted, question: Question, identity: Identity, lease: Lease, *, budget: Lookup
    ) -> Hit | Miss | Bypass | Held:
        try:
            with self._deadlines.within(budget.deadline_ms / 1000):
                return await self._read(admitted, question, identity, lease, budget=budget)
        except TimeoutError:
            # Slow, not broken: the answer is still worth keeping, and followers still wait for it.
            return Miss(identity, lease=lease, reason=Reason.STORE_TIMEOUT)
        except BackendError as error:
            self._count(error)
            log.warning("lookup_failed", backend=error.backend, operation=error.operation, reason=error.reason)
            self._flights.refuse(lease, remember=False)
            return Bypass(Reason.STORE_ERROR)
        except asyncio.CancelledError:
            self._flights.leave(lease)
            raise

    async def _read(
        self, admitted: Admitted, question: Question, identity: Identity, lease: Lease, *, budget: Lookup
    ) -> Hit | Miss | Held:
        entry = await self._entry(admitted, identity)
        asked, identity = identity, self._renewed(admitted, question, identity)
        if identity is not asked:
            # The read showed a purge: what stands under the key of before it is not asked for any more.
            entry = await self._entry(admitted, identity)
        entry = entry or await self._items.read(admitted, question)
        if entry is None and identity is not asked:
            # Its lease is of before the purge, and may be held for an answer that nobody finds any more.
            return Miss(identity, lease=lease)
        if entry is None:
            return await self._claim(Miss(identity, lease=lease), lease, budget)
        hit = self._hit(admitted, question, identity, entry)
        if hit is None and entry.alias is not None:
            # It was made under other settings, or its source cannot answer this: as if it were not there.
            return await self._claim(Miss(identity, lease=lease), lease, budget)
        if hit is None:
            now_s = self._clock()
            miss = Miss(identity, lease=lease, known=entry, stale=may_serve_stale(admitted, entry, now_s))
            if not entry.fresh(now_s):
                return await self._claim(miss, lease, budget)
            # Not for this client, which asked for a younger one or another mode; others need not wait for it.
            self._flights.share(lease, entry)
            return miss
        self._flights.land(lease, entry)
        return hit

    async def _entry(self, admitted: Admitted, identity: Identity) -> Entry | None:
        return await self._exact.read(identity) if admitted.rule.is_exact else None

    def _renewed(self, admitted: Admitted, question: Question, identity: Identity) -> Identity:
        """The identity as it is after the purges that are known by now."""
        keyring = self._keys.current
        if keyring is None or keyring.purges == identity.purges:
            return identity
        return locate(keyring, admitted, question)

    async def _claim(self, miss: Miss, lease: Lease, budget: Lookup) -> Miss | Held:
        """Agree with other processes on who asks."""
        if not self._leases.are_shared or not budget.flight_wait_ms or not self._flights.leads(lease):
            return miss
        try:
            claim = await self._leases.claim(lease.key, ttl_s=_lease_s(budget))
        except BackendError as error:
            # A store that reads but does not write (full, say) costs the agreement, not the lookup.
            self._count(error)
            return miss
        if claim is Claim.HELD:
            return Held(miss, lease)
        if claim is Claim.REFUSED:
            self._flights.refuse(lease, remember=True)
        return miss

    def _count(self, error: Exception) -> None:
        if isinstance(error, BackendError):
            self._metrics.backend_error(error)

    def _hit(self, admitted: Admitted, question: Question, identity: Identity, entry: Entry) -> Hit | None:
        if entry.alias is not None and not (self._semantic and self._semantic.admits(admitted.rule, entry.alias)):
            return None
        now_s = self._clock()
        hit = hit_of(admitted, question, identity, entry, now_s)
        if hit is None or admitted.wish.only_if_cached or entry.alias is not None:
            return hit
        if is_due(admitted.rule, hit.replay.source, now_s, self._chance()) or self._rechecks(admitted.rule):
            return replace(hit, due=True)
        return hit

    # Meaning. Only a leader comes here, with the miss of its lookup.

    def asked(self, admitted: Admitted, question: Question, miss: Miss) -> Asked | None:
        """By what to search for a question of the same meaning; None where there is no searching."""
        if self._semantic is None or miss.lease is None or miss.known is not None or miss.reason is not None:
            return None
        if admitted.rule.semantic.shadow is not None:
            return None
        asked = self._semantic.asked(admitted, question)
        if isinstance(asked, Unfit):
            self._metrics.meaning.judged(admitted.rule.name, Judged(asked), 0.0)
            return None
        return asked

    async def search(
        self, admitted: Admitted, question: Question, miss: Miss, asked: Asked, *, deadline_ms: int
    ) -> Hit | Miss:
        """Look for a question of the same meaning; a hit has given the lease back, a miss has it still."""
        assert self._semantic is not None
        assert miss.lease is not None
        began_s = self._monotonic()
        found: Hit | Judged
        try:
            with self._deadlines.within(deadline_ms / 1000):
                found = await self._semantic.find(admitted, question, miss.identity, asked)
        except TimeoutError:
            found = Judged("late")
        except BackendError as error:
            self._count(error)
            log.info("semantic_failed", backend=error.backend, operation=error.operation, reason=error.reason)
            found = Judged("failed")
        except asyncio.CancelledError:
            self._flights.leave(miss.lease)
            raise
        judged = found if isinstance(found, Judged) else found.judged
        assert judged is not None
        self._metrics.meaning.judged(admitted.rule.name, judged, self._monotonic() - began_s)
        if isinstance(found, Judged):
            return replace(miss, judged=judged)
        self._flights.land(miss.lease, found.entry)
        self._writeback.alias(found, admitted.rule, miss.lease)
        return found

    # Filling.

    def fill(
        self,
        admitted: Admitted,
        question: Question,
        miss: Miss,
        capture: Capture,
        *,
        elapsed_s: float,
        tags: tuple[str, ...] = (),
        understood: Callable[[Captured], None] = lambda _: None,
    ) -> bool:
        """Hand a whole answer, and the lease with it, to write-back; False if its queue is full.

        understood: told of the answer with its usage, kept or not, as soon as it is read.
        """
        now_s = self._clock()
        rule = admitted.rule
        ttl_s = lifetime_s(admitted) * (1 - rule.ttl_jitter * self._chance())
        captured = Captured(
            mode=capture.mode,
            content_type=capture.content_type,
            body=capture.body(),
            created_s=now_s,
            expires_s=now_s + ttl_s,
            elapsed_s=elapsed_s,
        )
        # Those of a later epoch would outlive a purge that this answer began before.
        known = miss.identity.purges
        items = tuple(item for item in self._items.identities(admitted, question) if item.purges == known)
        asked = None if self._semantic is None else self._semantic.asked(admitted, question)
        return self._writeback.offer(
            Fill(
                question,
                admitted.dialect,
                rule,
                miss,
                captured,
                items,
                tags,
                understood,
                asked=asked if isinstance(asked, Asked) else None,
                admitted=admitted,
            )
        )


def _lease_s(budget: Lookup) -> float:
    """Followers wait no longer than this, so that a leader that died holds nobody up for longer."""
    return max(budget.flight_wait_ms, budget.deadline_ms) / 1000


def flight_wait_s(budget: Lookup, question: Question) -> float:
    """How long this question may wait for another's answer, in seconds."""
    wait_ms = budget.flight_wait_ms
    if question.mode is not Mode.JSON:
        wait_ms = min(wait_ms, budget.flight_wait_stream_ms)
    return wait_ms / 1000
