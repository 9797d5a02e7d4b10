"""The exact match: the near copy first, then the shared store. A stored value that does not check is a miss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import structlog

from ai_cache_extproc.cache.formats.base import Format, NotOurs
from ai_cache_extproc.cache.near import Near
from ai_cache_extproc.cache.purges import Purges
from ai_cache_extproc.errors import BackendRejected
from ai_cache_extproc.model import Alias, Entry, Identity, Layout
from ai_cache_extproc.stores.base import Store
from ai_cache_extproc.telemetry.metrics import Metrics

log = structlog.get_logger()


class Exact:
    """Entries by identity."""

    def __init__(
        self, *, near: Near, store: Store, purges: Purges, formats: Mapping[Layout, Format], metrics: Metrics
    ) -> None:
        self._near = near
        self._purges = purges
        self._formats = formats
        self._store = store
        self._metrics = metrics

    def near(self, identity: Identity) -> Entry | None:
        """The entry, if this process holds a copy of it; and where another one answers, of that."""
        kept = self._near.get(identity.key)
        if not isinstance(kept, Alias):
            return kept
        source = self._near.get(kept.key)
        return replace(source, alias=kept) if isinstance(source, Entry) else None

    async def known(self, identity: Identity) -> Entry | None:
        """The entry, near or from the store. Raises BackendError."""
        return self.near(identity) or await self.read(identity)

    async def read(self, identity: Identity) -> Entry | None:
        """The entry from the store, copied near, or the one that answers in its place. Raises BackendError."""
        found = await self._read(identity)
        if not isinstance(found, Alias):
            return found
        source = await self.source(found.key, found.digest)
        return None if source is None else replace(source, alias=found)

    async def source(self, key: str, digest: bytes) -> Entry | None:
        """The entry under a key that was remembered elsewhere, of our own layout. Raises BackendError."""
        kept = self._near.get(key)
        if kept is None:
            kept = await self._read(Identity(key, digest, flight=""))
        # One that has become an alias itself would answer what nobody compared.
        return kept if isinstance(kept, Entry) else None

    async def _read(self, identity: Identity) -> Entry | Alias | None:
        with self._near.reading(identity.key) as reading:
            if self._purges.settled:
                value = await self._store.get(identity.key)
            else:
                value = await self._purges.read(identity.key)
            if value is None:
                return None
            try:
                entry = self._formats[identity.layout].decode(value, identity)
            except BackendRejected as error:
                await self._reject(identity, error)
                return None
            if identity.layout is Layout.NATIVE and self._purges.forbid(identity, entry):
                # It was written while the purge went by, and nobody need find it again.
                await self._store.delete(identity.key)
                return None
            reading.keep(entry)
        return entry

    async def _reject(self, identity: Identity, error: BackendRejected) -> None:
        """A value that does not check is removed, unless another program may have a use for it."""
        self._metrics.backend_error(error)
        log.warning("entry_rejected", key=identity.id, reason=error.reason)
        if not isinstance(error, NotOurs):
            await self._store.delete(identity.key)

    async def write(self, identity: Identity, entry: Entry | Alias, *, ttl_s: float) -> None:
        """Keep the entry in the store. Raises BackendError; `remember` has made it readable here before."""
        value = self._formats[identity.layout].encode(entry, identity)
        await self._store.set(identity.key, value, ttl_s=ttl_s)

    def is_purged(self, identity: Identity, entry: Entry | Alias) -> bool:
        """Whether the entry was purged while it was on its way."""
        return self._purges.forbid(identity, entry)

    def remember(self, identity: Identity, entry: Entry | Alias) -> None:
        """Copy an entry near, ahead of its way into the store."""
        self._near.put(identity.key, entry)
