"""The two clusters as types: the sidecar's endpoints, and the LLM service behind Envoy."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from envoy_data_plane.envoy.config.cluster.v3 import (
    CircuitBreakers,
    CircuitBreakersThresholds,
    Cluster,
    ClusterCommonLbConfig,
    ClusterDiscoveryType,
    ClusterDnsLookupFamily,
    ClusterLbPolicy,
)
from envoy_data_plane.envoy.config.core.v3 import (
    Address,
    DataSource,
    HealthCheck,
    HealthCheckGrpcHealthCheck,
    Http2ProtocolOptions,
    TransportSocket,
)
from envoy_data_plane.envoy.config.endpoint.v3 import (
    ClusterLoadAssignment,
    Endpoint,
    LbEndpoint,
    LocalityLbEndpoints,
)
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import (
    CertificateValidationContext,
    CommonTlsContext,
    UpstreamTlsContext,
)
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import (
    HttpProtocolOptions,
    HttpProtocolOptionsExplicitHttpConfig,
)
from envoy_data_plane.envoy.type.v3 import Percent
from envoy_data_plane.google.protobuf import Any

from ai_cache_extproc.cli.envoy_names import SIDECAR_CLUSTER

UPSTREAM_CLUSTER = "llm"
CALLS_MAX = 50_000
UPSTREAM_CONNECT_S = 2

_PROTOCOL = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def sidecar_cluster(addresses: Sequence[Address], *, named: bool) -> Cluster:
    """One endpoint for each address. named: they are looked up, and each answer is an endpoint."""
    http2 = HttpProtocolOptions(
        explicit_http_config=HttpProtocolOptionsExplicitHttpConfig(http2_protocol_options=Http2ProtocolOptions())
    )
    cluster = Cluster(
        name=SIDECAR_CLUSTER,
        type=ClusterDiscoveryType.STRICT_DNS if named else ClusterDiscoveryType.STATIC,
        connect_timeout=timedelta(milliseconds=250),
        lb_policy=ClusterLbPolicy.LEAST_REQUEST,
        common_lb_config=ClusterCommonLbConfig(healthy_panic_threshold=Percent(value=0)),
        circuit_breakers=_circuit_breakers(connections=1024),
        health_checks=[
            HealthCheck(
                timeout=timedelta(seconds=1),
                interval=timedelta(seconds=1),
                no_traffic_interval=timedelta(seconds=1),
                unhealthy_threshold=2,
                healthy_threshold=1,
                grpc_health_check=HealthCheckGrpcHealthCheck(),
            )
        ],
        typed_extension_protocol_options={_PROTOCOL: Any.pack(http2)},
        load_assignment=_assignment(SIDECAR_CLUSTER, addresses),
    )
    if named:
        cluster.dns_lookup_family = ClusterDnsLookupFamily.V4_PREFERRED
    return cluster


def upstream_cluster(address: Address, *, named: bool, server_name: str, ca_file: str | None) -> Cluster:
    """The LLM service. named: its host is looked up. ca_file: who vouches for it; None for plain HTTP."""
    cluster = Cluster(
        name=UPSTREAM_CLUSTER,
        type=ClusterDiscoveryType.LOGICAL_DNS if named else ClusterDiscoveryType.STATIC,
        connect_timeout=timedelta(seconds=UPSTREAM_CONNECT_S),
        circuit_breakers=_circuit_breakers(connections=CALLS_MAX),
        load_assignment=_assignment(UPSTREAM_CLUSTER, [address]),
    )
    if named:
        cluster.dns_lookup_family = ClusterDnsLookupFamily.V4_PREFERRED
    if ca_file is not None:
        cluster.transport_socket = _tls(server_name, ca_file)
    return cluster


def _circuit_breakers(*, connections: int) -> CircuitBreakers:
    threshold = CircuitBreakersThresholds(
        max_connections=connections, max_pending_requests=CALLS_MAX, max_requests=CALLS_MAX
    )
    return CircuitBreakers(thresholds=[threshold])


def _assignment(cluster: str, addresses: Sequence[Address]) -> ClusterLoadAssignment:
    endpoints = [LbEndpoint(endpoint=Endpoint(address=address)) for address in addresses]
    return ClusterLoadAssignment(cluster_name=cluster, endpoints=[LocalityLbEndpoints(lb_endpoints=endpoints)])


def _tls(server_name: str, ca_file: str) -> TransportSocket:
    validation = CertificateValidationContext(trusted_ca=DataSource(filename=ca_file))
    context = UpstreamTlsContext(
        sni=server_name,
        # The certificate must be for that name; without a name (an address) only the chain is checked.
        auto_sni_san_validation=bool(server_name),
        common_tls_context=CommonTlsContext(validation_context=validation),
    )
    return TransportSocket(name="envoy.transport_sockets.tls", typed_config=Any.pack(context))
