"""Leases that processes agree on through the store they share: of all of them, one asks the upstream.

Taking a lease is awaited; giving it back is left to `run`, and to the lease's own expiry where that does not come to it.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque

import structlog

from ai_cache_extproc.cache.flights import Ending
from ai_cache_extproc.errors import BackendError, BackendRejected
from ai_cache_extproc.stores.base import Claim, LeaseKeeper
from ai_cache_extproc.telemetry.metrics import Metrics

log = structlog.get_logger()

_RETURNS_MAX = 1000
_RETURN_S_MAX = 1.0
_REFUSED_S = 10.0
"""How long others are told that the answers of a key are not kept; as long as `Flights` remembers it."""


class Leases:
    """The leases of this process; without a keeper, each claim is good."""

    def __init__(self, keeper: LeaseKeeper | None, *, metrics: Metrics) -> None:
        self._keeper = keeper
        self._metrics = metrics
        self._holder = os.urandom(16)
        self._held: set[str] = set()
        self._returns: deque[tuple[str, Ending]] = deque(maxlen=_RETURNS_MAX)
        self._wake = asyncio.Event()

    @property
    def are_shared(self) -> bool:
        """Whether any other process is asked."""
        return self._keeper is not None

    async def claim(self, key: str, *, ttl_s: float) -> Claim:
        """Ask for the lease of a key. Raises BackendError."""
        if self._keeper is None:
            return Claim.TAKEN
        # Until the reply is here: a claim that was given up on may have been granted, and is then given back.
        self._held.add(key)
        try:
            claim = await self._keeper.claim_lease(key, self._holder, ttl_s=ttl_s)
        except BackendRejected:
            self._held.discard(key)
            raise
        if claim is not Claim.TAKEN:
            self._held.discard(key)
        return claim

    def ended(self, key: str, ending: Ending) -> None:
        """The flight of a key has ended here. A lease whose entry was written expires by itself."""
        if key not in self._held:
            return
        self._held.discard(key)
        if ending is not Ending.LANDED:
            self._returns.append((key, ending))
            self._wake.set()

    def unkept(self, key: str) -> None:
        """The answer of a flight that has landed here did not reach the store: others wait for it in vain."""
        if self._keeper is not None:
            self._returns.append((key, Ending.LEFT))
            self._wake.set()

    async def run(self) -> None:
        """Give leases back until cancelled."""
        while self._keeper is not None:
            await self._wake.wait()
            self._wake.clear()
            while self._returns:
                await self._give_back(self._keeper, *self._returns.popleft())

    async def _give_back(self, keeper: LeaseKeeper, key: str, ending: Ending) -> None:
        try:
            async with asyncio.timeout(_RETURN_S_MAX):
                if ending is Ending.REFUSED:
                    await keeper.refuse_lease(key, ttl_s=_REFUSED_S)
                else:
                    await keeper.release_lease(key, self._holder)
        except TimeoutError:
            log.debug("lease_left_to_expire", reason="the store is slow")
        except BackendError as error:
            self._metrics.backend_error(error)
            log.debug("lease_left_to_expire", reason=str(error))
