"""A whole Envoy configuration as types: listener, routes, the filter in its place, the two clusters, admin.

`envoy/envoy.yaml` is this for the defaults, with comments; a test holds it to that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import ip_address
from urllib.parse import urlsplit

from envoy_data_plane.envoy.config.accesslog.v3 import AccessLog
from envoy_data_plane.envoy.config.bootstrap.v3 import Admin, Bootstrap, BootstrapStaticResources
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.core.v3 import Address as EnvoyAddress
from envoy_data_plane.envoy.config.core.v3 import Pipe, SocketAddress, SubstitutionFormatString
from envoy_data_plane.envoy.config.listener.v3 import Filter, FilterChain, Listener
from envoy_data_plane.envoy.config.route.v3 import (
    Route,
    RouteAction,
    RouteActionUpgradeConfig,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
)
from envoy_data_plane.envoy.extensions.access_loggers.file.v3 import FileAccessLog
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpFilter,
)
from envoy_data_plane.google.protobuf import Any, Struct

from ai_cache_extproc.cli.envoy_clusters import UPSTREAM_CLUSTER, sidecar_cluster, upstream_cluster
from ai_cache_extproc.cli.envoy_filter import ext_proc_filter, filter_off, rule_named
from ai_cache_extproc.config.addresses import Address, TcpAddress, UnixAddress
from ai_cache_extproc.config.model import Config
from ai_cache_extproc.errors import ConfigError

BUFFER_BYTES_MIN = 8 * 1024 * 1024
BUFFER_BYTES_MAX = 2**32 - 1
"""What fits into the field."""
IDLE_S = 900
CA_FILE = "/etc/ssl/certs/ca-certificates.crt"
PORTS = {"http": 80, "https": 443}

ACCESS_LOG = {
    "start": "%START_TIME%",
    "method": "%REQ(:METHOD)%",
    "path": "%PATH(NQ)%",
    "route": "%ROUTE_NAME%",
    "code": "%RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "upstream_failure": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    "bytes": "%BYTES_SENT%",
    "ms": "%DURATION%",
    "ai_cache": "%DYNAMIC_METADATA(ai_cache)%",
    "ext_proc": "%FILTER_STATE(envoy.filters.http.ext_proc:PLAIN)%",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """The LLM service. prefix: stands where clients write `/v1/`; empty if it is the same there."""

    host: str
    port: int
    tls: bool = False
    prefix: str = ""

    @property
    def named(self) -> bool:
        """Whether the host is a name that has to be looked up."""
        return self.host == "localhost" or is_name(self.host)


LISTEN = TcpAddress("127.0.0.1", 10000)
ADMIN = TcpAddress("127.0.0.1", 9902)
UPSTREAM = Upstream(host="127.0.0.1", port=18081)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """Where a gateway's objects stand in Kubernetes, and what they attach to.

    selector: labels of Istio's gateway pods. before: the HTTP filter that ours precedes. gateway, route: of Envoy Gateway.
    """

    namespace: str | None = None
    selector: Mapping[str, str] = field(default_factory=lambda: {"istio": "ingressgateway"})
    before: str = "envoy.filters.http.router"
    gateway: str = "llm"
    route: str = "llm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where things stand. The defaults are those of `envoy/envoy.yaml`.

    sidecar: where Envoy finds the sidecar, in place of what it listens on. rules: the rule that a route names.
    """

    listen: TcpAddress = LISTEN
    admin: TcpAddress = ADMIN
    upstream: Upstream = UPSTREAM
    sidecar: TcpAddress | None = None
    rules: Mapping[str, str] = field(default_factory=dict)
    ca_file: str = CA_FILE
    access_log: str = "/dev/stdout"
    mesh: Mesh = Mesh()


def read_upstream(url: str) -> Upstream:
    """Take `http[s]://HOST[:PORT][/PREFIX]` apart. Raises ConfigError for anything else."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigError("upstream", f"{url!r} is no URL ({error}); write https://HOST[:PORT]") from error
    if parts.scheme not in PORTS or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise ConfigError("upstream", f"{url!r} is not usable; write https://HOST[:PORT], or http:// without TLS")
    prefix = parts.path.rstrip("/")
    return Upstream(
        host=parts.hostname,
        port=PORTS[parts.scheme] if port is None else port,
        tls=parts.scheme == "https",
        prefix="" if prefix in {"", "/v1"} else f"{prefix}/",
    )


def bootstrap(config: Config, site: Site) -> Bootstrap:
    """What `envoy -c` takes."""
    upstream = site.upstream
    return Bootstrap(
        admin=Admin(address=envoy_address(site.admin)),
        static_resources=BootstrapStaticResources(
            listeners=[_listener(config, site)],
            clusters=[
                sidecar_at(config, site),
                upstream_cluster(
                    envoy_address(TcpAddress(upstream.host, upstream.port)),
                    named=upstream.named,
                    server_name=upstream.host if upstream.named else "",
                    ca_file=site.ca_file if upstream.tls else None,
                ),
            ],
        ),
    )


def sidecar_at(config: Config, site: Site) -> Cluster:
    """The sidecar's cluster: an endpoint for each worker, or the name under which they are found."""
    addresses = endpoints(config, site)
    named = any(isinstance(address, TcpAddress) and is_name(address.host) for address in addresses)
    return sidecar_cluster([envoy_address(address) for address in addresses], named=named)


def endpoints(config: Config, site: Site) -> Sequence[Address]:
    """Where the sidecar's workers are reached."""
    if site.sidecar is not None:
        return (site.sidecar,)
    return tuple(address for own in config.endpoints for address in own)


def buffer_bytes(config: Config) -> int:
    """What Envoy may hold of one request: twice what the sidecar looks at, for the limit is soft."""
    return min(max(BUFFER_BYTES_MIN, 2 * config.limits.request_bytes_max), BUFFER_BYTES_MAX)


def is_name(host: str) -> bool:
    """Whether a host is a name that has to be looked up."""
    try:
        ip_address(host)
    except ValueError:
        return host != "localhost"
    return False


def envoy_address(address: Address) -> EnvoyAddress:
    """Where Envoy connects to reach who listens at `address`: every interface includes the loopback."""
    match address:
        case UnixAddress(path):
            return EnvoyAddress(pipe=Pipe(path=path))
        case TcpAddress(host, port):
            near = {"0.0.0.0": "127.0.0.1", "::": "::1", "localhost": "127.0.0.1"}.get(host, host)  # noqa: S104
            return EnvoyAddress(socket_address=SocketAddress(address=near, port_value=port))


def _listener(config: Config, site: Site) -> Listener:
    manager = HttpConnectionManager(
        stat_prefix="llm",
        stream_idle_timeout=timedelta(seconds=IDLE_S),
        access_log=[_access_log(site.access_log)],
        route_config=RouteConfiguration(
            name="llm",
            virtual_hosts=[VirtualHost(name="llm", domains=["*"], routes=_routes(site))],
        ),
        http_filters=[
            ext_proc_filter(config),
            HttpFilter(name="envoy.filters.http.router", typed_config=Any.pack(Router())),
        ],
    )
    address = SocketAddress(address=site.listen.host, port_value=site.listen.port)
    filters = [Filter(name="envoy.filters.network.http_connection_manager", typed_config=Any.pack(manager))]
    return Listener(
        name="llm",
        address=EnvoyAddress(socket_address=address),
        per_connection_buffer_limit_bytes=buffer_bytes(config),
        filter_chains=[FilterChain(filters=filters)],
    )


def _access_log(path: str) -> AccessLog:
    form = SubstitutionFormatString(json_format=Struct.from_dict(ACCESS_LOG))
    return AccessLog(name="envoy.access_loggers.file", typed_config=Any.pack(FileAccessLog(path=path, log_format=form)))


def _routes(site: Site) -> list[Route]:
    upstream = site.upstream
    routes = [
        Route(name="openai", match=RouteMatch(prefix="/v1/"), route=_action(upstream, rewrite=upstream.prefix)),
        Route(name="azure-openai", match=RouteMatch(prefix="/openai/"), route=_action(upstream)),
        Route(name="gemini", match=RouteMatch(prefix="/v1beta/"), route=_action(upstream)),
        Route(name="native", match=RouteMatch(prefix="/api/"), route=_action(upstream)),
        Route(name="compatible-mode", match=RouteMatch(prefix="/compatible-mode/"), route=_action(upstream)),
    ]
    names = [route.name for route in routes]
    if strangers := [name for name in site.rules if name not in names]:
        raise ConfigError("--rule", f"no route is called {strangers[0]!r}; those of a bootstrap are {', '.join(names)}")
    for route in routes:
        if route.name in site.rules:
            route.typed_per_filter_config = rule_named(site.rules[route.name])
    rest = Route(
        name="rest", match=RouteMatch(prefix="/"), route=_action(upstream), typed_per_filter_config=filter_off()
    )
    return [*routes, rest]


def _action(upstream: Upstream, *, rewrite: str = "") -> RouteAction:
    return RouteAction(
        cluster=UPSTREAM_CLUSTER,
        prefix_rewrite=rewrite,
        # A provider answers for its own name only.
        auto_host_rewrite=True if upstream.named else None,
        timeout=timedelta(0),
        upgrade_configs=[RouteActionUpgradeConfig(upgrade_type="websocket")],
    )
