"""Single-flight: one leads, the others wait, and a lease is never lost."""

from __future__ import annotations

import asyncio

from ai_cache_extproc.cache.flights import Flights, Grounded, Seat
from ai_cache_extproc.model import Captured, Entry, Lease, Mode

ENTRY = Entry("openai_chat", "m", "default", (Captured(Mode.JSON, "application/json", b"{}", 0, 1, 0),))


class Clock:
    """Monotonic seconds that pass only when told to."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def seat_in(flights: Flights, key: str = "k") -> Seat:
    """A seat in a flight that somebody leads."""
    seat = flights.join(key)
    assert isinstance(seat, Seat)
    return seat


def lead(flights: Flights, key: str = "k") -> Lease:
    """The lead of a flight that nobody leads."""
    lease = flights.join(key)
    assert isinstance(lease, Lease)
    return lease


async def test_the_first_leads_and_the_others_get_its_entry() -> None:
    """Everyone who waits gets the leader's entry, also when it landed before their wait began."""
    flights = Flights(clock=Clock())
    lease = lead(flights)
    seats = [seat_in(flights) for _ in range(3)]
    flights.land(lease, ENTRY)
    assert [ENTRY] * 3 == [await flights.wait(seat, 1) for seat in seats]
    assert 0 == len(flights)


async def test_a_wait_ends_at_its_limit() -> None:
    """A follower whose time is over leaves its seat."""
    flights = Flights(clock=Clock())
    lease = lead(flights)
    assert Grounded.TIMED_OUT is await flights.wait(seat_in(flights), 0)
    flights.leave(lease)
    assert 0 == len(flights)


async def test_a_lease_that_is_left_passes_to_the_next_in_line() -> None:
    """Seats are served in order, those already left are passed over, and the old lease is worth nothing."""
    flights = Flights(clock=Clock())
    lease = lead(flights)
    gone, heir, last = (seat_in(flights) for _ in range(3))
    flights.leave(gone)
    flights.leave(lease)
    inherited = await flights.wait(heir, 1)
    assert isinstance(inherited, Lease)
    flights.land(lease, ENTRY)
    assert not last.landing.done()
    flights.land(inherited, ENTRY)
    assert ENTRY == await flights.wait(last, 1)


async def test_a_lease_given_to_somebody_who_left_passes_on() -> None:
    """Who leaves after the lead was passed to it, but before hearing so, passes it on."""
    flights = Flights(clock=Clock())
    lease = lead(flights)
    heir, last = seat_in(flights), seat_in(flights)
    flights.leave(lease)
    flights.leave(heir)
    assert isinstance(await flights.wait(last, 1), Lease)


async def test_a_cancelled_wait_gives_its_seat_back() -> None:
    """Cancelling a follower leaves no seat behind, whether before or after the lead came to it."""
    flights = Flights(clock=Clock())
    for passed_on in (False, True):
        lease = lead(flights)
        waiting = asyncio.create_task(flights.wait(seat_in(flights), 1))
        await asyncio.sleep(0)
        if passed_on:
            flights.leave(lease)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        flights.leave(lease)
        assert 0 == len(flights)


async def test_a_refusal_frees_everyone_and_is_remembered_for_a_while() -> None:
    """After a remembered refusal nobody waits for that key, until the memory fades."""
    clock = Clock()
    flights = Flights(clock=clock, refused_ttl_s=10)
    lease = lead(flights)
    seat = seat_in(flights)
    flights.refuse(lease, remember=True)
    assert Grounded.REFUSED is await flights.wait(seat, 1)
    lead(flights)
    solo = lead(flights)
    flights.refuse(solo, remember=True)
    clock.now_s = 11
    lead(flights)
    seat_in(flights)


async def test_keys_do_not_meet() -> None:
    """Flights of different keys know nothing of each other."""
    flights = Flights(clock=Clock())
    first, second = lead(flights, "a"), lead(flights, "b")
    seat = seat_in(flights, "b")
    flights.land(first, ENTRY)
    assert not seat.landing.done()
    flights.leave(second)
    assert isinstance(await flights.wait(seat, 1), Lease)


async def test_a_leader_may_share_an_entry_and_go_on() -> None:
    """Who waits gets the entry, and who comes next waits for what the leader brings; only a leader shares."""
    flights = Flights(clock=Clock())
    lease, seat = lead(flights), seat_in(flights)
    flights.share(flights.alone("k"), ENTRY)
    assert not seat.landing.done()
    flights.share(lease, ENTRY)
    assert ENTRY is await flights.wait(seat, 1)
    later = seat_in(flights)
    flights.land(lease, ENTRY)
    assert ENTRY is await flights.wait(later, 1)
    assert 0 == len(flights)
