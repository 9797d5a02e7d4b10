"""Requests from a file of JSON lines: written down for `replay` and `warm`, an OpenAI batch, or an Envoy access log.

A line is a request where it has a `body`. Without one it only says that there was a request, as an access log does.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import orjson

from ai_cache_extproc.errors import AICacheError

STDIN = "-"
LINE_BYTES_MAX = 16 * 1024 * 1024
DEFAULT_PATH = "/v1/chat/completions"
_TIME_S_MAX = 1e11
"""Beyond the year 5000: such a number is in milliseconds."""

# By what our own format says, what others call it; the names of Envoy's own examples, and of the shipped files.
_NAMES: Mapping[str, tuple[str, ...]] = {
    "method": ("method", ":method", "request_method"),
    "path": ("path", "x-envoy-original-path", ":path", "url", "uri"),
    "authority": ("authority", ":authority", "host"),
    "route": ("route", "route_name"),
    "time_s": ("time_s", "start", "start_time", "timestamp", "time"),
    "status": ("status", "code", "response_code"),
    "key": ("key", "x-ai-cache-key"),
}


class BadLine(AICacheError):
    """A line that is no request. It is named by its number, never shown."""


@dataclass(frozen=True, slots=True)
class Requested:
    """One request. path: with its query. authority: empty where the line has none. headers: lower case. body: None, likewise.

    time_s: seconds since the epoch, None where it does not say. status, answer_headers: of the upstream's answer, 200 and
    nothing unless it says. key: what the log says of the entry, as `X-AI-Cache-Key`; logged: what it says that the cache did
    (the shipped files log the name only with a hit); empty where it does not.
    """

    method: str = "POST"
    path: str = DEFAULT_PATH
    authority: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    route: str = ""
    time_s: float | None = None
    status: int = 200
    answer_headers: Mapping[str, str] | None = None
    key: str = ""
    logged: str = ""


@contextmanager
def lines_of(file: Path) -> Iterator[Iterator[tuple[int, bytes]]]:
    """The lines of a file, or of standard input, with their numbers; empty ones are left out. Raises BadLine."""
    if str(file) == STDIN:
        yield _lines(sys.stdin.buffer)
        return
    try:
        with file.open("rb") as source:
            yield _lines(source)
    except OSError as error:
        raise BadLine(f'"{file}" cannot be read: {error.strerror or error}') from error


def _lines(source: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    number = 0
    while line := source.readline(LINE_BYTES_MAX):
        number += 1
        if line.strip():
            yield number, line


def requested(line: bytes, number: int, more_headers: Mapping[str, str]) -> Requested:
    """The request of a line. more_headers: for one that lacks them. Raises BadLine."""
    try:
        document = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise BadLine(f"line {number}: is no JSON") from error
    if not isinstance(document, dict):
        raise BadLine(f"line {number}: is no JSON object")
    try:
        return _request(document, more_headers)
    except (TypeError, ValueError) as error:
        raise BadLine(f"line {number}: {error}") from error


def _request(document: Mapping[str, Any], more_headers: Mapping[str, str]) -> Requested:
    cache = document.get("ai_cache")
    body = _body(document.get("body"))
    headers = {name.lower(): _text(value, "headers") for name, value in _object(document, "headers").items()}
    target = urlsplit(_text(_first(document, "path") or DEFAULT_PATH, "path"))
    path = target.path + (f"?{target.query}" if target.query else "")
    status = _first(document, "status")
    answer_headers = _object(document, "answer_headers")
    sent = {"content-type": "application/json"} if body is not None else {}
    return Requested(
        method=_text(_first(document, "method") or "POST", "method").upper(),
        path=path,
        authority=_text(_first(document, "authority") or headers.pop("host", "") or target.netloc, "authority"),
        headers=sent | dict(more_headers) | headers,
        body=body,
        route=_text(_first(document, "route") or "", "route"),
        time_s=_time_s(_first(document, "time_s")),
        status=_status(status),
        answer_headers={name.lower(): _text(value, "answer_headers") for name, value in answer_headers.items()} or None,
        key=_text(_first(document, "key") or "", "key"),
        logged=_text(cache.get("status") or "", "ai_cache") if isinstance(cache, Mapping) else "",
    )


def _first(document: Mapping[str, Any], meaning: str) -> object:
    """The first that is there; a dash is how access logs write nothing."""
    return next((document[name] for name in _NAMES[meaning] if document.get(name) not in (None, "", "-")), None)


def _object(document: Mapping[str, Any], name: str) -> Mapping[str, object]:
    value = document.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise TypeError(f"{name} is no object")
    return value


def _text(value: object, name: str) -> str:
    if isinstance(value, list):
        return ", ".join(_text(each, name) for each in value)
    if not isinstance(value, str):
        raise TypeError(f"{name} is no text")
    if not value.isprintable():
        raise ValueError(f"{name} has control characters")
    return value


def _body(value: object) -> bytes | None:
    """As text the body is taken as it is, to the byte; as JSON it is written as compactly as clients do."""
    if value is None:
        return None
    return value.encode() if isinstance(value, str) else orjson.dumps(value)


def _status(value: object) -> int:
    if value is None:
        return 200
    text = str(value)
    if not (text.isascii() and text.isdigit() and len(text) == 3):
        raise ValueError("status is no HTTP status")
    return int(text)


def _time_s(value: object) -> float | None:
    """Seconds since the epoch; a time without a zone is taken as UTC."""
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        if not 0 <= value <= _TIME_S_MAX:
            raise ValueError("its time is not in seconds since the epoch")
        return float(value)
    try:
        moment = datetime.fromisoformat(str(value))
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise ValueError("its time is neither seconds nor ISO 8601") from None
