"""Several processes on one database file, and processes that are killed while they write."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ai_cache_extproc.errors import BackendTimeout, ConfigError
from ai_cache_extproc.stores.sqlite import SqliteStore
from tests.faults.sqlite_child import BYTES_MAX, value_of

REPOSITORY = Path(__file__).parents[2]


def child(*arguments: object) -> subprocess.Popen[str]:
    """A process in one of the roles of `sqlite_child`."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.faults.sqlite_child", *map(str, arguments)],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def lines(process: subprocess.Popen[str]) -> Iterator[str]:
    """What the process prints, line by line."""
    assert process.stdout is not None
    return iter(process.stdout)


def printed(*arguments: object) -> str:
    """All that a process prints until it ends well."""
    process = child(*arguments)
    output, _ = process.communicate(timeout=30)
    assert 0 == process.returncode
    return output.strip()


async def read_back(path: Path, number: int, count: int) -> int:
    """How many of a writer's first `count` values are there; each of them whole."""
    found = 0
    async with SqliteStore.open(path, bytes_max=BYTES_MAX, clock=time.time) as store:
        for turn in range(count):
            value = await store.get(f"{number}:{turn}")
            assert value in {None, value_of(f"{number}:{turn}")}
            found += value is not None
    return found


@pytest.mark.parametrize("trial", range(5))
async def test_a_killed_writer_leaves_whole_values(tmp_path: Path, trial: int) -> None:
    """After `kill -9` at any moment the file opens, every value is whole, and the last ones set are there."""
    path, confirmed = tmp_path / "cache.db", 0
    writer = child("write", path, trial)
    stop_after = random.Random(trial).randint(1, 600)
    for line in lines(writer):
        confirmed = int(line)
        if confirmed >= stop_after:
            writer.kill()
            break
    for line in lines(writer):
        confirmed = int(line) if line.endswith("\n") else confirmed
    writer.communicate()
    assert not (tmp_path / "cache.db.corrupt").exists()
    # Nothing had to make room yet: what was confirmed is there, and what was under way is whole or absent.
    assert confirmed + 1 <= await read_back(path, trial, confirmed + 10) <= confirmed + 2


async def test_killed_writers_leave_a_file_for_the_next(tmp_path: Path) -> None:
    """One file outlives writers that are killed one after the other, with a reader on it all the time."""
    path = tmp_path / "cache.db"
    async with SqliteStore.open(path, bytes_max=BYTES_MAX, clock=time.time) as store:
        for number in range(3):
            writer = child("write", path, number)
            confirmed = next(int(line) for line in lines(writer) if int(line) > 50)
            writer.kill()
            writer.communicate()
            assert value_of(f"{number}:{confirmed}") == await store.get(f"{number}:{confirmed}")
        await store.set("key", b"value", ttl_s=60)
        assert b"value" == await store.get("key")


async def test_processes_that_start_together_share(tmp_path: Path) -> None:
    """Processes that find no file make one together: the same identity key, and everyone's values in it."""
    path = tmp_path / "state" / "cache.db"
    processes = [child("join", path, number) for number in range(4)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    keys = {process.communicate(timeout=30)[0].strip() for process in processes}
    assert [0, 0, 0, 0] == [process.returncode for process in processes]
    assert [64] == [len(key) for key in keys]
    assert [20, 20, 20, 20] == [await read_back(path, number, 20) for number in range(4)]
    async with SqliteStore.open(path, bytes_max=BYTES_MAX, clock=time.time) as store:
        assert keys == {(await store.identity_key()).hex()}
    assert ["cache.db", "cache.db.key"] == sorted(entry.name for entry in path.parent.iterdir())


async def test_the_bound_holds_across_processes(tmp_path: Path) -> None:
    """Two processes that fill one file keep to its bound together."""
    path = tmp_path / "cache.db"
    writer = child("write", path, 0)
    next(lines(writer))
    async with SqliteStore.open(path, bytes_max=BYTES_MAX, clock=time.time) as store:
        largest = late = 0
        for number in range(150):
            try:
                await store.set(f"ours{number}", b"x" * 100_000, ttl_s=3600)
            except BackendTimeout:
                # The other process held the file for longer than a write may wait.
                late += 1
            largest = max(largest, (await store.stats()).bytes)
    writer.kill()
    writer.communicate()
    assert 0.8 * BYTES_MAX <= largest <= BYTES_MAX
    assert late < 75


def test_a_path_that_cannot_be_written_is_named() -> None:
    """A directory without write permission, or no directory at all, is reported with its path and the reason."""
    with tempfile.TemporaryDirectory() as made:
        directory = Path(made)
        directory.chmod(0o755)
        (directory / "closed").mkdir(mode=0o555)
        path = directory / "closed" / "cache.db"
        assert f"BackendUnavailable sqlite open: {path}: Permission denied" == printed("refused", path)
        below = directory / "closed" / "below" / "cache.db"
        assert f"BackendUnavailable sqlite open: {below.parent}: Permission denied" == printed("refused", below)
        (directory / "file").write_bytes(b"")
        blocked = directory / "file" / "cache.db"
        assert f"BackendUnavailable sqlite open: {blocked.parent}: Not a directory" == printed("refused", blocked)


def test_a_file_that_may_not_grow_is_survived(tmp_path: Path) -> None:
    """At the size limit of the operating system writes fail, reads go on, and nothing is half written."""
    last = printed("full", tmp_path / "cache.db").splitlines()[-1]
    assert "failures=True written=True whole=True after=b'value'" == last


async def test_the_identity_key_outlives_the_file(tmp_path: Path) -> None:
    """A database that is set aside or removed does not change the names of entries elsewhere."""
    path = tmp_path / "cache.db"
    async with SqliteStore.open(path, bytes_max=BYTES_MAX, clock=time.time) as store:
        key = await store.identity_key()
    path.write_bytes(b"garbage" * 100)
    async with SqliteStore.open(path, bytes_max=BYTES_MAX, clock=time.time) as store:
        assert key == await store.identity_key()
    assert key == (tmp_path / "cache.db.key").read_bytes()


@pytest.mark.parametrize(
    ("mode", "content", "reason"),
    [
        (0o644, bytes(32), "has mode 0644, so that others can read it; chmod 600 it"),
        (0o660, bytes(32), "has mode 0660"),
        (0o600, b"", "does not hold 32 bytes; delete it"),
        (0o600, bytes(31), "does not hold 32 bytes"),
        (0o600, bytes(33), "does not hold 32 bytes"),
    ],
)
async def test_an_unsafe_identity_key_is_refused(tmp_path: Path, mode: int, content: bytes, reason: str) -> None:
    """A key file that others can read, or that holds something else, stops the start and says what to do."""
    path = tmp_path / "cache.db"
    key = tmp_path / "cache.db.key"
    key.write_bytes(content)
    key.chmod(mode)
    async with SqliteStore.open(path, bytes_max=BYTES_MAX, clock=time.time) as store:
        with pytest.raises(ConfigError, match=reason) as caught:
            await store.identity_key()
    assert str(key) in str(caught.value)
    assert content == key.read_bytes()
