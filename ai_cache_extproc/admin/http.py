"""The admin address: an HTTP listener in the sidecar's own loop. Who may ask what is decided in `access.py`."""

from __future__ import annotations

import contextlib
import socket
import stat
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from ai_cache_extproc.config.addresses import Address, TcpAddress, UnixAddress, parse_address
from ai_cache_extproc.errors import ConfigError

_BACKLOG = 128


class Admin:
    """The listener. `bind` first, so that a wrong address is known before anything is served."""

    def __init__(
        self, address: str, app: Starlette, *, tasks: Callable[[], Sequence[Coroutine[None, None, None]]] = tuple
    ) -> None:
        """address: `HOST:PORT` (port 0 takes a free one) or `unix:PATH`; raises ConfigError for anything else.

        tasks: what is to run beside it until it is cancelled.
        """
        self.tasks = tasks
        self._address: Address = parse_address(address, "admin")
        self._app = app
        self._socket: socket.socket | None = None
        self._server: uvicorn.Server | None = None
        self._closing = False

    @property
    def address(self) -> str:
        """Where it listens: the bound address once `bind` has run."""
        return str(self._address)

    def bind(self) -> None:
        """Take the address. Raises ConfigError where it cannot be had."""
        try:
            self._socket = _listener(self._address)
        except OSError as error:
            reason = f"cannot listen on {self.address!r}: {error.strerror or error}; {_way_out(error)}"
            raise ConfigError("admin", reason) from error
        if isinstance(self._address, UnixAddress):
            # Whoever can connect may purge where no token is configured.
            Path(self._address.path).chmod(0o600)
        else:
            self._address = TcpAddress(*self._socket.getsockname()[:2])

    async def run(self) -> None:
        """Serve until `close`."""
        assert self._socket is not None, "bind first"
        # Logging and signals belong to the process: uvicorn configures neither.
        config = uvicorn.Config(
            self._app,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            backlog=_BACKLOG,
            timeout_graceful_shutdown=1,
        )
        self._server = _SignalFree(config)
        self._server.should_exit = self._closing
        try:
            await self._server.serve(sockets=[self._socket])
        finally:
            self.release()

    def close(self) -> None:
        """Make `run` return; requests being answered have a second."""
        self._closing = True
        if self._server is not None:
            self._server.should_exit = True

    def release(self) -> None:
        """Give the address back. Idempotent; `run` does it too."""
        if self._socket is None:
            return
        self._socket.close()
        self._socket = None
        if isinstance(self._address, UnixAddress):
            Path(self._address.path).unlink(missing_ok=True)


class _SignalFree(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the composition root."""
        yield


def _listener(address: Address) -> socket.socket:
    if isinstance(address, UnixAddress):
        _remove_stale(Path(address.path))
        return _listening(socket.AF_UNIX, address.path)
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, where = found[0]
    return _listening(family, where)


def _listening(family: int, where: object) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)  # type: ignore[arg-type]  # what getaddrinfo said for this family
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _remove_stale(path: Path) -> None:
    """Remove the socket file that a killed process left; one that still answers stays and makes `bind` fail."""
    if not path.exists() or not stat.S_ISSOCK(path.stat().st_mode):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)


def _way_out(error: OSError) -> str:
    match error:
        case PermissionError():
            return "choose a port from 1024 on, or a path that this user may write"
        case FileNotFoundError():
            return "create the directory first"
        case socket.gaierror():
            return "write an address of this machine"
        case _:
            return "stop what listens there, or give another address with --admin (port 0 takes a free one)"
