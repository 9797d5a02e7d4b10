"""Where entries are kept: bytes under a key, with a lifetime."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, TypeAlias, assert_never

from ai_cache_extproc.config import stores
from ai_cache_extproc.model import BreakerState
from ai_cache_extproc.stores.memory import MemoryStore
from ai_cache_extproc.stores.sqlite import SqliteStore, default_path

if TYPE_CHECKING:
    from ai_cache_extproc.stores.plugin import BroughtStore
    from ai_cache_extproc.stores.redis import RedisStore

AnyStore: TypeAlias = "MemoryStore | SqliteStore | RedisStore | BroughtStore"
BreakerWatch = Callable[[str, str, BreakerState | None], None]
"""Told the backend, the server, and the state of its breaker; None once the server is no longer used."""


def open_store(
    settings: stores.MemoryStore | stores.SqliteStore | stores.RedisStore | stores.PluginStore,
    *,
    prefix: str,
    heard: tuple[str, ...],
    clock: Callable[[], float],
    breaker_watch: BreakerWatch,
) -> AbstractAsyncContextManager[AnyStore]:
    """The store that the configuration names; opened on entering. clock: seconds since the epoch.

    prefix: of the names that a store makes up itself. heard: prefixes of the keys whose changes are to be told. Raises ConfigError where no path is given and the environment names none.
    """
    match settings:
        case stores.SqliteStore():
            path = settings.path or default_path(os.environ)
            return SqliteStore.open(path, bytes_max=settings.bytes_max, clock=clock)
        case stores.MemoryStore():
            return MemoryStore.open(bytes_max=settings.bytes_max, clock=clock)
        case stores.RedisStore():
            # redis-py takes an eighth of a second to import.
            from ai_cache_extproc.stores.redis import RedisStore  # noqa: PLC0415

            return RedisStore.open(settings, prefix=prefix, heard=heard, breaker_watch=breaker_watch)
        case stores.PluginStore():
            from ai_cache_extproc.stores.plugin import open_plugin  # noqa: PLC0415 - hardly anyone has one

            return open_plugin(settings, prefix=prefix, clock=clock)
        case _:
            assert_never(settings)
