"""One answer being collected, inside its own bound and that of the process."""

from __future__ import annotations

from ai_cache_extproc.cache.weighing import Keepable
from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.model import Reason
from ai_cache_extproc.telemetry.metrics import Metrics

_COPIES = 4
"""As what an answer is in memory on its way into the store: in pieces, whole, as it is judged, and as it is stored."""


class CaptureBudget:
    """The memory that all answers under way in this process may take; each byte that is collected counts fourfold."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._taken = 0

    def take(self, size: int, *, bytes_max: int) -> bool:
        """Take `size` bytes if that keeps the sum, with the copies to come, within `bytes_max`."""
        if (self._taken + size) * _COPIES > bytes_max:
            return False
        self._taken += size
        self._metrics.capture_bytes(size)
        return True

    def give_back(self, size: int) -> None:
        """Return what `take` took."""
        self._taken -= size
        self._metrics.capture_bytes(-size)


class Collection:
    """A capture with its share of the budget, which `close` gives back."""

    def __init__(self, answer: Keepable, budget: CaptureBudget, *, capture_bytes_max: int) -> None:
        self.capture = answer.capture
        self.tags = answer.tags
        self._budget = budget
        self._answer_bytes_max = answer.answer_bytes_max
        self._capture_bytes_max = capture_bytes_max
        self._taken = 0

    def feed(self, chunk: bytes, *, end_of_stream: bool) -> bool:
        """Append a chunk; true as soon as the answer is whole.

        Raises DialectError: ANSWER_TOO_LARGE, CAPTURE_BUDGET, or what the dialect does not understand.
        """
        size = len(chunk)
        if self._taken + size > self._answer_bytes_max:
            raise DialectError(Reason.ANSWER_TOO_LARGE, f"more than {self._answer_bytes_max} bytes")
        if not self._budget.take(size, bytes_max=self._capture_bytes_max):
            raise DialectError(
                Reason.CAPTURE_BUDGET, f"too much is being collected for {self._capture_bytes_max} bytes"
            )
        self._taken += size
        return self.capture.feed(chunk, end_of_stream=end_of_stream)

    def end(self) -> bool:
        """Response trailers arrived; true if that makes the answer whole."""
        return self.capture.end()

    def close(self) -> None:
        """Give the budget back; the bytes now belong to whoever took the capture, or to nobody. Idempotent."""
        self._budget.give_back(self._taken)
        self._taken = 0
