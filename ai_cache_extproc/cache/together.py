"""How those who ask the same at once agree on one who asks the upstream."""

from __future__ import annotations

from dataclasses import dataclass

from ai_cache_extproc.cache.changes import Changes
from ai_cache_extproc.cache.flights import Flights
from ai_cache_extproc.cache.leases import Leases


@dataclass(frozen=True, slots=True)
class Together:
    """Flights in this process, leases among all, and the news that ends a wait for another process."""

    flights: Flights
    leases: Leases
    changes: Changes
