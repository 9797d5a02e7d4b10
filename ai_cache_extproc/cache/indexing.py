"""Stored answers on their way into the index, behind everyone's back: embedded one after the other, then added."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from ai_cache_extproc.cache.backlog import Backlog
from ai_cache_extproc.cache.payloads import payload_of
from ai_cache_extproc.cache.semantic import Semantic
from ai_cache_extproc.errors import BackendError
from ai_cache_extproc.meaning import Asked
from ai_cache_extproc.model import Entry, Identity, Layout
from ai_cache_extproc.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from ai_cache_extproc.indexes.base import Point

log = structlog.get_logger()

WAITING_MAX = 1000
WAITING_BYTES_MAX = 16 * 1024 * 1024
"""Of texts; in the layouts of other programs answers are among them."""
_ID_DIGITS = 32
_KEY_DIGITS = 64


def id_in(key: str) -> str:
    """The id of an entry of our own layout."""
    return key[-_KEY_DIGITS:][:_ID_DIGITS]


@dataclass(frozen=True, slots=True)
class _Waiting:
    identity: Identity
    asked: Asked
    created_s: float
    expires_s: float
    payload: Mapping[str, str]

    @property
    def size_bytes(self) -> int:
        return len(self.asked.text) + sum(map(len, self.payload.values()))


class Indexing:
    """A bounded queue of entries to be found by their meaning, and what empties it. Also what a purge removes from it."""

    def __init__(
        self,
        semantic: Semantic,
        *,
        metrics: Metrics,
        waiting_max: int = WAITING_MAX,
        waiting_bytes_max: int = WAITING_BYTES_MAX,
        id_of: Callable[[str], str] = id_in,
    ) -> None:
        """id_of: the id of the entry under a key."""
        self._semantic = semantic
        self._id_of = id_of
        self._metrics = metrics
        self._backlog = Backlog(self._add, self._fault, pieces_max=waiting_max, bytes_max=waiting_bytes_max)

    def offer(self, identity: Identity, entry: Entry, *, ttl_s: float | None = None) -> None:
        """Let an entry that is stored be found by its meaning, for so long; one too many is dropped and counted."""
        if entry.asked is None:
            return
        expires_s = entry.expires_s if ttl_s is None else entry.created_s + ttl_s
        if identity.layout is Layout.NATIVE:
            expires_s = min(expires_s, entry.expires_s)
        waiting = _Waiting(identity, entry.asked, entry.created_s, expires_s, payload_of(identity, entry))
        if not self._backlog.take(waiting):
            self._metrics.meaning.indexed("queue_full")

    async def run(self) -> None:
        """Empty the queue until cancelled."""
        await self._backlog.run()

    async def drain(self) -> None:
        """Wait until all that was offered is in the index, or was given up."""
        await self._backlog.drain()

    async def forget(self, keys: Sequence[str]) -> None:
        """Remove what belongs to these entries. Raises BackendError."""
        ids = [self._id_of(key) for key in keys]
        if ids:
            await self._semantic.index.delete(ids)

    async def _add(self, waiting: _Waiting) -> None:
        try:
            await self._semantic.index.add([await self._point(waiting)])
        except BackendError as error:
            self._metrics.backend_error(error)
            self._metrics.meaning.indexed("failed")
            log.debug("not_indexed", backend=error.backend, operation=error.operation, reason=error.reason)
        else:
            self._metrics.meaning.indexed("added")

    def _fault(self, waiting: _Waiting, error: Exception) -> None:
        self._metrics.exchange_fault()
        log.error("indexing_fault", key=waiting.identity.id, exc_info=error)

    async def _point(self, waiting: _Waiting) -> Point:
        from ai_cache_extproc.indexes.base import Point  # noqa: PLC0415 - numpy is there where there is an index

        vector = await self._semantic.vector(waiting.asked.text)
        return Point(
            id=waiting.identity.id,
            partition=waiting.asked.partition,
            vector=vector,
            key=waiting.identity.key,
            created_s=waiting.created_s,
            expires_s=waiting.expires_s,
            payload=waiting.payload,
        )
