"""The exact match: the near copy first, then the shared store. A stored value that does not check is a miss."""

from __future__ import annotations

import structlog

from ai_cache_extproc.cache.formats import native
from ai_cache_extproc.cache.near import Near
from ai_cache_extproc.errors import BackendRejected
from ai_cache_extproc.model import Entry, Identity
from ai_cache_extproc.stores.base import Store
from ai_cache_extproc.telemetry.metrics import Metrics

log = structlog.get_logger()


class Exact:
    """Entries by identity."""

    def __init__(self, *, near: Near, store: Store, metrics: Metrics) -> None:
        self._near = near
        self._store = store
        self._metrics = metrics

    def near(self, identity: Identity) -> Entry | None:
        """The entry, if this process holds a copy of it."""
        return self._near.get(identity.key)

    async def read(self, identity: Identity) -> Entry | None:
        """The entry from the store, copied near. Raises BackendError."""
        value = await self._store.get(identity.key)
        if value is None:
            return None
        try:
            entry = native.decode(value, identity.digest)
        except BackendRejected as error:
            self._metrics.backend_error(error)
            log.warning("entry_rejected", key=identity.id, reason=error.reason)
            await self._store.delete(identity.key)
            return None
        self._near.put(identity.key, entry)
        return entry

    async def write(self, identity: Identity, entry: Entry, *, ttl_s: float) -> None:
        """Keep the entry in the store. Raises BackendError; `remember` has made it readable here before."""
        await self._store.set(identity.key, native.encode(entry, identity.digest), ttl_s=ttl_s)

    def remember(self, identity: Identity, entry: Entry) -> None:
        """Copy an entry near, ahead of its way into the store."""
        self._near.put(identity.key, entry)
