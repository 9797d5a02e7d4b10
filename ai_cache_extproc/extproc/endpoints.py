"""Claim an address before gRPC binds it.

gRPC does not say why an address cannot be bound, and takes a Unix socket away from the process that serves it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
from pathlib import Path
from urllib.parse import quote

from ai_cache_extproc.config.addresses import Address, TcpAddress, UnixAddress
from ai_cache_extproc.errors import ConfigError

SOCKET_MODE = 0o660

_WAYS_OUT = {
    errno.EADDRINUSE: "another process listens there; stop it or choose another port",
    errno.EACCES: "this user may not use that port; choose one above 1023",
    errno.EADDRNOTAVAIL: "this machine has no such address; use one of its own, or 127.0.0.1",
}


class Claim:
    """The right to listen on one address; `release` once nobody listens there any more."""

    def __init__(self, address: Address, lock: int | None = None) -> None:
        self.address = address
        self._lock = lock

    @property
    def target(self) -> str:
        """The address as gRPC takes it: a URI, which it decodes."""
        if isinstance(self.address, UnixAddress):
            return f"unix:{quote(os.fsencode(self.address.path))}"
        return str(self.address)

    def opened(self) -> None:
        """Let the socket's group in. To be called once gRPC has made the socket."""
        if isinstance(self.address, UnixAddress):
            Path(self.address.path).chmod(SOCKET_MODE)

    def release(self) -> None:
        """Let others have the address. Idempotent."""
        # The lock file stays: removing it would let two processes hold locks on two files of one name.
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def claim(address: Address, path: str) -> Claim:
    """Make sure that gRPC can have this address. Raises ConfigError; path: the field where it stands."""
    if isinstance(address, TcpAddress):
        _try_tcp(address, path)
        return Claim(address)
    lock = _lock(address, path)
    try:
        _try_unix(address, path)
    except ConfigError:
        os.close(lock)
        raise
    return Claim(address, lock)


def _try_tcp(address: TcpAddress, path: str) -> None:
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ConfigError(path, f"{str(address)!r}: there is no such host; use an address of this machine") from error
    failures = [failure for family, _, _, _, target in found if (failure := _bind_failure(family, target))]
    # As gRPC does: one of the addresses behind a name is enough.
    if len(failures) == len(found):
        failure = failures[0]
        way_out = _WAYS_OUT.get(failure.errno or 0, "choose another address")
        raise ConfigError(path, f"{str(address)!r} cannot be bound ({failure.strerror}): {way_out}") from failure


def _bind_failure(family: int, target: tuple[str | int | bytes, ...]) -> OSError | None:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(target)
    except OSError as error:
        return error
    return None


def _lock(address: UnixAddress, path: str) -> int:
    lock_path = f"{address.path}.lock"
    try:
        lock = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(
            path,
            f"{str(address)!r}: {lock_path} cannot be opened ({error.strerror}); "
            "the directory must exist and be writable by this user",
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise ConfigError(
            path,
            f"{str(address)!r} is served by another process, which holds {lock_path}; stop it or choose another path",
        ) from error
    return lock


def _try_unix(address: UnixAddress, path: str) -> None:
    file = Path(address.path)
    try:
        mode = file.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigError(
            path, f"{str(address)!r}: there is a file that is no socket; remove it or choose another path"
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(0)
        try:
            probe.connect(address.path)
        except ConnectionRefusedError:
            # Left behind by a process that was killed; gRPC replaces it.
            return
        except OSError:
            # A full backlog, or a socket that is not ours to connect to: someone may be there.
            pass
    raise ConfigError(path, f"{str(address)!r} is served by another process; stop it or choose another path")
