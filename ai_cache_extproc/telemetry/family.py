"""How a metric is declared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Merge = Literal["sum", "max", "min"]


@dataclass(frozen=True, slots=True)
class Family:
    """One metric as it is documented: full name, Prometheus type, label names, meaning.

    merge: how the values of several worker processes become one.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    merge: Merge = "sum"
