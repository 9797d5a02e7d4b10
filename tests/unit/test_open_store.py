"""From the configuration to a store, and where its file is by default."""

from __future__ import annotations

from pathlib import Path

import pytest

from ai_cache_extproc.config import model
from ai_cache_extproc.errors import ConfigError
from ai_cache_extproc.stores import open_store
from ai_cache_extproc.stores.sqlite import default_path


def clock() -> float:
    """A moment."""
    return 1_800_000_000.0


async def test_memory_is_opened_with_its_bound() -> None:
    """`type: memory` gives a store in memory of the size that was configured."""
    async with open_store(model.MemoryStore(type="memory", bytes_max=1 << 21), clock=clock) as store:
        assert ("memory", 1 << 21) == (store.name, (await store.stats()).bytes_max)


async def test_sqlite_is_opened_where_it_was_configured(tmp_path: Path) -> None:
    """`path` and `bytes_max` reach the file."""
    path = tmp_path / "there.db"
    async with open_store(model.SqliteStore(path=path, bytes_max=1 << 21), clock=clock) as store:
        assert ("sqlite", 1 << 21) == (store.name, (await store.stats()).bytes_max)
    assert path.exists()


async def test_sqlite_has_a_place_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a path the file goes to the state directory of the user."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    async with open_store(model.SqliteStore(), clock=clock):
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
