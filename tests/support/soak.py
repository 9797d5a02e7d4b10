"""Two lengths of one test: short with every `make test`, long with `make soak` (`AICACHE_SOAK=1`)."""

from __future__ import annotations

import os
from typing import TypeVar

T = TypeVar("T")

SOAK = os.environ.get("AICACHE_SOAK") == "1"
MIX_S = float(os.environ.get("AICACHE_SOAK_S", "600"))
"""How long each mix of faults lasts in the long form."""


def either(short: T, soak: T) -> T:
    """The figure for the length that runs."""
    return soak if SOAK else short
