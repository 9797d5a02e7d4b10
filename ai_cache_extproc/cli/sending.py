"""Sends requests to a gateway, each on a connection of its own and once. The standard library does, as in `asking.py`."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from ai_cache_extproc.cli.request_lines import Requested

STATUS_HEADER = "x-ai-cache-status"
REASON_HEADER = "x-ai-cache-reason"
UNLABELLED = "unlabelled"
FAILED = "failed"
_CHUNK_BYTES = 64 * 1024
# Of one connection (RFC 9110, 7.6.1), or what this client says itself. An encoded answer is not kept.
_NOT_SENT = frozenset(
    {"accept-encoding", "connection", "content-length", "expect", "host", "keep-alive", "proxy-connection", "te"}
    | {"trailer", "transfer-encoding", "upgrade"}
)


@dataclass(frozen=True, slots=True)
class Answered:
    """What came of one request. result: as the cache labels it, in lower case; status: 0 where nobody answered.

    fault: why not, or why the answer was not whole.
    """

    result: str
    reason: str = ""
    status: int = 0
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Gateway:
    """Where requests go. prefix: of every path, without a slash at its end. May be used from several threads."""

    host: str
    port: int | None
    tls: ssl.SSLContext | None
    prefix: str
    timeout_s: float

    @classmethod
    def at(cls, url: str, *, timeout_s: float) -> Self:
        """Raises ValueError for what is no address of a gateway."""
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"{url!r} is no http:// or https:// address")
        if parts.username is not None or parts.query or parts.fragment:
            raise ValueError("write the address alone: credentials go into --header-file")
        tls = ssl.create_default_context() if parts.scheme == "https" else None
        return cls(parts.hostname, parts.port, tls, parts.path.rstrip("/"), timeout_s)

    def send(self, asked: Requested) -> Answered:
        """Send one request and read its answer to the end. Raises nothing for what the network does."""
        connection = self._connection()
        try:
            connection.request(asked.method, self.prefix + asked.path, asked.body, dict(_sent(asked)))
            response = connection.getresponse()
            # A stream is kept only if somebody takes all of it.
            while response.read(_CHUNK_BYTES):
                pass
            if response.length:
                raise http.client.IncompleteRead(b"", response.length)
        except (OSError, http.client.HTTPException, ValueError) as error:
            way = f"{self.host}:{connection.port}"
            return Answered(FAILED, fault=f"{way}: {getattr(error, 'strerror', None) or type(error).__name__}")
        finally:
            connection.close()
        label = response.headers.get(STATUS_HEADER, "").lower()
        return Answered(label or UNLABELLED, response.headers.get(REASON_HEADER, ""), response.status)

    def _connection(self) -> http.client.HTTPConnection:
        if self.tls is None:
            return http.client.HTTPConnection(self.host, self.port, timeout=self.timeout_s)
        return http.client.HTTPSConnection(self.host, self.port, timeout=self.timeout_s, context=self.tls)


def _sent(asked: Requested) -> Mapping[str, str]:
    headers = {name: value for name, value in asked.headers.items() if name not in _NOT_SENT and name[:1] != ":"}
    return headers | {"host": asked.authority} if asked.authority else headers
