"""The circuit breaker: opens after failures in a row, closes with the first success."""

from __future__ import annotations

from ai_cache_extproc.clients.breaker import Breaker
from ai_cache_extproc.model import BreakerState


def test_it_opens_after_so_many_failures_in_a_row() -> None:
    """The last of them opens it, and says so once however many follow."""
    told: list[BreakerState] = []
    breaker = Breaker(failures_max=3, changed=told.append)
    seen = []
    for _ in range(5):
        seen.append(breaker.is_open)
        breaker.failed()
    assert [False, False, False, True, True] == seen
    assert [BreakerState.OPEN] == told


def test_a_success_in_between_begins_the_count_again() -> None:
    """Failures that are not in a row open nothing, and a success without a failure is no news."""
    told: list[BreakerState] = []
    breaker = Breaker(failures_max=2, changed=told.append)
    for _ in range(3):
        breaker.succeeded()
        breaker.failed()
    breaker.succeeded()
    assert (False, []) == (breaker.is_open, told)


def test_the_first_success_closes_it() -> None:
    """It says so once, and opens again after as many failures as before."""
    told: list[BreakerState] = []
    breaker = Breaker(failures_max=2, changed=told.append)
    for _ in range(2):
        breaker.failed()
        breaker.failed()
        breaker.succeeded()
        breaker.succeeded()
        breaker.failed()
        assert not breaker.is_open
        breaker.succeeded()
    assert [BreakerState.OPEN, BreakerState.CLOSED] * 2 == told
