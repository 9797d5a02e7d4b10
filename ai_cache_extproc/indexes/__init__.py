"""Where vectors are searched: points in partitions, with a lifetime."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from ai_cache_extproc.clients.sqlite import KeepsFile
from ai_cache_extproc.config import indexes
from ai_cache_extproc.errors import ConfigError
from ai_cache_extproc.model import BreakerState

if TYPE_CHECKING:
    from ai_cache_extproc.indexes.base import Index

BreakerWatch = Callable[[str, str, BreakerState | None], None]
"""Told the backend, the server, and the state of its breaker; None once the server is no longer used."""


def open_index(
    settings: indexes.AnyIndex,
    *,
    identity: str,
    store: object,
    clock: Callable[[], float],
    breaker_watch: BreakerWatch,
) -> AbstractAsyncContextManager[Index]:
    """The index that the configuration names; opened on entering, to be prepared by whoever searches.

    identity: of the embedder; its points are found by no other. store: the open store, whose file an embedded index
    shares if it has one. clock: seconds since the epoch. Raises ConfigError where an extra is missing.
    """
    if find_spec("numpy") is None:
        raise ConfigError("index", "needs numpy; pip install 'ai-cache-extproc[semantic]'")
    # None of them is imported unless it is used: numpy takes a tenth of a second.
    if isinstance(settings, indexes.EmbeddedIndex):
        from ai_cache_extproc.indexes.embedded import EmbeddedIndex  # noqa: PLC0415

        thread = store.thread if isinstance(store, KeepsFile) else None
        return EmbeddedIndex.open(settings, identity=identity, thread=thread, clock=clock)
    if isinstance(settings, indexes.RediSearchIndex):
        from ai_cache_extproc.indexes.redisearch import RediSearchIndex  # noqa: PLC0415

        return RediSearchIndex.open(settings, identity=identity, clock=clock, breaker_watch=breaker_watch)
    from ai_cache_extproc.indexes.remote import driver_of  # noqa: PLC0415

    return driver_of(settings).open(settings, identity=identity, clock=clock, breaker_watch=breaker_watch)
