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
