"""What one search may cost, so that no path and no body holds up the sidecar.

A step is worth about 0.3 us of one core: every piece of work says beforehand how many it takes, as measured by
`python -m bench paths`.
"""

from __future__ import annotations

import sys
from typing import Never

from ai_cache_extproc.paths.found import PathBudget

LEVELS_MAX = 150
"""How deep values inside values are looked at one by one; bodies that are served are not nested deeper."""

# How many bytes a step buys, as powers of two.
_COPY_SHIFT = 12
_READ_SHIFT = 8
_PATTERN_SHIFT = 5


class Work:
    """What may still be spent on one document. Mutable; one for each search. All methods may raise PathBudget."""

    __slots__ = ("levels", "steps")

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.levels = 0

    def spend(self, steps: int) -> None:
        """Pay for a piece of work whose size is known."""
        self.steps -= steps
        if self.steps < 0:
            self._end()

    def copy(self, steps: int, size: int) -> None:
        """Pay `steps`, and for `size` bytes that are copied, or looked through for one byte."""
        self.steps -= steps + (size >> _COPY_SHIFT)
        if self.steps < 0:
            self._end()

    def read(self, steps: int, size: int) -> None:
        """Pay `steps`, and for `size` bytes that are counted, left out, decoded or parsed."""
        self.steps -= steps + (size >> _READ_SHIFT)
        if self.steps < 0:
            self._end()

    def search(self, steps: int, size: int) -> None:
        """Pay `steps`, and for `size` bytes that are searched by pattern, or written with escapes."""
        self.steps -= steps + (size >> _PATTERN_SHIFT)
        if self.steps < 0:
            self._end()

    def _end(self) -> Never:
        raise PathBudget("the path takes too many steps on this body")

    def enter(self) -> None:
        """Go one level deeper; `leave` is the way back."""
        self.levels += 1
        if self.levels > LEVELS_MAX:
            raise PathBudget(f"more than {LEVELS_MAX} levels to look at one by one")

    def leave(self) -> None:
        """Come back from `enter`."""
        self.levels -= 1


def unlimited() -> Work:
    """For what stands in configuration: its length is bounded."""
    return Work(sys.maxsize)
