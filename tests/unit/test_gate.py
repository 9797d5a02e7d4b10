"""The breaker without a prober: one operation each while is let through, and its outcome decides."""

from __future__ import annotations

from ai_cache_extproc.clients.breaker import Gate
from ai_cache_extproc.model import BreakerState


class Clock:
    """Seconds, as the test sets them."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def _opened(clock: Clock) -> tuple[Gate, list[BreakerState]]:
    told: list[BreakerState] = []
    gate = Gate(failures_max=2, probe_s=1.0, changed=told.append, clock=clock)
    for _ in range(2):
        assert gate.admit()
        gate.failed()
    assert gate.is_open
    return gate, told


def test_while_it_is_open_one_in_a_while_is_let_through() -> None:
    """The next one not before the pause is over, however many ask."""
    clock = Clock()
    gate, _ = _opened(clock)
    assert [False, False] == [gate.admit(), gate.admit()]
    clock.now_s += 1
    assert [True, False, False] == [gate.admit() for _ in range(3)]
    clock.now_s += 0.9
    gate.failed()
    assert not gate.admit()
    clock.now_s += 1
    assert gate.admit()


def test_a_success_closes_it() -> None:
    """Everyone is let through again, and it is told once."""
    clock = Clock()
    gate, told = _opened(clock)
    clock.now_s += 1
    assert gate.admit()
    gate.succeeded()
    assert [True, True] == [gate.admit(), gate.admit()]
    assert [BreakerState.OPEN, BreakerState.CLOSED] == told


def test_a_probe_that_was_given_up_leaves_its_turn_to_the_next() -> None:
    """A caller that went away says nothing of the backend."""
    clock = Clock()
    gate, _ = _opened(clock)
    clock.now_s += 1
    assert gate.admit()
    gate.left()
    assert [True, False] == [gate.admit(), gate.admit()]


def test_it_stays_quiet_as_long_as_it_is_asked_to() -> None:
    """A backend that says when to come back is left alone until then."""
    clock = Clock()
    gate, _ = _opened(clock)
    gate.failed(quiet_s=20)
    clock.now_s += 19
    assert not gate.admit()
    clock.now_s += 1
    assert gate.admit()
