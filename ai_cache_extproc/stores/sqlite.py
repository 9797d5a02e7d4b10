"""Entries in one SQLite file, which the processes of one machine may share.

The bound is on pages in use, as the file itself counts them, so that it holds whoever writes.
"""

from __future__ import annotations

import math
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from ai_cache_extproc.clients.sqlite import SqliteThread
from ai_cache_extproc.clients.sqlite_file import Schema, keep_secret, transaction
from ai_cache_extproc.errors import BackendRejected, ConfigError
from ai_cache_extproc.stores.base import Claim, Scan, StoreStats

# `id` grows with every write, so its order is the order of writing. A key beside a rowid costs a second tree, and is
# still two to four times cheaper than values inside the tree of keys (docs/decisions/0004-sqlite-store.md).
_SCHEMA = Schema(
    application_id=0x41494361,
    version=1,
    statements=(
        """CREATE TABLE IF NOT EXISTS entries (
            id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, expires_s REAL NOT NULL, value BLOB NOT NULL
        )""",
        "CREATE INDEX IF NOT EXISTS entries_expires ON entries (expires_s)",
        """CREATE TABLE IF NOT EXISTS leases (
            key TEXT PRIMARY KEY, holder BLOB NOT NULL, expires_s REAL NOT NULL
        ) WITHOUT ROWID""",
        "CREATE TABLE IF NOT EXISTS marks (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    ),
)

_READ = "SELECT value FROM entries WHERE key = ? AND expires_s > ?"
_SCAN = "SELECT id, key, expires_s FROM entries WHERE id > ? ORDER BY id LIMIT ?"
_READ_MARK = "SELECT value FROM marks WHERE name = ?"

# Of leases that have expired, some are removed with every claim, so that they never pile up.
_CLEAN_LEASES = "DELETE FROM leases WHERE key IN (SELECT key FROM leases WHERE expires_s <= ? LIMIT 16)"
_CLAIM_LEASE = """
    INSERT INTO leases (key, holder, expires_s) VALUES (?, ?, ?)
    ON CONFLICT (key) DO UPDATE SET holder = excluded.holder, expires_s = excluded.expires_s
    WHERE leases.holder = excluded.holder OR leases.expires_s <= ?
"""
_REFUSED = b"refused"

_IDENTITY_KEY_BYTES = 32
_PAGE_BYTES = 4096
# Beyond the value itself a write may split a page on each level of three trees.
_SPARE_PAGES = 8
_EXPIRED_ROWS = 16
_OLDEST_ROWS = 64


def default_path(environ: Mapping[str, str]) -> Path:
    """Where the file is kept unless someone says otherwise (XDG Base Directory Specification: state)."""
    state, home = Path(environ.get("XDG_STATE_HOME", "")), Path(environ.get("HOME", ""))
    # "All paths set in these environment variables must be absolute"; a relative one is to be ignored.
    if not state.is_absolute():
        if not home.is_absolute():
            raise ConfigError("store.path", "neither XDG_STATE_HOME nor HOME is set; name a file")
        state = home / ".local" / "state"
    return state / "aicache" / "cache.db"


def key_path(path: Path) -> Path:
    """Where the identity key of the database at `path` is kept."""
    return path.with_name(path.name + ".key")


class SqliteStore:
    """A Store, KeyKeeper, LeaseKeeper, MarkKeeper and Scanning; the identity key stands beside the database, in `<path>.key`."""

    name = "sqlite"

    def __init__(self, thread: SqliteThread, *, path: Path, bytes_max: int, clock: Callable[[], float]) -> None:
        self._thread = thread
        self._path = path
        self._bytes_max = bytes_max
        self._clock = clock

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path, *, bytes_max: int, clock: Callable[[], float]) -> AsyncIterator[SqliteStore]:
        """Open the file, made where it is missing, with the directories above it; a damaged one is set aside.

        clock: seconds since the epoch. Raises ConfigError or BackendError if the path cannot be used.
        """
        async with SqliteThread.open(path, schema=_SCHEMA) as thread:
            yield cls(thread, path=path, bytes_max=bytes_max, clock=clock)

    @property
    def thread(self) -> SqliteThread:
        """Where jobs on the file run, those of the embedded index too."""
        return self._thread

    async def get(self, key: str) -> bytes | None:
        """The value, or None when it is absent or past its lifetime."""
        now_s = self._clock()
        return await self._thread.run("get", lambda connection: _value(connection, _READ, key, now_s))

    async def set(self, key: str, value: bytes, *, ttl_s: float) -> None:
        """Put a value in place of any other; expired values make room, then the oldest written."""
        needed_bytes = (len(value) // _PAGE_BYTES + _SPARE_PAGES) * _PAGE_BYTES
        if needed_bytes > self._bytes_max:
            raise BackendRejected(self.name, "set", f"{len(value)} bytes are over the bound of {self._bytes_max}")
        now_s = self._clock()

        def put(connection: sqlite3.Connection) -> bool:
            with transaction(connection):
                room = _make_room(connection, needed_bytes, bytes_max=self._bytes_max, now_s=now_s)
                if room:
                    _write(connection, key, value, expires_s=now_s + ttl_s)
            return room

        # Room is made in batches, each a job of its own, so that reads get their turn in between.
        while not await self._thread.run("set", put):
            pass

    async def delete(self, key: str) -> bool:
        """Remove a value; true if there was one."""
        now_s = self._clock()
        return await self._thread.run("delete", lambda connection: _remove(connection, key, now_s))

    async def get_with_mark(self, key: str, mark: str) -> tuple[bytes | None, bytes | None]:
        """Both in one hand-over, the mark last."""
        now_s = self._clock()
        return await self._thread.run(
            "get",
            lambda connection: (_value(connection, _READ, key, now_s), _value(connection, _READ_MARK, mark)),
        )

    async def mark(self, mark: str) -> bytes | None:
        """The mark of that name."""
        return await self._thread.run("mark", lambda connection: _value(connection, _READ_MARK, mark))

    async def change_mark(self, mark: str, old: bytes | None, new: bytes) -> bool:
        """Put `new` in the place of `old`; false if something else stands there."""

        def change(connection: sqlite3.Connection) -> bool:
            with transaction(connection):
                if _value(connection, _READ_MARK, mark) != old:
                    return False
                connection.execute("INSERT OR REPLACE INTO marks (name, value) VALUES (?, ?)", (mark, new))
            return True

        return await self._thread.run("change_mark", change)

    async def scan(self, prefix: str, *, cursor: str, count: int) -> Scan:
        """Keys in the order in which they were written. Raises ValueError for a cursor that is no number."""
        now_s, after = self._clock(), int(cursor or -1)
        rows = await self._thread.run("scan", lambda connection: connection.execute(_SCAN, (after, count)).fetchall())
        keys = (key for _, key, expires_s in rows if expires_s > now_s and key.startswith(prefix))
        return Scan(tuple(keys), str(rows[-1][0]) if len(rows) == count else "")

    async def heads(self, keys: Sequence[str], *, bytes_max: int) -> list[bytes]:
        """The first bytes of the values, the rest of which is not read."""
        return await self._thread.run("heads", lambda connection: [_head(connection, key, bytes_max) for key in keys])

    async def claim_lease(self, key: str, holder: bytes, *, ttl_s: float) -> Claim:
        """A row that is absent, expired or ours already is ours."""
        now_s = self._clock()

        def claim(connection: sqlite3.Connection) -> Claim:
            with transaction(connection):
                connection.execute(_CLEAN_LEASES, (now_s,))
                if connection.execute(_CLAIM_LEASE, (key, holder, now_s + ttl_s, now_s)).rowcount:
                    return Claim.TAKEN
                (found,) = connection.execute("SELECT holder FROM leases WHERE key = ?", (key,)).fetchone()
            return Claim.REFUSED if found == _REFUSED else Claim.HELD

        return await self._thread.run("claim_lease", claim)

    async def release_lease(self, key: str, holder: bytes) -> None:
        """Remove the row, if it is still ours."""

        def release(connection: sqlite3.Connection) -> None:
            with transaction(connection):
                connection.execute("DELETE FROM leases WHERE key = ? AND holder = ?", (key, holder))

        await self._thread.run("release_lease", release)

    async def refuse_lease(self, key: str, *, ttl_s: float) -> None:
        """Put a mark in the row's place."""
        expires_s = self._clock() + ttl_s

        def refuse(connection: sqlite3.Connection) -> None:
            with transaction(connection):
                connection.execute("INSERT OR REPLACE INTO leases VALUES (?, ?, ?)", (key, _REFUSED, expires_s))

        await self._thread.run("refuse_lease", refuse)

    async def check(self) -> None:
        """Return if the file can be read at this moment."""
        await self._thread.run("check", lambda connection: _count(connection, math.inf))

    async def stats(self) -> StoreStats:
        """Count the values inside their lifetime, and all pages in use."""
        now_s = self._clock()
        entries, used_bytes = await self._thread.run(
            "stats", lambda connection: (_count(connection, now_s), _used_bytes(connection))
        )
        return StoreStats(entries=entries, bytes=used_bytes, bytes_max=self._bytes_max)

    async def identity_key(self, proposed: bytes | None = None) -> bytes:
        """The key in `<path>.key`, made by the first process that asks. Raises ConfigError if the file is not safe."""
        path, made = key_path(self._path), proposed or os.urandom(_IDENTITY_KEY_BYTES)
        return await self._thread.run("identity_key", lambda _: keep_secret(path, made))


def _value(connection: sqlite3.Connection, statement: str, *arguments: object) -> bytes | None:
    row = connection.execute(statement, arguments).fetchone()
    return None if row is None else row[0]


def _head(connection: sqlite3.Connection, key: str, bytes_max: int) -> bytes:
    row = connection.execute("SELECT id FROM entries WHERE key = ?", (key,)).fetchone()
    if row is None:
        return b""
    # substr() would read all of a value first.
    with connection.blobopen("entries", "value", row[0], readonly=True) as value:
        return value.read(bytes_max)


def _write(connection: sqlite3.Connection, key: str, value: bytes, *, expires_s: float) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO entries (key, expires_s, value) VALUES (?, ?, ?)", (key, expires_s, value)
    )


def _remove(connection: sqlite3.Connection, key: str, now_s: float) -> bool:
    with transaction(connection):
        connection.execute("DELETE FROM entries WHERE key = ? AND expires_s <= ?", (key, now_s))
        return connection.execute("DELETE FROM entries WHERE key = ?", (key,)).rowcount > 0


def _count(connection: sqlite3.Connection, now_s: float) -> int:
    count: int = connection.execute("SELECT count(*) FROM entries WHERE expires_s > ?", (now_s,)).fetchone()[0]
    return count


def _make_room(connection: sqlite3.Connection, needed_bytes: int, *, bytes_max: int, now_s: float) -> bool:
    """Remove one batch at most; true if there is room then. A batch removes something, or raises BackendRejected."""
    removed = connection.execute(
        "DELETE FROM entries WHERE id IN (SELECT id FROM entries WHERE expires_s <= ? ORDER BY expires_s LIMIT ?)",
        (now_s, _EXPIRED_ROWS),
    ).rowcount
    lacking_bytes = _used_bytes(connection) + needed_bytes - bytes_max
    if lacking_bytes <= 0:
        return True
    if removed < _EXPIRED_ROWS:
        removed += _remove_oldest(connection, lacking_bytes)
    if removed == 0:
        raise BackendRejected("sqlite", "set", "no entry is left to make room")
    return _used_bytes(connection) + needed_bytes <= bytes_max


def _remove_oldest(connection: sqlite3.Connection, lacking_bytes: int) -> int:
    oldest = connection.execute("SELECT id, length(value) FROM entries ORDER BY id LIMIT ?", (_OLDEST_ROWS,)).fetchall()
    through = -1
    for through, value_bytes in oldest:  # noqa: B007  # the last one reached is what counts
        lacking_bytes -= value_bytes
        if lacking_bytes <= 0:
            break
    return connection.execute("DELETE FROM entries WHERE id <= ?", (through,)).rowcount


def _used_bytes(connection: sqlite3.Connection) -> int:
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
    used: int = (pages - free) * page_bytes
    return used
