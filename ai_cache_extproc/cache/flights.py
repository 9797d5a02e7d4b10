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


class Ending(Enum):
    """How a flight ended for other processes."""

    LANDED = "there is an entry, or soon will be"
    REFUSED = "answers like this are not kept"
    LEFT = "nobody asks any more"


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

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        ended: Callable[[str, Ending], None] = lambda _key, _ending: None,
        refused_max: int = 10_000,
        refused_ttl_s: float = 10,
    ) -> None:
        """clock: monotonic seconds. ended: told of every flight's end.

        refused_*: how many keys with uncacheable answers are remembered, and how long, in seconds.
        """
        self._ended = ended
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
            return self.alone(key)
        number = next(self._numbers)
        self._flights[key] = _Flight(number)
        return Lease(key, number)

    def alone(self, key: str) -> Lease:
        """A lease that leads nobody."""
        return Lease(key, _SOLO)

    def leads(self, lease: Lease) -> bool:
        """Whether others may be waiting for this lease; they never are for a key whose answers are not kept."""
        flight = self._flights.get(lease.key)
        return flight is not None and flight.number == lease.number

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
        self._end(lease, entry, Ending.LANDED)

    def share(self, lease: Lease, entry: Entry) -> None:
        """Give an entry to everyone who waits, and go on: it is not what the leader came for."""
        if self.leads(lease):
            waiters = self._flights[lease.key].waiters
            while waiters:
                waiters.popleft().set_result(entry)

    def refuse(self, lease: Lease, *, remember: bool) -> None:
        """Let everyone who waits go upstream; remember: and nobody wait for this key for a while (hit-for-miss)."""
        if self._end(lease, Grounded.REFUSED, Ending.REFUSED if remember else Ending.LEFT) and remember:
            self._refused[lease.key] = None

    def _end(self, lease: Lease, landing: Landing, ending: Ending) -> bool:
        if not self.leads(lease):
            return False
        for waiter in self._flights.pop(lease.key).waiters:
            waiter.set_result(landing)
        self._ended(lease.key, ending)
        return True

    def _pass_on(self, lease: Lease) -> None:
        if not self.leads(lease):
            return
        flight = self._flights[lease.key]
        if flight.waiters:
            flight.number = next(self._numbers)
            flight.waiters.popleft().set_result(Lease(lease.key, flight.number))
        else:
            del self._flights[lease.key]
            self._ended(lease.key, Ending.LEFT)
