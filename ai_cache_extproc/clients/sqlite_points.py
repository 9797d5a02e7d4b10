"""The points of the embedded index in the store's own database file: loaded at start, written behind the answer.

Every job runs in the connection's thread. The table is made where it is missing, as a damaged file may have been
replaced by an empty one at any time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from ai_cache_extproc.clients.sqlite import SqliteThread
from ai_cache_extproc.clients.sqlite_file import transaction

_STATEMENTS = (
    """CREATE TABLE IF NOT EXISTS points (
        number INTEGER PRIMARY KEY, embedder TEXT NOT NULL, id TEXT NOT NULL, partition TEXT NOT NULL,
        key TEXT NOT NULL, created_s REAL NOT NULL, expires_s REAL NOT NULL, payload BLOB NOT NULL,
        vector BLOB NOT NULL, UNIQUE (embedder, id)
    )""",
    "CREATE INDEX IF NOT EXISTS points_expires ON points (expires_s)",
)
# The `+` keeps SQLite from going through an index, and sorting all of it for every batch.
_READ = """
    SELECT number, id, partition, key, created_s, expires_s, payload, vector FROM points
    WHERE number > ? AND +embedder = ? AND +expires_s > ? ORDER BY number LIMIT ?
"""
_WRITE = """
    INSERT OR REPLACE INTO points (embedder, id, partition, key, created_s, expires_s, payload, vector)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""


@dataclass(frozen=True, slots=True)
class StoredPoint:
    """A row. number grows with every write. vector: little-endian float32."""

    number: int
    id: str
    partition: str
    key: str
    created_s: float
    expires_s: float
    payload: bytes
    vector: bytes


class PointsFile:
    """The rows of one embedder. Every method raises BackendError."""

    def __init__(self, thread: SqliteThread, *, embedder: str) -> None:
        """embedder: a short digest of its identity."""
        self._thread = thread
        self._embedder = embedder

    async def read(self, after: int, *, now_s: float, rows_max: int) -> list[StoredPoint]:
        """Rows written after the one of this number, oldest first."""

        def read(connection: sqlite3.Connection) -> list[StoredPoint]:
            _make(connection)
            rows = connection.execute(_READ, (after, self._embedder, now_s, rows_max))
            return [StoredPoint(*row) for row in rows]

        return await self._thread.run("read_points", read)

    async def changes(self) -> int:
        """A number that is another one once somebody else has written to the file (SQLite, PRAGMA data_version)."""

        def changes(connection: sqlite3.Connection) -> int:
            version: int = connection.execute("PRAGMA data_version").fetchone()[0]
            return version

        return await self._thread.run("look_for_points", changes)

    async def write(self, rows: Sequence[StoredPoint], *, removed: Sequence[str] = ()) -> None:
        """Add rows, whose numbers do not count, and remove others by their ids, all or nothing."""

        def write(connection: sqlite3.Connection) -> None:
            with transaction(connection):
                _make(connection)
                self._remove(connection, removed)
                connection.executemany(
                    _WRITE,
                    (
                        (
                            self._embedder,
                            row.id,
                            row.partition,
                            row.key,
                            row.created_s,
                            row.expires_s,
                            row.payload,
                            row.vector,
                        )
                        for row in rows
                    ),
                )

        await self._thread.run("write_points", write)

    async def remove_expired(self, now_s: float, *, rows_max: int) -> int:
        """Remove rows past their lifetime, of other embedders too; how many."""

        def remove(connection: sqlite3.Connection) -> int:
            with transaction(connection):
                _make(connection)
                return connection.execute(
                    "DELETE FROM points WHERE number IN (SELECT number FROM points WHERE expires_s <= ? LIMIT ?)",
                    (now_s, rows_max),
                ).rowcount

        return await self._thread.run("expire_points", remove)

    async def clear(self) -> None:
        """Remove all rows."""

        def clear(connection: sqlite3.Connection) -> None:
            with transaction(connection):
                _make(connection)
                connection.execute("DELETE FROM points WHERE embedder = ?", (self._embedder,))

        await self._thread.run("clear_points", clear)

    def _remove(self, connection: sqlite3.Connection, ids: Sequence[str]) -> None:
        connection.executemany(
            "DELETE FROM points WHERE embedder = ? AND id = ?", ((self._embedder, point_id) for point_id in ids)
        )


def _make(connection: sqlite3.Connection) -> None:
    for statement in _STATEMENTS:
        connection.execute(statement)
