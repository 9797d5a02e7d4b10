"""Where we listen: `HOST:PORT`, `[V6]:PORT` or `unix:PATH`. Pure: nothing here touches the network or a file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import PurePosixPath

from ai_cache_extproc.errors import ConfigError

UNIX_PATH_BYTES_MAX = 107
"""What fits into `sun_path` with its closing NUL (unix(7))."""

PORT_MAX = 65_535
_FORMS = "write HOST:PORT, [V6]:PORT or unix:PATH"


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """host: a name or an address, without brackets. port: 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        """The form that can be parsed again."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches it. A name other than `localhost` may be anywhere."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A Unix socket; file permissions decide who reaches it."""

    path: str

    def __str__(self) -> str:
        """The form that can be parsed again."""
        return f"unix:{self.path}"


Address = TcpAddress | UnixAddress


def parse_address(text: str, path: str = "") -> Address:
    """Read one address. Raises ConfigError; path: the field where it stands."""
    if text.startswith("unix:"):
        return _unix(text, path)
    host, colon, port = text.rpartition(":")
    if not colon or not host:
        raise ConfigError(path, f"{text!r} is no address: {_FORMS}")
    if not (port.isascii() and port.isdigit() and int(port) <= PORT_MAX):
        raise ConfigError(path, f"{text!r} has no port from 0 to 65535 after its last colon: {_FORMS}")
    return TcpAddress(_host(text, host, path), int(port))


def _unix(text: str, path: str) -> UnixAddress:
    # unix:/run/x.sock and the URL form unix:///run/x.sock are the same to gRPC.
    file = text.removeprefix("unix:")
    if file.startswith("///"):
        file = file[2:]
    if not file or "\0" in file or file.startswith(("@", "//")):
        raise ConfigError(path, f"{text!r} names no file: write unix:PATH")
    length = len(os.fsencode(file))
    if length > UNIX_PATH_BYTES_MAX:
        raise ConfigError(
            path,
            f"{text!r} is {length} bytes long: a Unix socket takes at most {UNIX_PATH_BYTES_MAX}; choose a shorter path",
        )
    return UnixAddress(file)


def _host(text: str, host: str, path: str) -> str:
    if host.startswith("[") and host.endswith("]"):
        try:
            if ip_address(host[1:-1]).version == 6:
                return host[1:-1]
        except ValueError:
            pass
        raise ConfigError(path, f"{text!r} has no IPv6 address between its brackets: {_FORMS}")
    if ":" in host:
        raise ConfigError(path, f"{text!r} has more than one colon: write an IPv6 address as [V6]:PORT")
    if any(character in host for character in "/[]@") or not host.isprintable() or " " in host:
        raise ConfigError(path, f"{text!r} has no host name that can be looked up: {_FORMS}")
    return host


def listen_addresses(listen: Sequence[str], *, insecure: bool, path: str = "listen") -> tuple[Address, ...]:
    """Read the addresses to listen on, in their order.

    insecure: whether addresses beyond loopback are allowed. Raises ConfigError for an unusable address, for
    none at all and for one that stands twice.
    """
    addresses = tuple(parse_address(text, path) for text in listen)
    if not addresses:
        raise ConfigError(path, f"no address to listen on: {_FORMS}")
    for number, address in enumerate(addresses):
        if isinstance(address, TcpAddress) and not (insecure or address.loopback):
            raise ConfigError(
                path,
                f"{str(address)!r} can be reached from other machines, and whoever reaches it can read and fill the cache: "
                "use 127.0.0.1 or unix:PATH, or set insecure_listen: true if the network keeps others away",
            )
        chosen_by_system = isinstance(address, TcpAddress) and address.port == 0
        if not chosen_by_system and address in addresses[:number]:
            raise ConfigError(path, f"{str(address)!r} stands twice: one endpoint needs one address")
    return addresses


def worker_addresses(
    listen: Sequence[str], workers: int, *, insecure: bool, path: str = "listen"
) -> tuple[tuple[Address, ...], ...]:
    """What each worker process listens on, worker 0 first: no two share an endpoint.

    One process takes every address. Several take one each, where there are as many; from a single one those of
    the others are derived: PORT, PORT+1, ... and x.sock, x-1.sock, ...; port 0 lets each take a free one.
    Raises ConfigError as `listen_addresses` does, for any other number of addresses and for what cannot be derived.
    """
    addresses = listen_addresses(listen, insecure=insecure, path=path)
    if workers == 1:
        return (addresses,)
    if len(addresses) == workers:
        return tuple((address,) for address in addresses)
    if len(addresses) > 1:
        raise ConfigError(
            path,
            f"has {len(addresses)} addresses for {workers} workers: write one for each worker, or a single one from "
            "which theirs are derived",
        )
    return tuple((_derived(addresses[0], number, path),) for number in range(workers))


def _derived(address: Address, number: int, path: str) -> Address:
    """The address of worker `number`, from that of worker 0, which keeps it."""
    if number == 0:
        return address
    if isinstance(address, UnixAddress):
        suffix = PurePosixPath(address.path).suffix
        return _unix(f"unix:{address.path.removesuffix(suffix)}-{number}{suffix}", path)
    if address.port == 0:
        return address
    if address.port + number > PORT_MAX:
        raise ConfigError(
            path,
            f"{str(address)!r} leaves no port for worker {number}: choose a lower one, or write one for each worker",
        )
    return TcpAddress(address.host, address.port + number)
