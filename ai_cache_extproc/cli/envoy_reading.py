"""Finds our ext_proc filter in an Envoy configuration, with all around it that matters. Plain values, no Envoy types.

Takes a whole bootstrap, a listener, an HTTP filter or the filter's configuration alone, in YAML or JSON.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast

from ai_cache_extproc.extproc.codec import METADATA_NAMESPACE

Message = Mapping[str, object]

EXT_PROC = "ExternalProcessor"
HTTP_MANAGER = "HttpConnectionManager"

_CAPITAL = re.compile(r"(?<=[a-z0-9])([A-Z])")
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)s")


@dataclass(frozen=True, slots=True)
class Site:
    """One ext_proc filter. where: the listener, or what there is. before, after: kinds of the filters around it.

    listener: None where the document shows none. clusters: by name; None where the document shows none at all.
    """

    where: str
    filter: Message
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    listener: Message | None = None
    clusters: Mapping[str, Message] | None = None

    @property
    def cluster_name(self) -> str:
        """Where the filter sends what it sees."""
        return text(part(part(self.filter, "grpc_service"), "envoy_grpc"), "cluster_name")

    @property
    def cluster(self) -> Message | None:
        """The sidecar's cluster, if the document shows it."""
        return None if self.clusters is None else self.clusters.get(self.cluster_name)


def sites(document: Message) -> tuple[Site, ...]:
    """Every ext_proc filter that is ours: by its metadata namespace, its name or its cluster, or because it is the only one."""
    message = cast("Message", snake(document))
    found = tuple(_sites(message))
    ours = tuple(site for site in found if _is_ours(site))
    return ours or found


def part(message: Message, name: str) -> Message:
    """A message inside; empty where there is none."""
    value = message.get(name)
    return cast("Message", value) if isinstance(value, dict) else {}


def text(message: Message, name: str) -> str:
    """A text field; empty where there is none."""
    value = message.get(name)
    return value if isinstance(value, str) else ""


def each(message: Message, name: str) -> Iterator[Message]:
    """The messages of a list."""
    value = message.get(name)
    for item in value if isinstance(value, list) else ():
        if isinstance(item, dict):
            yield cast("Message", item)


def words(message: Message, name: str) -> tuple[str, ...]:
    """The texts of a list."""
    value = message.get(name)
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def number(message: Message, name: str, *, default: int) -> int:
    """A whole number, which JSON may have as text."""
    value = message.get(name)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return int(value)
    return int(value) if isinstance(value, str) and value.isdigit() else default


def milliseconds(message: Message, name: str, *, default: float) -> float:
    """A duration (`0.5s`)."""
    found = _DURATION.fullmatch(text(message, name))
    return default if found is None else float(found[1]) * 1000


def snake(value: object) -> object:
    """The same with field names as in Envoy's documentation; its JSON may also spell them in camel case."""
    if isinstance(value, dict):
        return {_snake(str(key)): snake(member) for key, member in value.items()}
    return [snake(item) for item in value] if isinstance(value, list) else value


def _snake(name: str) -> str:
    return name if "." in name or "_" in name or "-" in name else _CAPITAL.sub(r"_\1", name).lower()


def kind(message: Message) -> str:
    """The last word of a typed configuration's type: `Router`."""
    return text(part(message, "typed_config"), "@type").rpartition(".")[2] or text(message, "name").rpartition(".")[2]


def _sites(message: Message) -> Iterator[Site]:
    if text(message, "@type").endswith(f".{EXT_PROC}") or "grpc_service" in message:
        yield Site("the filter", message)
    elif kind(message) == EXT_PROC and "typed_config" in message:
        yield Site(f'filter "{text(message, "name")}"', part(message, "typed_config"))
    elif "http_filters" in message:
        yield from _managed(message, None, None)
    elif "filter_chains" in message or "default_filter_chain" in message:
        yield from _listened(message, None)
    else:
        static = part(message, "static_resources") or message
        clusters = {text(cluster, "name"): cluster for cluster in each(static, "clusters")} or None
        for listener in each(static, "listeners"):
            yield from _listened(listener, clusters)


def _listened(listener: Message, clusters: Mapping[str, Message] | None) -> Iterator[Site]:
    chains = [*each(listener, "filter_chains"), part(listener, "default_filter_chain")]
    for chain in chains:
        for network in each(chain, "filters"):
            if kind(network) == HTTP_MANAGER:
                yield from _managed(part(network, "typed_config"), listener, clusters)


def _managed(manager: Message, listener: Message | None, clusters: Mapping[str, Message] | None) -> Iterator[Site]:
    filters = list(each(manager, "http_filters"))
    kinds = tuple(map(kind, filters))
    where = "the HTTP filters" if listener is None else f'listener "{text(listener, "name")}"'
    for index, http in enumerate(filters):
        if kinds[index] == EXT_PROC:
            settings = part(http, "typed_config")
            yield Site(where, settings, kinds[:index], kinds[index + 1 :], listener, clusters)


def _is_ours(site: Site) -> bool:
    received = part(part(site.filter, "metadata_options"), "receiving_namespaces")
    names = f"{site.cluster_name} {text(site.filter, 'stat_prefix')}".replace("-", "_").replace("ai_cache", "aicache")
    return METADATA_NAMESPACE in words(received, "untyped") or "aicache" in names
