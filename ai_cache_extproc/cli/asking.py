"""Asks the admin address of a running sidecar. The standard library does: the tools need no HTTP client of their own."""

from __future__ import annotations

import http.client
import socket
from pathlib import Path
from typing import Any

import orjson

from ai_cache_extproc.config.addresses import Address, UnixAddress, parse_address
from ai_cache_extproc.errors import AICacheError, ConfigError

TIMEOUT_S = 5.0
_REFUSALS = frozenset({400, 401, 403, 404, 409, 413, 421, 503})


class NoSidecar(AICacheError):
    """Nobody answers there, or not as a sidecar does."""


class Refused(AICacheError):
    """The sidecar does not do what it was asked. document: what it said."""

    def __init__(self, document: dict[str, Any], reason: str) -> None:
        super().__init__(reason)
        self.document = document


def ask(
    address: str, path: str, *, token_file: Path | None = None, body: object | None = None, timeout_s: float = TIMEOUT_S
) -> dict[str, Any]:
    """The JSON document at `path`; with a body, what a POST answers.

    Raises ConfigError for what is no address and no token, NoSidecar where none answers, Refused where it says no.
    """
    headers = _authorized(token_file)
    connection = _connection(parse_address(address, "--admin"), timeout_s)
    try:
        if body is None:
            connection.request("GET", path, headers=headers)
        else:
            connection.request("POST", path, orjson.dumps(body), {**headers, "content-type": "application/json"})
        response = connection.getresponse()
        content = response.read()
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        way_out = "start one with `aicache serve`, or name its address with --admin"
        raise NoSidecar(f"no sidecar answers at {address} ({reason}); {way_out}") from error
    finally:
        connection.close()
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError:
        document = None
    if response.status in _REFUSALS and isinstance(document, dict) and "error" in document:
        raise Refused(document, f"{address}: {document['error']}")
    if response.status != 200 or not isinstance(document, dict):
        raise NoSidecar(f"what answers at {address} is no sidecar's admin address ({path}: {response.status})")
    return document


def fetch(address: str, path: str, *, token_file: Path | None = None) -> tuple[int, bytes]:
    """Status and content at `path`, whatever they are. Raises ConfigError for what is no address, OSError where none answers."""
    connection = _connection(parse_address(address, "--admin"), TIMEOUT_S)
    try:
        connection.request("GET", path, headers=_authorized(token_file))
        response = connection.getresponse()
        return response.status, response.read()
    except http.client.HTTPException as error:
        raise OSError(type(error).__name__) from error
    finally:
        connection.close()


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _connection(address: Address, timeout_s: float) -> http.client.HTTPConnection:
    if isinstance(address, UnixAddress):
        return _UnixConnection(address.path, timeout_s)
    return http.client.HTTPConnection(address.host, address.port, timeout=timeout_s)


def _authorized(token_file: Path | None) -> dict[str, str]:
    return {} if token_file is None else {"authorization": f"Bearer {_token(token_file)}"}


def _token(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not text"
        raise ConfigError("--token-file", f'"{file}": {reason}') from error
