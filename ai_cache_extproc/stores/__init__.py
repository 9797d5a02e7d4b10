"""Where entries are kept: bytes under a key, with a lifetime."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import assert_never

from ai_cache_extproc.config import model
from ai_cache_extproc.stores.memory import MemoryStore
from ai_cache_extproc.stores.sqlite import SqliteStore, default_path


def open_store(
    settings: model.SqliteStore | model.MemoryStore, *, clock: Callable[[], float]
) -> AbstractAsyncContextManager[SqliteStore | MemoryStore]:
    """The store that the configuration names; opened on entering. clock: seconds since the epoch.

    Raises ConfigError where no path is given and the environment names none.
    """
    match settings:
        case model.SqliteStore():
            path = settings.path or default_path(os.environ)
            return SqliteStore.open(path, bytes_max=settings.bytes_max, clock=clock)
        case model.MemoryStore():
            return MemoryStore.open(bytes_max=settings.bytes_max, clock=clock)
        case _:
            assert_never(settings)
