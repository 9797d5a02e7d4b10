"""Asks the admin address of a running sidecar. The standard library does: the tools need no HTTP client of their own."""

from __future__ import annotations

import http.client
import socket
from typing import Any

import orjson

from ai_cache_extproc.config.addresses import Address, UnixAddress, parse_address
from ai_cache_extproc.errors import AICacheError

TIMEOUT_S = 5.0


class NoSidecar(AICacheError):
    """Nobody answers there, or not as a sidecar does."""


def ask(address: str, path: str) -> dict[str, Any]:
    """The JSON document at `path`. Raises ConfigError for what is no address, NoSidecar where none answers."""
    connection = _connection(parse_address(address, "--admin"))
    try:
        connection.request("GET", path)
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
    if response.status != 200 or not isinstance(document, dict):
        raise NoSidecar(f"what answers at {address} is no sidecar's admin address ({path}: {response.status})")
    return document


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(self._path)


def _connection(address: Address) -> http.client.HTTPConnection:
    if isinstance(address, UnixAddress):
        return _UnixConnection(address.path)
    return http.client.HTTPConnection(address.host, address.port, timeout=TIMEOUT_S)
