"""The file of `aicache export`: a line of JSON that says whose entries these are, one for each of them, and one with the sum.

The values are stored values as they are, in Base64: encrypted where the store is. The sum is over every byte before its line.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import orjson

from ai_cache_extproc.errors import AICacheError

KIND = "aicache export"
FORMAT = 1
MODE = 0o600
LINE_BYTES_MAX = 20 * 1024 * 1024


class BadFile(AICacheError):
    """A file that cannot be read or written, or that is not what it should be."""


class Writer:
    """Writes the lines; `end` makes it whole."""

    def __init__(self, sink: IO[bytes], head: Mapping[str, object]) -> None:
        self.entries = 0
        self._sink = sink
        self._sum = hashlib.sha256()
        self._line({"kind": KIND, "format": FORMAT, **head})

    def add(self, entry: Mapping[str, object]) -> None:
        """One entry: its key, and its value."""
        self._line(entry)
        self.entries += 1

    def end(self) -> None:
        """Write the sum."""
        self._line({"entries": self.entries, "sha256": self._sum.hexdigest()})

    def _line(self, document: object) -> None:
        line = orjson.dumps(document) + b"\n"
        self._sum.update(line)
        self._sink.write(line)


@contextmanager
def writing(file: Path, *, replace: bool) -> Iterator[IO[bytes]]:
    """A file of this user alone, which stands there as a whole or not at all. Raises BadFile."""
    if file.exists() and not replace:
        raise BadFile(f'"{file}" is there already; name another file, or say --force')
    part = file.with_name(f"{file.name}.part-{os.getpid()}")
    try:
        # Its mode from the first byte on; nobody's link is followed.
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, MODE)
        try:
            with os.fdopen(descriptor, "wb") as sink:
                yield sink
                sink.flush()
                os.fsync(sink.fileno())
            part.replace(file)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise BadFile(f'"{file}" cannot be written: {error.strerror or error}') from error


def check_whole(source: IO[bytes], name: Path) -> tuple[dict[str, Any], int]:
    """What the first line says, and how many entries follow. Raises BadFile for a file that was cut or changed."""
    line, head = _head(source, name)
    sum_ = hashlib.sha256(line)
    for entries, line in enumerate(_lines(source, name)):
        document = _parsed(line, name, entries)
        if "sha256" in document:
            if document != {"entries": entries, "sha256": sum_.hexdigest()}:
                raise BadFile(f'"{name}" was changed since it was written: its sum does not agree')
            if source.read(1):
                raise BadFile(f'"{name}" goes on behind its last line')
            return head, entries
        sum_.update(line)
    raise BadFile(f'"{name}" was cut off: it has no last line')


def entries_of(source: IO[bytes], name: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """The entries of a file that was checked, from its beginning, each with its length."""
    source.seek(0)
    _head(source, name)
    for number, line in enumerate(_lines(source, name)):
        document = _parsed(line, name, number)
        if "sha256" in document:
            return
        yield document, len(line)


@contextmanager
def reading(file: Path) -> Iterator[IO[bytes]]:
    """Raises BadFile where it cannot be read."""
    try:
        with file.open("rb") as source:
            yield source
    except OSError as error:
        raise BadFile(f'"{file}" cannot be read: {error.strerror or error}') from error


def _head(source: IO[bytes], name: Path) -> tuple[bytes, dict[str, Any]]:
    line = source.readline(LINE_BYTES_MAX)
    try:
        head = orjson.loads(line)
    except orjson.JSONDecodeError:
        head = None
    if not isinstance(head, dict) or head.get("kind") != KIND:
        raise BadFile(f'"{name}" is no file of `aicache export`')
    if head.get("format") != FORMAT:
        raise BadFile(f'"{name}" has format {head.get("format")!r}; this version knows {FORMAT}')
    return line, head


def _lines(source: IO[bytes], name: Path) -> Iterator[bytes]:
    while line := source.readline(LINE_BYTES_MAX):
        if not line.endswith(b"\n"):
            raise BadFile(f'"{name}" was cut off: its last line has no end')
        yield line


def _parsed(line: bytes, name: Path, number: int) -> dict[str, Any]:
    try:
        document = orjson.loads(line)
    except orjson.JSONDecodeError:
        document = None
    # The head is line 1.
    if not isinstance(document, dict):
        raise BadFile(f'"{name}", line {number + 2}: is no JSON object')
    return document
