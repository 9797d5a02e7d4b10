"""Where the services of a Higress document are. Its names are the gateway's, so they may be told here: NAME=HOST:PORT."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address

from ai_cache_extproc.config.addresses import TcpAddress, parse_address
from ai_cache_extproc.config.higress_document import CacheService
from ai_cache_extproc.config.section import refusal
from ai_cache_extproc.errors import ConfigError

HOST_FLAG = "--host"
HOSTS_VARIABLE = "AICACHE_HOSTS"

REDIS_PORT = 6379
STATIC_PORT = 80
"""What the gateway calls the port of every service with a fixed address, whatever the real one is."""

_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?")
_FORM = "write NAME=HOST:PORT, as in my-redis.static=10.0.0.7:6379"

Hosts = Mapping[str, TcpAddress]
"""Addresses by the name of the service."""


def read_hosts(flags: Sequence[str], variable: str) -> Hosts:
    """What `--host` (each one name) and AICACHE_HOSTS (several, with commas) say; the flags win. Raises as `refusal` does."""
    told = [text.strip() for text in variable.split(",")]
    entries = [(HOSTS_VARIABLE, text) for text in told if text] + [(HOST_FLAG, text) for text in flags]
    hosts: dict[str, TcpAddress] = {}
    faults: list[ConfigError] = []
    for source, text in entries:
        name, _, place = text.partition("=")
        try:
            address = parse_address(place)
        except ConfigError:
            address = None
        if name and isinstance(address, TcpAddress) and address.port and is_host(address.host):
            hosts[name] = address
        else:
            faults.append(ConfigError("", f'"{text}" says not where a service is; {_FORM}', source=source))
    if faults:
        raise refusal(tuple(faults))
    return hosts


def is_host(text: str) -> bool:
    """Whether this is a host name or an address, without a port."""
    if _HOST.fullmatch(text):
        return True
    try:
        ip_address(text)
    except ValueError:
        return False
    # A zone (`fe80::1%eth0`) has no place in a URL.
    return "%" not in text


def on_one_line(text: str) -> str:
    """What a document says, for people: it may be any text."""
    return "".join(character if character.isprintable() else "?" for character in text)


def redis_port(service: CacheService) -> int:
    """The port as the plugin chooses it."""
    if service.servicePort is not None:
        return service.servicePort
    return STATIC_PORT if service.serviceName.endswith(".static") else REDIS_PORT


def address_of(name: str, host: str, port: int, hosts: Hosts) -> TcpAddress:
    """Where the service is: as told, else at its `serviceHost`, else under its name without the gateway's `.dns`.

    Raises ValueError, whose text says why it cannot be found and what to do.
    """
    if name in hosts:
        return hosts[name]
    shown = on_one_line(name)
    if not host and name.endswith(".static"):
        raise ValueError(
            f'"{shown}" is known to the gateway alone; say where it is: `{HOST_FLAG} {shown}=HOST:PORT`, or {HOSTS_VARIABLE}'
        )
    found = host or name.removesuffix(".dns")
    if not is_host(found):
        raise ValueError(
            f'"{on_one_line(found)}" is no host name; correct it, or say where the service is: `{HOST_FLAG} {shown}=HOST:PORT`'
        )
    return TcpAddress(found, port)


def idle_hosts(hosts: Hosts, names: Iterable[str]) -> Iterator[str]:
    """A sentence for each name that was told and that no service of the document has."""
    known = tuple(dict.fromkeys(names))
    for name in hosts:
        if name not in known:
            has = f"; it has {', '.join(known)}" if known else ""
            yield f'"{name}" was told an address, but is no service of this document{has}'
