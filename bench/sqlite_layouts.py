"""Which table suits values of some kilobytes: a rowid table or one without, and with which page size.

Run: python -m bench.sqlite_layouts
"""

from __future__ import annotations

import os
import random
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

_FAR_S = 1e9
_BATCH = 16


@dataclass(frozen=True, slots=True)
class Layout:
    """A table under trial."""

    name: str
    statements: tuple[str, ...]
    insert: str
    evict: str


_EXPIRES = "CREATE INDEX by_expiry ON entries (expires_s)"

ROWID = Layout(
    "rowid",
    (
        "CREATE TABLE entries (id INTEGER PRIMARY KEY, key TEXT UNIQUE, expires_s REAL, value BLOB)",
        _EXPIRES,
    ),
    "INSERT OR REPLACE INTO entries (key, expires_s, value) VALUES (:key, :expires_s, :value)",
    "DELETE FROM entries WHERE id IN (SELECT id FROM entries ORDER BY id LIMIT :batch)",
)
WITHOUT_ROWID = Layout(
    "without rowid",
    (
        "CREATE TABLE entries (key TEXT PRIMARY KEY, expires_s REAL, written_s REAL, value BLOB) WITHOUT ROWID",
        "CREATE INDEX by_writing ON entries (written_s)",
        _EXPIRES,
    ),
    "INSERT OR REPLACE INTO entries (key, expires_s, written_s, value) VALUES (:key, :expires_s, :written_s, :value)",
    "DELETE FROM entries WHERE key IN (SELECT key FROM entries ORDER BY written_s LIMIT :batch)",
)


def _cpu_us(times: int, work: Iterable[Callable[[], object]]) -> float:
    start_s = time.process_time()
    for step in work:
        step()
    return (time.process_time() - start_s) / times * 1e6


def _row(connection: sqlite3.Connection, read: str, key: str) -> object:
    return connection.execute(read, (key, 0.0)).fetchone()


def _measure(layout: Layout, connection: sqlite3.Connection, *, value_bytes: int, count: int) -> str:
    value = os.urandom(value_bytes)
    keys = [f"aicache:0:{os.urandom(8).hex()}:{os.urandom(32).hex()}" for _ in range(count)]
    rows = [
        {"key": key, "expires_s": _FAR_S + turn, "written_s": turn, "value": value} for turn, key in enumerate(keys)
    ]
    set_us = _cpu_us(count, (partial(connection.execute, layout.insert, row) for row in rows))
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
    random.shuffle(keys)
    read = "SELECT value FROM entries WHERE key = ? AND expires_s > ?"
    get_us = _cpu_us(count, (partial(_row, connection, read, key) for key in keys))
    batches = count // 4 // _BATCH
    evict_us = _cpu_us(batches * _BATCH, [partial(connection.execute, layout.evict, {"batch": _BATCH})] * batches)
    used = pages * page_bytes / (count * value_bytes)
    return f"set {set_us:6.1f}  get {get_us:6.1f}  evict {evict_us:6.1f} us CPU  file {used:.2f} x values"


def _main() -> None:
    for value_bytes, count in ((1_500, 20_000), (6_000, 10_000), (60_000, 1_500)):
        for page_bytes in (4096, 8192, 16384):
            for layout in (ROWID, WITHOUT_ROWID):
                with tempfile.TemporaryDirectory() as directory:
                    path = Path(directory) / "cache.db"
                    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
                        connection.execute(f"PRAGMA page_size = {page_bytes}")
                        connection.execute("PRAGMA journal_mode = WAL")
                        connection.execute("PRAGMA synchronous = NORMAL")
                        for statement in layout.statements:
                            connection.execute(statement)
                        figures = _measure(layout, connection, value_bytes=value_bytes, count=count)
                print(f"{value_bytes:6} B  page {page_bytes:5}  {layout.name:13}  {figures}")


if __name__ == "__main__":
    _main()
