"""The stores that the contract is checked on. A store joins with a function that opens it and an entry in `STORES`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from ai_cache_extproc.stores.base import Store
from ai_cache_extproc.stores.memory import MemoryStore
from ai_cache_extproc.stores.sqlite import SqliteStore

BYTES_MAX = 1024 * 1024


class Clock:
    """Seconds since the epoch, as a test sets them."""

    def __init__(self) -> None:
        self.now_s = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s


StoreFactory = Callable[[Path, Clock], AbstractAsyncContextManager[Store]]


def open_memory(_: Path, clock: Clock) -> AbstractAsyncContextManager[Store]:
    """A store in memory of 1 MiB."""
    return MemoryStore.open(bytes_max=BYTES_MAX, clock=clock)


def open_sqlite(directory: Path, clock: Clock) -> AbstractAsyncContextManager[Store]:
    """A store in a file of 1 MiB."""
    return SqliteStore.open(directory / "cache.db", bytes_max=BYTES_MAX, clock=clock)


STORES: dict[str, StoreFactory] = {"memory": open_memory, "sqlite": open_sqlite}
BOUNDED = ("memory", "sqlite")


@pytest.fixture
def clock() -> Clock:
    """The clock that the store under test reads."""
    return Clock()


@pytest.fixture(params=STORES)
async def store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> AsyncIterator[Store]:
    """Each store in turn, empty and open."""
    async with STORES[request.param](tmp_path, clock) as opened:
        yield opened


@pytest.fixture(params=BOUNDED)
async def bounded_store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> AsyncIterator[Store]:
    """Each store that keeps its own bound of bytes."""
    async with STORES[request.param](tmp_path, clock) as opened:
        yield opened
