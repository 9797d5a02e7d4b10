"""The same for Envoy Gateway: its own objects, which say less than Envoy can. What they cannot say is refused here.

`EnvoyExtensionPolicy` puts the filter on a route, `Backend` says where the sidecar is, `ClientTrafficPolicy` raises the
buffer, `BackendTrafficPolicy` lets answers take their time.
"""

from __future__ import annotations

import re
from math import ceil
from typing import Any

from ai_cache_extproc.cli.envoy_bootstrap import Site, buffer_bytes, endpoints, envoy_address, is_name
from ai_cache_extproc.cli.envoy_clusters import CALLS_MAX, UPSTREAM_CONNECT_S
from ai_cache_extproc.cli.words import listed
from ai_cache_extproc.config.addresses import Address, TcpAddress
from ai_cache_extproc.config.model import Config
from ai_cache_extproc.config.snapshot import Snapshot
from ai_cache_extproc.errors import ConfigError
from ai_cache_extproc.extproc.codec import CLUSTER_ATTRIBUTE, METADATA_NAMESPACE, ROUTE_ATTRIBUTE

GROUP = "gateway.envoyproxy.io"
NAME = "ai-cache"
IDLE = "15m"
CONNECTIONS_MAX = 1024

_SHOWN = re.compile(r"(?:connection|source|destination|request|response|upstream)\.[a-z_1-9]*|xds\.route_[a-z_1-9]*")
"""The attributes that Envoy Gateway lets through, as its schema has them."""

Object = dict[str, Any]


def gateway_objects(config: Config, site: Site) -> dict[str, Any]:
    """All objects as one list. Raises ConfigError for what Envoy Gateway has no field for."""
    _refuse(config, site)
    objects = [
        _object(site, "Backend", {"endpoints": [_endpoint(each) for each in endpoints(config, site)]}),
        _object(site, "EnvoyExtensionPolicy", _extension(config, site)),
        _object(site, "ClientTrafficPolicy", _client(config, site)),
        _object(site, "BackendTrafficPolicy", _backend(site)),
    ]
    return {"apiVersion": "v1", "kind": "List", "items": objects}


def _object(site: Site, kind: str, spec: Object) -> Object:
    metadata = {"name": NAME} if site.mesh.namespace is None else {"name": NAME, "namespace": site.mesh.namespace}
    return {"apiVersion": f"{GROUP}/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}


def _refuse(config: Config, site: Site) -> None:
    timeout_ms, extended_ms = config.envoy.message_timeout_ms, config.envoy.max_message_timeout_ms
    if extended_ms:
        longest_ms = max((config.semantic_deadline_ms(rule) for rule in config.rules), default=0)
        longest_ms += config.lookup.deadline_ms + config.lookup.flight_wait_ms
        needed_ms = max(timeout_ms, longest_ms + 1)
        raise ConfigError(
            "envoy.max_message_timeout_ms",
            f"is {extended_ms}, but Envoy Gateway extends no wait; write "
            f"`envoy: {{message_timeout_ms: {needed_ms}, max_message_timeout_ms: 0}}` into the sidecar's document",
        )
    if site.rules:
        raise ConfigError(
            "--rule", "Envoy Gateway's routes name no rule; let `match.routes` of the rule name the route"
        )
    if hidden := [name for name in _attributes(config) if not _SHOWN.fullmatch(name)]:
        raise ConfigError(
            "rules",
            f"need {listed(hidden, joint='and')}, which Envoy Gateway does not show; use routes, hosts or headers",
        )


def _attributes(config: Config) -> tuple[str, ...]:
    """What the rules need to be shown with a request or its answer."""
    named = [ROUTE_ATTRIBUTE, *Snapshot(config).wanted.attributes]
    if any(rule.match.clusters or rule.pin.clusters for rule in config.rules):
        named.append(CLUSTER_ATTRIBUTE)
    return tuple(dict.fromkeys(named))


def _endpoint(address: Address) -> Object:
    if isinstance(address, TcpAddress) and is_name(address.host):
        return {"fqdn": {"hostname": address.host, "port": address.port}}
    near = envoy_address(address)
    if near.pipe is not None:
        return {"unix": {"path": near.pipe.path}}
    assert near.socket_address is not None
    return {"ip": {"address": near.socket_address.address, "port": near.socket_address.port_value}}


def _extension(config: Config, site: Site) -> Object:
    namespaces = list(dict.fromkeys(namespace for namespace, *_ in Snapshot(config).wanted.metadata))
    readable = {"accessibleNamespaces": namespaces} if namespaces else {}
    return {
        "targetRefs": [_target("HTTPRoute", site.mesh.route)],
        "extProc": [
            {
                "backendRefs": [{"group": GROUP, "kind": "Backend", "name": NAME}],
                "backendSettings": {
                    "circuitBreaker": {
                        "maxConnections": CONNECTIONS_MAX,
                        "maxPendingRequests": CALLS_MAX,
                        "maxParallelRequests": CALLS_MAX,
                    },
                    "healthCheck": {
                        "active": {
                            "type": "GRPC",
                            "timeout": "1s",
                            "interval": "1s",
                            "unhealthyThreshold": 2,
                            "healthyThreshold": 1,
                        },
                        "panicThreshold": 0,
                    },
                    "loadBalancer": {"type": "LeastRequest"},
                },
                "failOpen": True,
                "messageTimeout": _duration(config.envoy.message_timeout_ms),
                "metadata": {**readable, "writableNamespaces": [METADATA_NAMESPACE]},
                "processingMode": {"allowModeOverride": True, "request": {"attributes": list(_attributes(config))}},
            }
        ],
    }


def _client(config: Config, site: Site) -> Object:
    return {
        "targetRefs": [_target("Gateway", site.mesh.gateway)],
        "connection": {"bufferLimit": buffer_bytes(config)},
        "timeout": {"http": {"streamIdleTimeout": IDLE}},
    }


def _backend(site: Site) -> Object:
    most = dict.fromkeys(("maxConnections", "maxPendingRequests", "maxParallelRequests"), CALLS_MAX)
    return {
        "targetRefs": [_target("HTTPRoute", site.mesh.route)],
        "circuitBreaker": most,
        "timeout": {"http": {"requestTimeout": "0s"}, "tcp": {"connectTimeout": f"{UPSTREAM_CONNECT_S}s"}},
    }


def _duration(milliseconds: int) -> str:
    # The schema takes five digits.
    return f"{milliseconds}ms" if milliseconds < 100_000 else f"{ceil(milliseconds / 1000)}s"


def _target(kind: str, name: str) -> Object:
    return {"group": "gateway.networking.k8s.io", "kind": kind, "name": name}
