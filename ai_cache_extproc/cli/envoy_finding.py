"""Finds our ext_proc filter in an Envoy configuration, with all around it that matters.

Takes a bootstrap, what a running Envoy shows of itself (`/config_dump`), an Istio `EnvoyFilter`, a listener, an HTTP
filter or the filter's configuration alone, in YAML or JSON.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import cast

from ai_cache_extproc.cli.envoy_reading import Message, Site, each, kind, number, part, snake, text, words
from ai_cache_extproc.extproc.codec import METADATA_NAMESPACE

EXT_PROC = "ExternalProcessor"
HTTP_MANAGER = "HttpConnectionManager"


@dataclass(frozen=True, slots=True)
class _Around:
    """What stands beside listeners. clusters, routes (whole configurations): by name."""

    clusters: Mapping[str, Message] | None = None
    routes: Mapping[str, Message] = field(default_factory=dict)
    version: tuple[int, int] | None = None


def sites(document: Message) -> tuple[Site, ...]:
    """Every ext_proc filter that is ours: by its metadata namespace, its name or its cluster, or because it is the only one."""
    message = cast("Message", snake(document))
    found = tuple(_sites(message))
    ours = tuple(site for site in found if _is_ours(site))
    return ours or found


def _sites(message: Message) -> Iterator[Site]:
    if text(message, "@type").endswith(f".{EXT_PROC}") or "grpc_service" in message:
        yield Site("the filter", message)
    elif kind(message) == EXT_PROC and "typed_config" in message:
        yield Site(f'filter "{text(message, "name")}"', part(message, "typed_config"))
    elif text(message, "kind") == "EnvoyFilter":
        yield from _patched(message)
    elif "configs" in message:
        yield from _dumped(message)
    elif "http_filters" in message:
        yield from _managed(message, None, _Around())
    elif "filter_chains" in message or "default_filter_chain" in message:
        yield from _listened(message, _Around())
    else:
        static = part(message, "static_resources") or message
        around = _Around(_by_name(each(static, "clusters")) or None)
        for listener in each(static, "listeners"):
            yield from _listened(listener, around)


def _dumped(dump: Message) -> Iterator[Site]:
    """A running Envoy's own account: each kind of resource in a part of its own, static ones and those that came later."""
    parts = {text(each_, "@type").rpartition(".")[2]: each_ for each_ in each(dump, "configs")}

    def shown(what: str, member: str, *lists: str) -> Iterator[Message]:
        for name in lists:
            for item in each(parts.get(what, {}), name):
                yield part(item, member) or part(part(item, "active_state"), member)

    clusters = _by_name(shown("ClustersConfigDump", "cluster", "static_clusters", "dynamic_active_clusters"))
    found = shown("EndpointsConfigDump", "endpoint_config", "static_endpoint_configs", "dynamic_endpoint_configs")
    for endpoints in found:
        name = text(endpoints, "cluster_name")
        if name in clusters and "load_assignment" not in clusters[name]:
            clusters[name] = {**clusters[name], "load_assignment": endpoints}
    routes = shown("RoutesConfigDump", "route_config", "static_route_configs", "dynamic_route_configs")
    node = part(part(parts.get("BootstrapConfigDump", {}), "bootstrap"), "node")
    around = _Around(clusters or None, _by_name(routes), _version(node))
    for listener in shown("ListenersConfigDump", "listener", "static_listeners", "dynamic_listeners"):
        yield from _listened(listener, around)


def _version(node: Message) -> tuple[int, int] | None:
    version = part(part(node, "user_agent_build_version"), "version")
    if not version:
        return None
    return number(version, "major_number", default=0), number(version, "minor_number", default=0)


def _patched(document: Message) -> Iterator[Site]:
    """An Istio `EnvoyFilter`: what it patches in, in the place of what it patches."""
    patches = list(each(part(document, "spec"), "config_patches"))

    def values(what: str) -> Iterator[Message]:
        return (part(part(patch, "patch"), "value") for patch in patches if text(patch, "apply_to") == what)

    listener: dict[str, object] = {}
    for merged in values("LISTENER"):
        listener |= merged
    clusters = _by_name(values("CLUSTER")) or None
    routes = tuple(
        {**value, "name": text(part(part(part(part(patch, "match"), "route_configuration"), "vhost"), "route"), "name")}
        for patch in patches
        if text(patch, "apply_to") == "HTTP_ROUTE" and (value := part(part(patch, "patch"), "value"))
    )
    where = f'EnvoyFilter "{text(part(document, "metadata"), "name")}"'
    for http in values("HTTP_FILTER"):
        if kind(http) == EXT_PROC:
            yield Site(where, part(http, "typed_config"), (), (), listener, clusters, routes, name=text(http, "name"))


def _listened(listener: Message, around: _Around) -> Iterator[Site]:
    chains = [*each(listener, "filter_chains"), part(listener, "default_filter_chain")]
    for chain in chains:
        for network in each(chain, "filters"):
            if kind(network) == HTTP_MANAGER:
                yield from _managed(part(network, "typed_config"), listener, around)


def _managed(manager: Message, listener: Message | None, around: _Around) -> Iterator[Site]:
    filters = list(each(manager, "http_filters"))
    kinds = tuple(map(kind, filters))
    where = "the HTTP filters" if listener is None else f'listener "{text(listener, "name")}"'
    named = text(part(manager, "rds"), "route_config_name")
    routes = tuple(_routes(part(manager, "route_config") or around.routes.get(named, {})))
    for index, http in enumerate(filters):
        if kinds[index] == EXT_PROC:
            yield Site(
                where,
                part(http, "typed_config"),
                kinds[:index],
                kinds[index + 1 :],
                listener,
                around.clusters,
                routes,
                text(http, "name"),
                off=http.get("disabled") is True,
                version=around.version,
            )


def _routes(configuration: Message) -> Iterator[Message]:
    for host in each(configuration, "virtual_hosts"):
        usual = {**part(configuration, "typed_per_filter_config"), **part(host, "typed_per_filter_config")}
        for route in each(host, "routes"):
            yield {**route, "typed_per_filter_config": {**usual, **part(route, "typed_per_filter_config")}}


def _by_name(messages: Iterator[Message]) -> dict[str, Message]:
    return {text(message, "name"): message for message in messages}


def _is_ours(site: Site) -> bool:
    received = part(part(site.filter, "metadata_options"), "receiving_namespaces")
    names = f"{site.cluster_name} {text(site.filter, 'stat_prefix')}".replace("-", "_").replace("ai_cache", "aicache")
    return METADATA_NAMESPACE in words(received, "untyped") or "aicache" in names
