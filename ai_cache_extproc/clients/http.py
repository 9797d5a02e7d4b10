"""The one outbound HTTP client: JSON to a configured service, within a deadline, behind a circuit breaker.

Errors leave here as BackendError. Their text names the service, the status and the vendor's own error word, never
a header, a query or a body: those hold keys and questions.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import httpcore2
import orjson

from ai_cache_extproc import __version__
from ai_cache_extproc.clients.breaker import Gate
from ai_cache_extproc.config.http import HttpService, HttpTls
from ai_cache_extproc.errors import BackendError, BackendRejected, BackendTimeout, BackendUnavailable
from ai_cache_extproc.model import BreakerState

T = TypeVar("T")

BreakerWatch = Callable[[str, str, BreakerState | None], None]
"""Told the backend, the server, and the state of its breaker; None once the server is no longer used."""

_IDLE_S: Final = 60.0
_QUIET_S_MAX: Final = 60.0
# Where clouds keep the credentials of their machines, beside the link-local ranges.
_METADATA: Final = frozenset(
    map(ipaddress.ip_address, ("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254"))
)
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_WORD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.\-]{0,63}")
_NOT_WELL: Final = frozenset({401, 403})


class HttpRejected(BackendRejected):
    """The service answered with a status that says no; `status` is that number."""

    def __init__(self, backend: str, operation: str, reason: str, *, status: int) -> None:
        self.status = status
        super().__init__(backend, operation, reason)


def _as_it_is(answer: Any) -> Any:  # noqa: ANN401
    return answer


class HttpClient:
    """Calls to one service. Belongs to the event loop that opened it."""

    def __init__(
        self,
        backend: str,
        service: HttpService,
        *,
        authorize: Callable[[], Mapping[str, str]] | None,
        pool: httpcore2.AsyncConnectionPool,
        gate: Gate,
    ) -> None:
        self._backend = backend
        self._service = service
        self._authorize = authorize
        self._pool = pool
        self._gate = gate
        self._host = urlsplit(service.url).netloc
        self._headers = {
            "accept": "application/json",
            # What comes is bounded as it comes; a compressed answer could grow a thousandfold after that.
            "accept-encoding": "identity",
            "user-agent": f"ai-cache-extproc/{__version__}",
        }

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        backend: str,
        service: HttpService,
        *,
        authorize: Callable[[], Mapping[str, str]] | None = None,
        breaker_watch: BreakerWatch | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> AsyncIterator[HttpClient]:
        """Make a client; it connects when it is first asked. Raises BackendUnavailable for TLS files of no use.

        backend: its name in errors and metrics. authorize: headers added to each request, asked for each time so that
        a rotated key is picked up; it may raise BackendError.
        """
        server = urlsplit(service.url).netloc
        watch = breaker_watch or _nobody

        def changed(state: BreakerState) -> None:
            watch(backend, server, state)

        gate = Gate(failures_max=service.failures_max, probe_s=service.probe_ms / 1000, changed=changed, clock=clock)
        pool = httpcore2.AsyncConnectionPool(
            ssl_context=_tls_context(backend, service.tls),
            max_connections=service.connections_max,
            max_keepalive_connections=service.connections_max,
            keepalive_expiry=_IDLE_S,
            network_backend=_Network(allow_link_local=service.allow_link_local),
        )
        changed(BreakerState.CLOSED)
        try:
            async with pool:
                yield cls(backend, service, authorize=authorize, pool=pool, gate=gate)
        finally:
            watch(backend, server, None)

    @property
    def is_open(self) -> bool:
        """Whether the circuit breaker is open."""
        return self._gate.is_open

    async def ask(
        self,
        operation: str,
        method: str,
        path: str,
        *,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        timeout_ms: float | None = None,
        read: Callable[[Any], T] = _as_it_is,
    ) -> T:
        """What `read` makes of the JSON of a 2xx answer (of None where it has no body); by default that JSON itself.

        path: after the service's URL, with its query if any. body: sent as JSON, or as it is if it is bytes.
        timeout_ms: for all of it, connecting included; the service's own unless given. read: for services that say
        in a 200 that they failed; a BackendError it raises counts for the breaker like one of ours.
        Raises BackendTimeout; BackendUnavailable (not reachable, 429, 5xx, breaker open); HttpRejected (any other
        status); BackendRejected (too large, not JSON).
        """
        if not self._gate.admit():
            raise BackendUnavailable(self._backend, operation, f"{self._where(path)}: its circuit breaker is open")
        with self._judged():
            limit_ms = self._service.timeout_ms if timeout_ms is None else timeout_ms
            request = self._request(method, path, body, headers)
            with self._mapped(operation, path, limit_ms):
                async with asyncio.timeout(limit_ms / 1000):
                    response = await self._pool.handle_async_request(request)
                    try:
                        content = await self._read(operation, path, response)
                    finally:
                        await response.aclose()
            return read(self._parsed(operation, path, response, content))

    @contextmanager
    def _judged(self) -> Iterator[None]:
        """Tell the breaker how it ended."""
        try:
            yield
        except _Busy as error:
            self._gate.failed(quiet_s=error.quiet_s)
            raise
        except (BackendTimeout, BackendUnavailable):
            self._gate.failed()
            raise
        except HttpRejected as error:
            # A key that is not taken does not become better by being shown with every request.
            if error.status in _NOT_WELL:
                self._gate.failed()
            else:
                self._gate.succeeded()
            raise
        except BackendRejected:
            self._gate.succeeded()
            raise
        except BaseException:
            self._gate.left()
            raise
        self._gate.succeeded()

    @contextmanager
    def _mapped(self, operation: str, path: str, limit_ms: float) -> Iterator[None]:
        """Turn what the transport raises into a BackendError."""
        try:
            yield
        except (TimeoutError, httpcore2.TimeoutException) as error:
            reason = f"{self._where(path)}: no answer within {limit_ms:g} ms"
            raise BackendTimeout(self._backend, operation, reason) from error
        except _Denied as error:
            raise BackendUnavailable(self._backend, operation, f"{self._where(path)}: {error}") from error
        except (httpcore2.NetworkError, httpcore2.ProtocolError, OSError, ValueError) as error:
            # ValueError: a host name that has no form on the wire.
            reason = f"{self._where(path)}: {type(error).__name__}{f' ({error})' if str(error) else ''}"
            raise BackendUnavailable(self._backend, operation, reason) from error

    def _where(self, path: str) -> str:
        """The address to name in an error. The query may hold a signature."""
        return self._service.url + path.partition("?")[0]

    def _request(self, method: str, path: str, body: object, headers: Mapping[str, str] | None) -> httpcore2.Request:
        content = body if isinstance(body, bytes) else b"" if body is None else orjson.dumps(body)
        fields = dict(self._headers)
        fields["host"] = self._host
        if body is not None:
            fields["content-type"] = "application/json"
        if body is not None or method not in {"GET", "HEAD", "DELETE"}:
            fields["content-length"] = str(len(content))
        if self._authorize is not None:
            fields |= {name.lower(): value for name, value in self._authorize().items()}
        if headers is not None:
            fields |= {name.lower(): value for name, value in headers.items()}
        return httpcore2.Request(
            method,
            self._service.url + path,
            headers=[(name.encode("ascii"), value.encode("latin-1")) for name, value in fields.items()],
            content=content,
        )

    async def _read(self, operation: str, path: str, response: httpcore2.Response) -> bytes:
        bytes_max = self._service.response_bytes_max
        content = bytearray()
        async for chunk in response.aiter_stream():
            content += chunk
            if len(content) > bytes_max:
                reason = f"{self._where(path)}: the answer is longer than {bytes_max} bytes (`response_bytes_max`)"
                raise BackendRejected(self._backend, operation, reason)
        return bytes(content)

    def _parsed(self, operation: str, path: str, response: httpcore2.Response, content: bytes) -> Any:  # noqa: ANN401
        status = response.status
        if not 200 <= status < 300:
            raise self._refusal(operation, path, response, content)
        if not content:
            return None
        try:
            return orjson.loads(content)
        except orjson.JSONDecodeError as error:
            reason = f"{self._where(path)}: answered {status} with {len(content)} bytes that are no JSON"
            raise BackendRejected(self._backend, operation, reason) from error

    def _refusal(self, operation: str, path: str, response: httpcore2.Response, content: bytes) -> BackendError:
        """What to raise for a status that is no success."""
        status = response.status
        word = _error_word(content)
        reason = f"{self._where(path)}: answered {status}{f' ({word})' if word else ''}"
        if 300 <= status < 400:
            return HttpRejected(self._backend, operation, f"{reason}; redirects are not followed", status=status)
        if status == 429 or status >= 500:
            return _Busy(self._backend, operation, reason, quiet_s=_retry_after_s(response.headers))
        return HttpRejected(self._backend, operation, reason, status=status)


class _Busy(BackendUnavailable):
    """429 or 5xx. quiet_s: how long the service asks to be left alone."""

    def __init__(self, backend: str, operation: str, reason: str, *, quiet_s: float) -> None:
        self.quiet_s = quiet_s
        super().__init__(backend, operation, reason)


class _Denied(Exception):
    """The service stands at an address that must not be asked."""


class _Network(httpcore2.AsyncNetworkBackend):
    """Connections whose far end is looked at before a byte is sent, whatever the name resolved to."""

    def __init__(self, *, allow_link_local: bool) -> None:
        self._allow_link_local = allow_link_local
        self._sockets = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # the name that the pool calls it by
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect; raises _Denied where the address is not allowed."""
        stream = await self._sockets.connect_tcp(host, port, timeout, local_address, socket_options)
        peer = stream.get_extra_info("server_addr")
        if not self._allow_link_local and is_link_local(str(peer[0])):
            await stream.aclose()
            raise _Denied(f"{peer[0]} is link-local or a cloud's metadata address; `allow_link_local: true` permits it")
        return stream


def is_link_local(address: str) -> bool:
    """Whether an address is link-local, or one where a cloud keeps its machines' credentials; IPv4 in any clothes."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        elif ip in _NAT64:
            ip = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.is_link_local or ip in _METADATA


def _tls_context(backend: str, tls: HttpTls) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=tls.ca_file and str(tls.ca_file))
        if tls.certificate_file is not None:
            context.load_cert_chain(tls.certificate_file, tls.key_file)
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(str(path) for path in (tls.ca_file, tls.certificate_file, tls.key_file) if path)
        raise BackendUnavailable(backend, "open", f"TLS files {files}: {error}") from error
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _error_word(content: bytes) -> str:
    """The vendor's one word for what is wrong. Sentences are left out: some repeat the key, or the question."""
    try:
        answer = orjson.loads(content)
    except orjson.JSONDecodeError:
        return ""
    if not isinstance(answer, dict):
        return ""
    inner = answer.get("error")
    for holder in (inner if isinstance(inner, dict) else {}, answer):
        for name in ("code", "type", "status"):
            word = holder.get(name)
            if isinstance(word, str) and _WORD.fullmatch(word):
                return word
            if isinstance(word, int) and not isinstance(word, bool):
                return str(word)
    return ""


def _retry_after_s(headers: Iterable[tuple[bytes, bytes]]) -> float:
    """The seconds of `retry-after` (RFC 9110, 10.2.3), bounded; a date is not understood."""
    for name, value in headers:
        if name.lower() == b"retry-after" and value.isdigit():
            return min(float(value), _QUIET_S_MAX)
    return 0.0


def _nobody(backend: str, server: str, state: BreakerState | None) -> None:
    pass
