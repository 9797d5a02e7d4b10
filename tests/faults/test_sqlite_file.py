"""What a damaged, foreign, full or shared database file does to the store: a smaller cache at worst."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from ai_cache_extproc.cache.formats.native import Native
from ai_cache_extproc.clients import sqlite_file
from ai_cache_extproc.clients.sqlite import SqliteThread
from ai_cache_extproc.errors import BackendRejected, BackendTimeout, BackendUnavailable, ConfigError
from ai_cache_extproc.model import Captured, Entry, Identity, Mode
from ai_cache_extproc.stores import sqlite as module
from ai_cache_extproc.stores.sqlite import SqliteStore
from tests.faults.sqlite_child import value_of

KEYS = [f"key{number}" for number in range(150)]
GARBAGE = bytes(range(256)) * 64


class Clock:
    """Seconds, as a test sets them."""

    def __init__(self) -> None:
        self.now_s = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s


CLOCK = Clock()


async def fill(path: Path) -> None:
    """Put every key of `KEYS` into the file."""
    async with SqliteStore.open(path, bytes_max=1 << 26, clock=CLOCK) as store:
        for key in KEYS:
            await store.set(key, value_of(key), ttl_s=3600)


async def read(store: SqliteStore) -> dict[str, bytes | None]:
    """What each key of `KEYS` reads as."""
    return {key: await store.get(key) for key in KEYS}


def whole(values: dict[str, bytes | None]) -> int:
    """How many values are there; one that is not what was written fails the test."""
    wrong = [key for key, value in values.items() if value not in {None, value_of(key)}]
    assert [] == wrong
    return sum(value is not None for value in values.values())


async def use(path: Path) -> int:
    """Open the file, read what is whole, and prove that the store works; how many values were there."""
    async with SqliteStore.open(path, bytes_max=1 << 26, clock=CLOCK) as store:
        found = whole(await read(store))
        await store.set("proof", b"value", ttl_s=60)
        await store.check()
        assert b"value" == await store.get("proof")
        return found


def mode_of(path: Path) -> int:
    """The permission bits."""
    return stat.S_IMODE(path.stat().st_mode)


async def test_a_file_is_opened_again(tmp_path: Path) -> None:
    """What was stored is there for the next process."""
    await fill(tmp_path / "cache.db")
    assert len(KEYS) == await use(tmp_path / "cache.db")


@pytest.mark.parametrize(
    "garbage", [GARBAGE, b"short", b"SQLite format 3\x00" + GARBAGE], ids=["long", "short", "headed"]
)
async def test_garbage_is_set_aside(tmp_path: Path, garbage: bytes) -> None:
    """A file that is no database is renamed, a warning names it, and a fresh one is used."""
    path = tmp_path / "cache.db"
    path.write_bytes(garbage)
    for suffix in ("-wal", "-shm"):
        (tmp_path / f"cache.db{suffix}").write_bytes(garbage)
    with capture_logs() as logs:
        assert 0 == await use(path)
    assert garbage == (tmp_path / "cache.db.corrupt").read_bytes()
    assert [("warning", str(path))] == [(line["log_level"], line["path"]) for line in logs]
    assert logs[0]["reason"]


async def test_one_damaged_file_is_kept(tmp_path: Path) -> None:
    """The file set aside last takes the place of the one before."""
    path = tmp_path / "cache.db"
    for content in (b"first" * 1000, b"second" * 1000):
        path.write_bytes(content)
        await use(path)
    assert b"second" * 1000 == (tmp_path / "cache.db.corrupt").read_bytes()
    assert ["cache.db", "cache.db.corrupt"] == sorted(entry.name for entry in tmp_path.iterdir())


@pytest.mark.parametrize(
    "kept", [0, 1, 15, 16, 50, 99, 100, 512, 4095, 4096, 4097, 8192, 65_536, 200_000, -81_920, -4096]
)
async def test_a_truncated_file_is_survived(tmp_path: Path, kept: int) -> None:
    """A file cut anywhere opens, gives whole values or none, and works on. kept: below 0 counts from the end."""
    path = tmp_path / "cache.db"
    await fill(path)
    os.truncate(path, kept % path.stat().st_size)
    await use(path)
    assert len(KEYS) == await refill(path)


async def test_a_damaged_byte_inside_a_value_is_not_served(tmp_path: Path) -> None:
    """SQLite does not see damage inside a value; the entry's own checksum refuses it."""
    path, identity = tmp_path / "cache.db", Identity("key", bytes(32), "key:lease")
    captured = Captured(Mode.JSON, "application/json", b"x" * 20_000, created_s=0.0, expires_s=1.0, elapsed_s=0.0)
    entry = Entry("openai_chat", "m", "default", (captured,))
    async with SqliteStore.open(path, bytes_max=1 << 26, clock=CLOCK) as store:
        await store.set("key", Native().encode(entry, identity), ttl_s=3600)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"x" * 100, b"x" * 99 + b"y", 1))
    async with SqliteStore.open(path, bytes_max=1 << 26, clock=CLOCK) as store:
        value = await store.get("key")
    assert value is not None
    with pytest.raises(BackendRejected, match="wrong checksum"):
        Native().decode(value, identity)


async def refill(path: Path) -> int:
    """Fill the file once more; how many values are there afterwards."""
    await fill(path)
    return await use(path)


@pytest.mark.parametrize("page", range(1, 40, 3))
async def test_a_damaged_page_is_survived(tmp_path: Path, page: int) -> None:
    """Damage that opening does not see is found by the operation that meets it, which then works on a fresh file."""
    path = tmp_path / "cache.db"
    await fill(path)
    with path.open("r+b") as file:
        file.seek(page * 4096)
        file.write(GARBAGE[:4096])
    async with SqliteStore.open(path, bytes_max=1 << 26, clock=CLOCK) as store:
        # A page in the middle of a value cannot be told here: the entry's own checksum finds it (cache/formats).
        await read(store)
        for key in KEYS:
            await store.set(key, value_of(key), ttl_s=60)
        assert len(KEYS) == whole(await read(store))


async def test_damage_under_an_open_store_is_survived(tmp_path: Path) -> None:
    """A file that is overwritten while it is open is replaced by the operation that notices, once."""
    path = tmp_path / "cache.db"
    async with SqliteStore.open(path, bytes_max=1 << 26, clock=CLOCK) as store:
        for number in range(60):
            await store.set(f"large{number}", b"x" * 100_000, ttl_s=60)
        destroy(path)
        with capture_logs() as logs:
            seen = [await store.get(f"large{number}") for number in range(60)]
            await store.set("key", b"value", ttl_s=60)
        assert ["store_file_set_aside"] == [line["event"] for line in logs]
        assert None in seen
        assert b"value" == await store.get("key")


def destroy(path: Path) -> None:
    """Overwrite the whole file in place."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.write(b"\xa5" * size)


async def test_a_file_that_was_replaced_meanwhile_is_not_set_aside(tmp_path: Path) -> None:
    """Of two processes that meet the same damage one replaces the file, and the other goes over to the new one."""
    clock, path = Clock(), tmp_path / "cache.db"
    seen = []

    def meet_damage(connection: sqlite3.Connection) -> list[str]:
        seen.append(connection)
        if len(seen) == 1:
            raise damage()
        return [key for (key,) in connection.execute("SELECT key FROM entries")]

    async with SqliteThread.open(path, schema=module._SCHEMA, clock=clock) as thread:
        await thread.run("look", lambda _: None)
        path.rename(tmp_path / "cache.db.corrupt")
        async with SqliteStore.open(path, bytes_max=1 << 26, clock=clock) as other:
            await other.set("new", b"value", ttl_s=3600)
            assert ["new"] == await thread.run("get", meet_damage)


def damage() -> sqlite3.DatabaseError:
    """What SQLite raises when it meets damage."""
    error = sqlite3.DatabaseError("database disk image is malformed")
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


async def test_damage_again_at_once_is_left_alone(tmp_path: Path) -> None:
    """A file is replaced once in a minute: until then a damaged one is reported."""
    clock, path = Clock(), tmp_path / "cache.db"

    def meet_damage(_: sqlite3.Connection) -> None:
        raise damage()

    async with SqliteThread.open(path, schema=module._SCHEMA, clock=clock) as thread:
        for pause_s in (0, 59, 2):
            clock.now_s += pause_s
            with capture_logs() as logs, pytest.raises(BackendUnavailable, match="malformed"):
                await thread.run("get", meet_damage)
            assert int(pause_s != 59) == len(logs)
        await thread.run("check", lambda connection: connection.execute("SELECT * FROM entries").fetchall())


@pytest.mark.parametrize("what", ["removed", "replaced"])
async def test_a_moved_file_is_let_go(tmp_path: Path, what: str) -> None:
    """A store whose file was taken away or replaced under it goes over to what the path names."""
    clock, path = Clock(), tmp_path / "cache.db"
    async with SqliteThread.open(path, schema=module._SCHEMA, clock=clock) as thread:
        store = SqliteStore(thread, path=path, bytes_max=1 << 26, clock=clock)
        await store.set("old", b"value", ttl_s=3600)
        path.rename(tmp_path / "moved.db")
        if what == "replaced":
            async with SqliteStore.open(path, bytes_max=1 << 26, clock=clock) as other:
                await other.set("new", b"value", ttl_s=3600)
        clock.now_s += 2
        expected = b"value" if what == "replaced" else None
        assert (None, expected) == (await store.get("old"), await store.get("new"))
        await store.set("later", b"value", ttl_s=3600)
    async with SqliteStore.open(path, bytes_max=1 << 26, clock=clock) as again:
        assert (expected, b"value") == (await again.get("new"), await again.get("later"))


async def test_a_store_that_cannot_reopen_recovers(tmp_path: Path) -> None:
    """While the path is in the way operations fail quickly; they work again when it is free."""
    clock, path = Clock(), tmp_path / "state" / "cache.db"
    async with SqliteThread.open(path, schema=module._SCHEMA, clock=clock) as thread:
        store = SqliteStore(thread, path=path, bytes_max=1 << 26, clock=clock)
        path.parent.rename(tmp_path / "elsewhere")
        path.parent.write_bytes(b"in the way")
        clock.now_s += 2
        with pytest.raises(BackendUnavailable, match="Not a directory"):
            await store.get("key")
        path.parent.unlink()
        with pytest.raises(BackendUnavailable, match="a moment ago"):
            await store.get("key")
        clock.now_s += 2
        assert await store.get("key") is None


async def test_one_process_at_a_time_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening waits for another process that is opening or replacing the file, but not for ever."""
    monkeypatch.setattr(sqlite_file, "_LOCK_PAUSE_S", 0.001)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(BackendUnavailable, match="Resource temporarily unavailable"):
            await use(tmp_path / "cache.db")
        opening = asyncio.ensure_future(use(tmp_path / "cache.db"))
        await asyncio.sleep(0.01)
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        assert 0 == await opening
    finally:
        os.close(descriptor)


async def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    """A database that is not ours is refused and not changed by a byte."""
    path = tmp_path / "theirs.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (value)")
        connection.commit()
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=r"theirs\.db is the database of another program"):
        await use(path)
    assert before == path.read_bytes()


async def test_another_schema_version_is_set_aside(tmp_path: Path) -> None:
    """A file of a schema that this program does not read is a cold start, not a failure."""
    path = tmp_path / "cache.db"
    await fill(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with capture_logs() as logs:
        assert 0 == await use(path)
    assert ["schema version 99, not 1"] == [line["reason"] for line in logs]


async def test_a_directory_is_refused(tmp_path: Path) -> None:
    """A path that names a directory is a mistake in the configuration."""
    with pytest.raises(ConfigError, match=r"store\.path: .* is a directory; name a file"):
        await use(tmp_path)


async def test_a_symbolic_link_is_followed(tmp_path: Path) -> None:
    """A damaged file behind a link is set aside where it is, and the link stays."""
    (tmp_path / "volume").mkdir()
    link, target = tmp_path / "cache.db", tmp_path / "volume" / "target.db"
    target.write_bytes(GARBAGE)
    link.symlink_to(target)
    await use(link)
    assert link.is_symlink()
    assert GARBAGE == (tmp_path / "volume" / "target.db.corrupt").read_bytes()


async def test_files_are_private(tmp_path: Path) -> None:
    """Whatever the umask, nobody else may read the files or enter the directories made for them."""
    previous = os.umask(0)
    try:
        path = tmp_path / "state" / "aicache" / "cache.db"
        async with SqliteStore.open(path, bytes_max=1 << 26, clock=CLOCK) as store:
            await store.set("key", b"value", ttl_s=60)
            await store.identity_key()
            modes = {entry.name: mode_of(entry) for entry in path.parent.iterdir()}
    finally:
        os.umask(previous)
    assert dict.fromkeys(("cache.db", "cache.db-wal", "cache.db-shm", "cache.db.key"), 0o600) == modes
    assert [0o700, 0o700] == [mode_of(tmp_path / "state"), mode_of(path.parent)]


async def test_a_file_open_to_others_is_narrowed(tmp_path: Path) -> None:
    """A file that others may read is closed to them at start."""
    path = tmp_path / "cache.db"
    await fill(path)
    path.chmod(0o644)
    assert len(KEYS) == await use(path)
    assert 0o600 == mode_of(path)


async def test_a_locked_file_is_a_timeout(tmp_path: Path) -> None:
    """While another process writes, reads go on and writes give up soon."""
    path = tmp_path / "cache.db"
    async with SqliteStore.open(path, bytes_max=1 << 26, clock=CLOCK) as store:
        await store.set("key", b"value", ttl_s=60)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(BackendTimeout, match="locked"):
                await store.set("key", b"other", ttl_s=60)
            assert b"value" == await store.get("key")
            other.execute("ROLLBACK")
        await store.set("key", b"other", ttl_s=60)
        assert b"other" == await store.get("key")


async def test_a_full_disk_leaves_what_is_stored(tmp_path: Path) -> None:
    """When the file cannot grow, writes are refused and reads go on; with room again so do writes."""
    async with SqliteStore.open(tmp_path / "cache.db", bytes_max=1 << 26, clock=CLOCK) as store:
        await store.set("key", b"value", ttl_s=60)
        await store._thread.run("test", lambda connection: connection.execute("PRAGMA max_page_count = 20").fetchone())
        with pytest.raises(BackendUnavailable, match="full"):
            await store.set("large", b"x" * 500_000, ttl_s=60)
        assert (b"value", None) == (await store.get("key"), await store.get("large"))
        await store._thread.run(
            "test", lambda connection: connection.execute("PRAGMA max_page_count = 9999").fetchone()
        )
        await store.set("large", b"x" * 500_000, ttl_s=60)
        assert 500_000 == len(await store.get("large") or b"")


async def test_the_journal_stays_small(tmp_path: Path) -> None:
    """However much is written, the write-ahead log is cut back."""
    path = tmp_path / "cache.db"
    async with SqliteStore.open(path, bytes_max=1 << 22, clock=CLOCK) as store:
        for number in range(100):
            await store.set(f"key{number}", b"x" * 300_000, ttl_s=60)
        assert (tmp_path / "cache.db-wal").stat().st_size <= 16 << 20
    assert ["cache.db"] == [entry.name for entry in tmp_path.iterdir()]
    assert path.stat().st_size <= (1 << 22) + (1 << 20)


async def test_a_lower_bound_takes_hold(tmp_path: Path) -> None:
    """A file that is larger than a bound set later shrinks in use with the first write."""
    path = tmp_path / "cache.db"
    await fill(path)
    async with SqliteStore.open(path, bytes_max=1 << 19, clock=CLOCK) as store:
        assert (await store.stats()).bytes > 1 << 19
        await store.set("key", b"value", ttl_s=60)
        assert (await store.stats()).bytes <= 1 << 19
        assert b"value" == await store.get("key")
