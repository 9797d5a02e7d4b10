"""What Envoy Gateway's and the Gateway API's schemas say of the fields that `envoy/envoy-gateway.yaml` uses.

Copied out by hand, since no package has them: from `charts/gateway-crds-helm/templates/generated` of envoyproxy/gateway
(CRDs of 1.6 and later) and its `api/v1alpha1` types. Rules that a schema states as expressions are enums here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Schema = dict[str, Any]

_NAME = {"type": "string", "minLength": 1, "maxLength": 253}
_HOST = {"type": "string", "pattern": r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"}
_DURATION = {"type": "string", "pattern": r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"}
_COUNT = {"type": "integer", "minimum": 0, "maximum": 4294967295}
_PORT = {"type": "integer", "minimum": 0, "maximum": 65535}
_NUMBER = {"type": "integer", "minimum": 1}
_TEXTS = {"type": "array", "items": {"type": "string"}}


def _object(required: tuple[str, ...] = (), **properties: Schema) -> Schema:
    return {"type": "object", "required": list(required), "properties": properties, "additionalProperties": False}


def _list(items: Schema, most: int = 16) -> Schema:
    return {"type": "array", "minItems": 1, "maxItems": most, "items": items}


def _one_of(*words: str) -> Schema:
    return {"type": "string", "enum": list(words)}


def _targets(*kinds: str) -> Schema:
    named = {"group": _one_of("gateway.networking.k8s.io"), "kind": _one_of(*kinds), "name": _NAME}
    return _list(_object(("group", "kind", "name"), **named))


_BACKEND = _object(
    ("group", "kind", "name"), group=_one_of("gateway.envoyproxy.io"), kind=_one_of("Backend"), name=_NAME
)
_BREAKER = _object(maxConnections=_COUNT, maxPendingRequests=_COUNT, maxParallelRequests=_COUNT)
_BODY = _one_of("Streamed", "Buffered", "BufferedPartial", "FullDuplexStreamed")
_ATTRIBUTE = {
    "type": "string",
    "pattern": r"^(connection\.|source\.|destination\.|request\.|response\.|upstream\.|xds\.route_)[a-z_1-9]*$",
}
_SHOWN = _object(body=_BODY, attributes={"type": "array", "items": _ATTRIBUTE})
_ACTIVE = _object(
    ("type",),
    type=_one_of("HTTP", "TCP", "GRPC"),
    timeout=_DURATION,
    interval=_DURATION,
    unhealthyThreshold=_NUMBER,
    healthyThreshold=_NUMBER,
)
_SETTINGS = _object(
    circuitBreaker=_BREAKER,
    healthCheck=_object(active=_ACTIVE, panicThreshold={"type": "integer", "minimum": 0, "maximum": 100}),
    loadBalancer=_object(("type",), type=_one_of("LeastRequest", "RoundRobin", "Random", "ConsistentHash")),
)
_NAMESPACE = {"type": "string", "not": {"pattern": "^envoy.filters.http"}}
_EXT_PROC = _object(
    ("backendRefs",),
    backendRefs=_list(_BACKEND),
    backendSettings=_SETTINGS,
    failOpen={"type": "boolean"},
    messageTimeout=_DURATION,
    metadata=_object(
        accessibleNamespaces=_TEXTS, writableNamespaces={"type": "array", "maxItems": 8, "items": _NAMESPACE}
    ),
    processingMode=_object(allowModeOverride={"type": "boolean"}, request=_SHOWN, response=_SHOWN),
)
_ENDPOINT = _object(
    fqdn=_object(("hostname", "port"), hostname=_HOST, port=_PORT),
    ip=_object(("address", "port"), address={"type": "string", "minLength": 3, "maxLength": 45}, port=_PORT),
    unix=_object(("path",), path={"type": "string", "maxLength": 108}),
) | {"minProperties": 1, "maxProperties": 1}

_ANY = {"type": "object"}
"""Kubernetes' own: tests check it with Kubernetes' schemas."""
_DEPLOYMENT = _object(
    container=_object(volumeMounts={"type": "array"}),
    initContainers={"type": "array", "items": _ANY},
    pod=_object(securityContext=_ANY, volumes={"type": "array"}),
)
_ROUTE_RULE = _object(
    matches=_list(
        _object(path=_object(type=_one_of("Exact", "PathPrefix", "RegularExpression"), value={"type": "string"}))
    ),
    backendRefs=_list(_BACKEND),
)

SCHEMAS: Mapping[str, Schema] = {
    "Backend": _object(endpoints=_list(_ENDPOINT, 64)),
    "EnvoyExtensionPolicy": _object(targetRefs=_targets("Gateway", "HTTPRoute"), extProc=_list(_EXT_PROC)),
    "ClientTrafficPolicy": _object(
        targetRefs=_targets("Gateway", "ListenerSet"),
        connection=_object(bufferLimit={"type": "integer", "minimum": 1}),
        timeout=_object(http=_object(streamIdleTimeout=_DURATION)),
    ),
    "BackendTrafficPolicy": _object(
        targetRefs=_targets("Gateway", "HTTPRoute"),
        circuitBreaker=_BREAKER,
        timeout=_object(http=_object(requestTimeout=_DURATION), tcp=_object(connectTimeout=_DURATION)),
    ),
    "EnvoyProxy": _object(
        provider=_object(("type",), type=_one_of("Kubernetes"), kubernetes=_object(envoyDeployment=_DEPLOYMENT))
    ),
    "GatewayClass": _object(
        ("controllerName",),
        controllerName={"type": "string"},
        parametersRef=_object(
            ("group", "kind", "name"), group=_NAME, kind=_one_of("EnvoyProxy"), name=_NAME, namespace=_NAME
        ),
    ),
    "Gateway": _object(
        ("gatewayClassName", "listeners"),
        gatewayClassName=_NAME,
        listeners=_list(
            _object(
                ("name", "protocol", "port"), name=_NAME, protocol=_one_of("HTTP", "HTTPS", "TLS", "TCP"), port=_PORT
            )
        ),
    ),
    "HTTPRoute": _object(parentRefs=_list(_object(("name",), name=_NAME)), rules=_list(_ROUTE_RULE)),
}
