"""Single-flight in the process: of all who ask the same at once, one asks the upstream.

A lease is a token: giving it back twice, or after it passed to another, does nothing.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from cachetools import TTLCache

from ai_cache_extproc.model import Entry, Lease

_SOLO = 0


class Grounded(Enum):
    """How a wait ended without an entry."""

    REFUSED = "the answer is not kept"
    TIMED_OUT = "the wait was over"


Landing = Entry | Lease | Grounded


@dataclass(slots=True, eq=False)
class _Flight:
    number: int
    waiters: deque[asyncio.Future[Landing]] = field(default_factory=deque)


@dataclass(frozen=True, slots=True, eq=False)
class Seat:
    """A place among those who wait for one flight; left by `wait` or by `leave`."""

    key: str
    landing: asyncio.Future[Landing]


Turn = Lease | Seat


class Flights:
    """Flights by store key. Nothing here waits longer than it is told, and no entry is kept."""

    def __init__(self, *, clock: Callable[[], float], refused_max: int = 10_000, refused_ttl_s: float = 10) -> None:
        """clock: monotonic seconds. refused_*: how many keys with uncacheable answers are remembered, and how long."""
        self._flights: dict[str, _Flight] = {}
        self._numbers = itertools.count(_SOLO + 1)
        self._refused: TTLCache[str, None] = TTLCache(refused_max, refused_ttl_s, timer=clock)

    def __len__(self) -> int:
        return len(self._flights)

    def join(self, key: str) -> Turn:
        """Lead the flight of `key`, or take a seat in it. A key whose answers are not kept has no flight to wait for."""
        flight = self._flights.get(key)
        if flight is not None:
            seat = Seat(key, asyncio.get_running_loop().create_future())
            flight.waiters.append(seat.landing)
            return seat
        if key in self._refused:
            return Lease(key, _SOLO)
        number = next(self._numbers)
        self._flights[key] = _Flight(number)
        return Lease(key, number)

    async def wait(self, seat: Seat, timeout_s: float) -> Landing:
        """Wait for the flight to land: its entry, its lease (the leader is gone: lead now), or neither."""
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.shield(seat.landing)
        except TimeoutError:
            self.leave(seat)
            return Grounded.TIMED_OUT
        except asyncio.CancelledError:
            self.leave(seat)
            raise

    def leave(self, turn: Turn) -> None:
        """Give up a place that is no longer wanted; a leader's passes to the next who waits."""
        if isinstance(turn, Lease):
            self._pass_on(turn)
        elif not turn.landing.done():
            turn.landing.cancel()
            self._flights[turn.key].waiters.remove(turn.landing)
        elif not turn.landing.cancelled() and isinstance(given := turn.landing.result(), Lease):
            self._pass_on(given)

    def land(self, lease: Lease, entry: Entry) -> None:
        """Give the entry to everyone who waits."""
        self._end(lease, entry)

    def refuse(self, lease: Lease, *, remember: bool) -> None:
        """Let everyone who waits go upstream; remember: and nobody wait for this key for a while (hit-for-miss)."""
        if self._end(lease, Grounded.REFUSED) and remember:
            self._refused[lease.key] = None

    def _end(self, lease: Lease, landing: Landing) -> bool:
        flight = self._flights.get(lease.key)
        if flight is None or flight.number != lease.number:
            return False
        del self._flights[lease.key]
        for waiter in flight.waiters:
            waiter.set_result(landing)
        return True

    def _pass_on(self, lease: Lease) -> None:
        flight = self._flights.get(lease.key)
        if flight is None or flight.number != lease.number:
            return
        if flight.waiters:
            flight.number = next(self._numbers)
            flight.waiters.popleft().set_result(Lease(lease.key, flight.number))
        else:
            del self._flights[lease.key]
