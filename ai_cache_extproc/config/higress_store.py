"""The one store of a Higress document: the Redis that its configurations name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ai_cache_extproc.config.document import Document
from ai_cache_extproc.config.fields import dotted
from ai_cache_extproc.config.higress_document import CacheService
from ai_cache_extproc.config.higress_notes import Note
from ai_cache_extproc.config.higress_parts import Placed
from ai_cache_extproc.config.higress_services import HOST_FLAG, Hosts, address_of, redis_port
from ai_cache_extproc.config.model import Lookup
from ai_cache_extproc.config.section import Location, refusal
from ai_cache_extproc.errors import ConfigError


@dataclass(frozen=True, slots=True)
class _Server:
    """The Redis that one configuration names."""

    location: Location
    service: CacheService
    url: str

    def unlike(self, other: _Server) -> str:
        """Why the two cannot be one store; empty where they are."""
        there, way_out = dotted(other.location), "one sidecar has one store, so run a second sidecar for this one"
        if self.url != other.url:
            return f"is {self.url}, but {there} is {other.url}; {way_out}"
        if (self.service.username, self.service.password) != (other.service.username, other.service.password):
            return f"logs in to {self.url} in another way than {there}; {way_out}"
        return ""


def store_of(placed: Sequence[Placed], document: Document, hosts: Hosts) -> tuple[dict[str, object], list[Note]]:
    """The store of all configurations, as native values; none where nobody names a Redis, so that the default holds.

    Raises ConfigError, ConfigFaults: for a Redis that cannot be found, and for a second one.
    """
    placed = [part for part in placed if part.config.cacheKeyStrategy != "disabled"] or placed
    servers = list(_servers(placed, document, hosts))
    if not servers:
        return {}, [_without_store(part) for part in placed]
    first = servers[0]
    for server in servers[1:]:
        if reason := server.unlike(first):
            raise ConfigError(dotted(server.location), reason, source=document.source_of(server.location))
    deadline_ms = Lookup().deadline_ms
    asked_ms = min(server.service.timeout or deadline_ms for server in servers)
    values: dict[str, object] = {"type": "redis", "url": first.url}
    if first.service.password.get_secret_value():
        values["password"] = first.service.password
        # Without a password Envoy, and so Higress, names no user either.
        if first.service.username:
            values["username"] = first.service.username
    values["timeout_ms"] = min(asked_ms, deadline_ms)
    notes = [note for server in servers for note in _said_of(server, deadline_ms)]
    named = {server.location[:-1] for server in servers}
    notes += (
        Note(part.location, f"names no Redis; its answers are kept in that of {dotted(first.location)} all the same")
        for part in placed
        if part.location not in named
    )
    return values, notes


def _servers(placed: Sequence[Placed], document: Document, hosts: Hosts) -> Iterator[_Server]:
    faults: list[ConfigError] = []
    for part in placed:
        if part.config.store is None:
            continue
        key, service = part.config.store
        location = (*part.location, key)
        try:
            address = address_of(service.serviceName, service.serviceHost, redis_port(service), hosts)
        except ValueError as error:
            at = (*location, "serviceHost" if service.serviceHost else "serviceName")
            faults.append(ConfigError(dotted(at), str(error), source=document.source_of(at)))
        else:
            number = f"/{service.database}" if service.database else ""
            yield _Server(location, service, f"redis://{address}{number}")
    if faults:
        raise refusal(tuple(faults))


def _said_of(server: _Server, deadline_ms: int) -> Iterator[Note]:
    service = server.service
    asked_ms = service.timeout
    if asked_ms == 0 or asked_ms > deadline_ms:
        default = "" if "timeout" in service.model_fields_set else " (the plugin's default)"
        excess = "is no limit" if asked_ms == 0 else "is longer than a lookup may take"
        yield Note(
            (*server.location, "timeout"),
            f"{asked_ms} ms{default} {excess}; {deadline_ms} ms hold, then the request goes upstream",
            "AICACHE__LOOKUP__DEADLINE_MS with AICACHE__STORE__TIMEOUT_MS allow more",
        )
    if service.serviceName.endswith(".static") and service.serviceHost and service.servicePort is None:
        yield Note(
            (*server.location, "servicePort"),
            "is not given, so it is 80, the gateway's word for the port of any such service",
            f"`{HOST_FLAG} {service.serviceName}=HOST:PORT` says the real one",
        )


def _without_store(part: Placed) -> Note:
    return Note(
        part.location,
        "names no Redis: the plugin would match exact questions nowhere; here the default store (SQLite) keeps them",
        "`redis: {serviceName: my-redis.dns}` shares them",
    )
