"""When to stop asking a backend that does not answer. Whoever probes it says when it is well again."""

from __future__ import annotations

from collections.abc import Callable

from ai_cache_extproc.model import BreakerState


class Breaker:
    """Closed while the backend works; open after `failures_max` failures in a row, until something succeeds."""

    def __init__(self, *, failures_max: int, changed: Callable[[BreakerState], None]) -> None:
        """changed: told the new state whenever it changes."""
        self._failures_max = failures_max
        self._changed = changed
        self._failures = 0

    @property
    def is_open(self) -> bool:
        """Whether nobody should ask."""
        return self._failures >= self._failures_max

    def failed(self) -> None:
        """An operation did not get its answer in time, or none at all."""
        self._failures += 1
        if self._failures == self._failures_max:
            self._changed(BreakerState.OPEN)

    def succeeded(self) -> None:
        """An operation got its answer in time."""
        if not self._failures:
            return
        was_open, self._failures = self.is_open, 0
        if was_open:
            self._changed(BreakerState.CLOSED)


class Gate:
    """A breaker without a prober of its own: while it is open, one operation each `probe_s` is let through to try.

    Whoever was admitted says how it ended: `succeeded`, `failed`, or `left` if that says nothing of the backend.
    """

    def __init__(
        self,
        *,
        failures_max: int,
        probe_s: float,
        changed: Callable[[BreakerState], None],
        clock: Callable[[], float],
    ) -> None:
        """clock: monotonic seconds. changed: told the new state whenever it changes."""
        self._breaker = Breaker(failures_max=failures_max, changed=changed)
        self._probe_s = probe_s
        self._clock = clock
        self._next_s = 0.0

    @property
    def is_open(self) -> bool:
        """Whether only probes are let through."""
        return self._breaker.is_open

    def admit(self) -> bool:
        """Whether this operation may ask the backend."""
        if not self._breaker.is_open:
            return True
        now_s = self._clock()
        if now_s < self._next_s:
            return False
        self._next_s = now_s + self._probe_s
        return True

    def failed(self, *, quiet_s: float = 0.0) -> None:
        """No answer in time, or none at all. quiet_s: how long the backend itself asked to be left alone, at least."""
        self._breaker.failed()
        self._next_s = self._clock() + max(self._probe_s, quiet_s)

    def succeeded(self) -> None:
        """An answer in time."""
        self._breaker.succeeded()

    def left(self) -> None:
        """Given up by the caller: the next one may try."""
        self._next_s = min(self._next_s, self._clock())
