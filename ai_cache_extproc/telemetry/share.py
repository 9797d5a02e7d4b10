"""A share of what was counted, and how far it can be trusted. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

Z_95: Final = 1.959964
"""Standard deviations of a normal distribution on either side of its mean, between which 95 % of it lies."""


@dataclass(frozen=True, slots=True)
class Share:
    """So many of so many, with the 95 % interval (Wilson) of what this says of others like them."""

    count: float
    of: float

    @property
    def value(self) -> float:
        """0..1; 0 of none."""
        return self.count / self.of if self.of else 0.0

    @property
    def low(self) -> float:
        """The interval's lower end."""
        return max(0.0, self._middle - self._reach) if self.count else 0.0

    @property
    def high(self) -> float:
        """The interval's upper end; 1 of none."""
        return min(1.0, self._middle + self._reach) if self.count < self.of else 1.0

    @property
    def _middle(self) -> float:
        return (self.value + Z_95**2 / (2 * self.of)) / (1 + Z_95**2 / self.of)

    @property
    def _reach(self) -> float:
        spread = math.sqrt(self.value * (1 - self.value) / self.of + Z_95**2 / (4 * self.of * self.of))
        return Z_95 * spread / (1 + Z_95**2 / self.of)

    def document(self) -> dict[str, float]:
        """For programs, to four places."""
        portions = {"share": self.value, "low": self.low, "high": self.high}
        return {"count": self.count, "of": self.of} | {name: round(value, 4) for name, value in portions.items()}

    def __str__(self) -> str:
        if not self.of:
            return "-"
        return f"{self.value:.1%} [{100 * self.low:.0f}-{100 * self.high:.0f}]"
