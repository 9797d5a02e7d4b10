"""The database file: made private, opened, and set aside when it is damaged.

Everything here blocks; it runs in the connection's own thread (`clients/sqlite.py`) and nowhere else.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from ai_cache_extproc.errors import ConfigError

log = structlog.get_logger()

_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_PRIVATE = 0o600
_JOURNAL_BYTES_MAX = 8 * 1024 * 1024
_LOCK_ATTEMPTS = 100
_LOCK_PAUSE_S = 0.02


class OtherVersion(sqlite3.DatabaseError):
    """The file is ours, of a schema that this program does not read."""


@dataclass(frozen=True, slots=True)
class Schema:
    """What the file holds. application_id says whose file it is; version, which tables; statements create them."""

    application_id: int
    version: int
    statements: tuple[str, ...]


def primary_code(error: sqlite3.Error) -> int:
    """SQLite's primary result code of an error; -1 for one that Python's module raised by itself."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return -1 if code is None else code & 0xFF


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file itself is at fault, so that only another file helps."""
    return isinstance(error, OtherVersion) or primary_code(error) in _DAMAGE


class SqliteFile:
    """One database path and the file that was opened under it."""

    def __init__(self, path: Path, *, schema: Schema, busy_timeout_ms: int) -> None:
        self.path = path
        self._schema = schema
        self._busy_timeout_ms = busy_timeout_ms
        self._opened: tuple[int, int] | None = None

    def open(self) -> sqlite3.Connection:
        """Open the file, made anew where it is missing or damaged.

        Raises ConfigError for a path that holds something else; OSError or sqlite3.Error for one that does not work.
        """
        # SQLite follows a symbolic link and keeps `-wal` and `-shm` beside what it points to.
        self.path = self.path.resolve()
        with self._alone():
            try:
                return self._connect()
            except sqlite3.DatabaseError as error:
                if not is_damage(error):
                    raise
                self._rename(str(error))
            return self._connect()

    def set_aside(self, reason: str) -> None:
        """Rename the file that was opened to `.corrupt`; the connection must be closed.

        A file that another process has put in its place meanwhile is left alone.
        """
        with self._alone():
            if not self.moved():
                self._rename(reason)

    def moved(self) -> bool:
        """Whether the path names another file than the one opened, or none."""
        try:
            return _inode(self.path) != self._opened
        except OSError:
            return True

    def _beside(self, suffix: str) -> Path:
        return self.path.with_name(self.path.name + suffix)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time opens or renames: SQLite refuses the change to WAL while another opens the file."""
        _make_directory(self.path.parent)
        descriptor = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for attempt in range(_LOCK_ATTEMPTS):
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if attempt + 1 == _LOCK_ATTEMPTS:
                        raise
                    time.sleep(_LOCK_PAUSE_S)
            yield
        finally:
            os.close(descriptor)

    def _connect(self) -> sqlite3.Connection:
        self._make_private()
        connection = sqlite3.connect(self.path, timeout=self._busy_timeout_ms / 1000, isolation_level=None)
        try:
            self._recognise(connection)
            self._prepare(connection)
            self._opened = _inode(self.path)
        except BaseException:
            connection.close()
            raise
        return connection

    def _make_private(self) -> None:
        """Create the file with mode 0600, or narrow what is there: SQLite gives `-wal` and `-shm` the file's mode."""
        if self.path.is_dir():
            raise ConfigError("store.path", f"{self.path} is a directory; name a file")
        try:
            # Only a file that nobody has open: closing any descriptor of it drops SQLite's own locks (POSIX).
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _PRIVATE))
        except FileExistsError:
            for path in (self.path, self._beside("-wal"), self._beside("-shm")):
                _narrow(path)

    def _recognise(self, connection: sqlite3.Connection) -> None:
        """Raise before anything is changed in a file that is not ours."""
        owner = _pragma(connection, "application_id")
        if owner == self._schema.application_id:
            version = _pragma(connection, "user_version")
            if version != self._schema.version:
                raise OtherVersion(f"schema version {version}, not {self._schema.version}")
        elif owner != 0 or connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
            raise ConfigError("store.path", f"{self.path} is the database of another program; name another file")

    def _prepare(self, connection: sqlite3.Connection) -> None:
        # No mmap_size: a file that is truncated while it is mapped ends the process with SIGBUS.
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise sqlite3.OperationalError(f"the file system of {self.path} cannot do write-ahead logging")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA journal_size_limit = {_JOURNAL_BYTES_MAX}")
        connection.execute("PRAGMA cell_size_check = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
        with transaction(connection):
            for statement in self._schema.statements:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {self._schema.application_id}")
            connection.execute(f"PRAGMA user_version = {self._schema.version}")

    def _rename(self, reason: str) -> None:
        aside = self._beside(".corrupt")
        self.path.replace(aside)
        for suffix in ("-wal", "-shm"):
            self._beside(suffix).unlink(missing_ok=True)
        log.warning("store_file_set_aside", path=str(self.path), aside=str(aside), reason=reason)


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing, with the write lock taken at once, so that it is not refused halfway."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def keep_secret(path: Path, made: bytes) -> bytes:
    """The secret in the file at `path`; `made` is put there if there is none. The first process to come decides.

    Raises ConfigError if the file is open to others or of another length; OSError if it cannot be read or made.
    """
    if not path.exists():
        _make_directory(path.parent)
        fresh = path.with_name(f"{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
        try:
            _write_synced(fresh, made)
            # A link, and not a rename: it fails where the file is there already.
            os.link(fresh, path)
        except FileExistsError:
            pass
        finally:
            fresh.unlink(missing_ok=True)
    return _read_secret(path, len(made))


def _read_secret(path: Path, length: int) -> bytes:
    with path.open("rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        secret = file.read(length + 1)
    if mode & 0o077:
        raise ConfigError("identity", f"{path} has mode {mode:04o}, so that others can read it; chmod 600 it")
    if len(secret) != length:
        raise ConfigError("identity", f"{path} does not hold {length} bytes; delete it (this empties the cache)")
    return secret


def _write_synced(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _PRIVATE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)


def _make_directory(directory: Path) -> None:
    """Make a directory and those above it, each closed to others; what is there already is left as it is."""
    missing = []
    while not directory.exists():
        missing.append(directory)
        directory = directory.parent
    for path in reversed(missing):
        path.mkdir(mode=0o700, exist_ok=True)


def _narrow(path: Path) -> None:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return
    if mode & 0o077:
        path.chmod(_PRIVATE)


def _inode(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    value: int = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return value
