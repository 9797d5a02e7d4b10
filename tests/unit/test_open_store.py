"""From the configuration to a store, and where its file is by default."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from ai_cache_extproc.config import model
from ai_cache_extproc.errors import BackendUnavailable, ConfigError
from ai_cache_extproc.model import BreakerState
from ai_cache_extproc.stores import AnyStore, open_store
from ai_cache_extproc.stores.sqlite import default_path


def opening(
    settings: model.MemoryStore | model.SqliteStore | model.RedisStore,
) -> AbstractAsyncContextManager[AnyStore]:
    """The store of these settings, at one moment, with nobody watching."""

    def watch(backend: str, server: str, state: BreakerState | None) -> None:
        pass

    return open_store(
        settings, prefix="aicache:", heard=("aicache:",), clock=lambda: 1_800_000_000.0, breaker_watch=watch
    )


async def test_memory_is_opened_with_its_bound() -> None:
    """`type: memory` gives a store in memory of the size that was configured."""
    async with opening(model.MemoryStore(type="memory", bytes_max=1 << 21)) as store:
        assert ("memory", 1 << 21) == (store.name, (await store.stats()).bytes_max)


async def test_sqlite_is_opened_where_it_was_configured(tmp_path: Path) -> None:
    """`path` and `bytes_max` reach the file."""
    path = tmp_path / "there.db"
    async with opening(model.SqliteStore(path=path, bytes_max=1 << 21)) as store:
        assert ("sqlite", 1 << 21) == (store.name, (await store.stats()).bytes_max)
    assert path.exists()


async def test_redis_is_opened_without_being_asked() -> None:
    """Where no server is the store is opened all the same, and says so when it is asked."""
    settings = model.RedisStore(type="redis", url=("redis://127.0.0.1:1",))
    async with opening(settings) as store:
        assert "redis" == store.name
        with pytest.raises(BackendUnavailable, match="no server is known for this key"):
            await store.get("aicache:key")


async def test_sqlite_has_a_place_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a path the file goes to the state directory of the user."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    async with opening(model.SqliteStore()):
        assert (tmp_path / "aicache" / "cache.db").exists()


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"XDG_STATE_HOME": "/state", "HOME": "/srv/me"}, "/state/aicache/cache.db"),
        ({"HOME": "/srv/me"}, "/srv/me/.local/state/aicache/cache.db"),
        ({"XDG_STATE_HOME": "", "HOME": "/srv/me"}, "/srv/me/.local/state/aicache/cache.db"),
        ({"XDG_STATE_HOME": "relative", "HOME": "/srv/me"}, "/srv/me/.local/state/aicache/cache.db"),
    ],
)
def test_the_default_path(environ: dict[str, str], expected: str) -> None:
    """XDG_STATE_HOME counts where it is absolute, else HOME."""
    assert Path(expected) == default_path(environ)


def test_no_home_is_a_fault_of_the_configuration() -> None:
    """Where the environment names no place the text says what to set."""
    with pytest.raises(ConfigError, match=r"store\.path: neither XDG_STATE_HOME nor HOME is set; name a file"):
        default_path({})
