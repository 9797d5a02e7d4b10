"""The filter, its cluster and what they need around them as patches of an Istio `EnvoyFilter`; Higress reads it too.

What is patched in is built from Envoy's own types; the object around it is Istio's and plain.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import betterproto2
from envoy_data_plane.envoy.config.listener.v3 import Listener
from envoy_data_plane.envoy.config.route.v3 import Route

from ai_cache_extproc.cli.envoy_bootstrap import Site, buffer_bytes, sidecar_at
from ai_cache_extproc.cli.envoy_filter import ext_proc_filter, rule_named
from ai_cache_extproc.config.model import Config

NAMESPACE = "istio-system"
NAME = "ai-cache"
HTTP_MANAGER = "envoy.filters.network.http_connection_manager"

Patch = dict[str, Any]


def envoy_filter(config: Config, site: Site) -> dict[str, Any]:
    """One object for the gateway's pods, in their namespace."""
    mesh = site.mesh
    return {
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": {"name": NAME, "namespace": mesh.namespace or NAMESPACE},
        "spec": {
            "workloadSelector": {"labels": dict(mesh.selector)},
            "configPatches": list(_patches(config, site)),
        },
    }


def _patches(config: Config, site: Site) -> Iterator[Patch]:
    yield _patch("CLUSTER", {}, "ADD", sidecar_at(config, site))
    yield _patch("LISTENER", {}, "MERGE", Listener(per_connection_buffer_limit_bytes=buffer_bytes(config)))
    beside = {"name": HTTP_MANAGER, "subFilter": {"name": site.mesh.before}}
    where = {"listener": {"filterChain": {"filter": beside}}}
    yield _patch("HTTP_FILTER", where, "INSERT_BEFORE", ext_proc_filter(config))
    for route, rule in site.rules.items():
        named = {"routeConfiguration": {"vhost": {"route": {"name": route}}}}
        yield _patch("HTTP_ROUTE", named, "MERGE", Route(typed_per_filter_config=rule_named(rule)))


def _patch(what: str, match: Patch, operation: str, value: betterproto2.Message) -> Patch:
    """`match` narrows what is patched on gateways."""
    return {
        "applyTo": what,
        "match": {"context": "GATEWAY", **match},
        "patch": {"operation": operation, "value": value.to_dict(casing=betterproto2.Casing.SNAKE)},
    }
