"""What is dangerous around the filter: other filters, routes, the listener, the sidecar's cluster. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from ai_cache_extproc.cli.dangers import Danger
from ai_cache_extproc.cli.envoy_checks_filter import BUFFER_BYTES
from ai_cache_extproc.cli.envoy_names import RULE_METADATA
from ai_cache_extproc.cli.envoy_reading import Message, Site, each, milliseconds, number, part, text
from ai_cache_extproc.cli.words import duration, listed, size
from ai_cache_extproc.config.model import Config

CALLS = 1024
ROUTE_TIMEOUT_MS = 15_000.0
"""Envoy's own defaults."""
ANSWER_MS_MIN = 60_000
"""Answers of large models often take longer than a minute."""
TRIED_MIN = (1, 36)
"""The oldest Envoy that this was run on."""

_DECIDES = {
    "JwtAuthentication",
    "ExtAuthz",
    "RBAC",
    "ApiKeyAuth",
    "BasicAuth",
    "OAuth2",
    "RateLimit",
    "LocalRateLimit",
    "RateLimitQuotaFilterConfig",
}
"""Filters that decide whether a caller may ask; a hit never reaches those behind the cache."""
_SIGNS = {"CredentialInjector", "AwsRequestSigning", "GcpAuthnFilterConfig"}
"""Filters that put the provider's credential in the place of the caller's."""
_PLUGIN = "wasmplugin/"
_PLUGIN_DECIDES = ("-auth", "oidc", "opa", "quota", "rate-limit", "ratelimit", "ip-restriction")
_PLUGIN_SIGNS = ("ai-proxy",)
"""Parts of the names of Higress' plugins that do the same; their configuration comes later, so the name is all there is."""
_CHAT = "/v1/chat/completions"


def order(site: Site, _config: Config) -> Iterator[Danger]:
    """Who may ask is settled before the cache, and who pays behind it."""
    behind = [name for name in site.after if name in _DECIDES or _plugin(name, _PLUGIN_DECIDES)]
    if behind:
        yield Danger(
            f"{listed(behind, joint='and')} stand behind the cache: a hit is answered without asking them",
            "put them before the ext_proc filter",
        )
    ahead = [name for name in site.before if name in _SIGNS or _plugin(name, _PLUGIN_SIGNS)]
    if ahead:
        yield Danger(
            f"{listed(ahead, joint='and')} stand before the cache: with the provider's credential all callers are one, "
            "and share answers",
            "put them behind the ext_proc filter",
        )


def _plugin(name: str, parts: tuple[str, ...]) -> bool:
    return _PLUGIN in name and any(each_ in name for each_ in parts)


def buffer(site: Site, config: Config) -> Iterator[Danger]:
    """The listener bounds how much of a question is seen."""
    if site.listener is None:
        return
    limit_bytes = number(site.listener, "per_connection_buffer_limit_bytes", default=BUFFER_BYTES)
    if limit_bytes < config.limits.request_bytes_max:
        yield Danger(
            f"per_connection_buffer_limit_bytes is {size(limit_bytes)}: longer questions pass uncached (partial_body), "
            f"though the sidecar takes {size(config.limits.request_bytes_max)}",
            "`per_connection_buffer_limit_bytes: 8388608`, or lower `limits.request_bytes_max`",
        )


def unknown_cluster(site: Site, _config: Config) -> Iterator[Danger]:
    """The filter must ask somebody."""
    if site.clusters is not None and site.cluster is None:
        yield Danger(
            f'cluster "{site.cluster_name}", which the filter asks, is not in this document',
            "name the sidecar's cluster in `grpc_service.envoy_grpc.cluster_name`",
        )


def breaker(site: Site, _config: Config) -> Iterator[Danger]:
    """Every answer under way is one request to the sidecar."""
    if site.cluster is None:
        return
    thresholds = each(part(site.cluster, "circuit_breakers"), "thresholds")
    # What names no priority is for the default one.
    default = next((each for each in thresholds if each.get("priority", "DEFAULT") in {"DEFAULT", 0}), {})
    for name in ("max_requests", "max_pending_requests"):
        calls = number(default, name, default=CALLS)
        if calls <= CALLS:
            yield Danger(
                f'cluster "{site.cluster_name}": {name} is {calls}; every answer under way is one request for its whole '
                "life, and those beyond pass uncached without a word",
                f"`circuit_breakers: {{thresholds: [{{{name}: 50000}}]}}`",
            )


def speaks_http1(site: Site, _config: Config) -> Iterator[Danger]:
    """What gRPC speaks."""
    cluster = site.cluster
    if cluster is None or "http2_protocol_options" in cluster:
        return
    options = part(cluster, "typed_extension_protocol_options")
    http = part(options, "envoy.extensions.upstreams.http.v3.HttpProtocolOptions")
    explicit = part(http, "explicit_http_config")
    if "http2_protocol_options" not in explicit:
        yield Danger(
            f'cluster "{site.cluster_name}" does not speak HTTP/2, which gRPC needs: the sidecar is never reached',
            "`explicit_http_config: {http2_protocol_options: {}}` in its HttpProtocolOptions",
        )


def workers(site: Site, config: Config) -> Iterator[Danger]:
    """Each worker process is an endpoint of its own, and the idlest one is asked."""
    cluster = site.cluster
    if cluster is None:
        return
    groups = each(part(cluster, "load_assignment"), "endpoints")
    found = [str(part(part(end, "endpoint"), "address")) for group in groups for end in each(group, "lb_endpoints")]
    listens = sum(len(own) for own in config.endpoints)
    # Names are looked up: how many addresses they have cannot be seen here.
    if cluster.get("type", "STATIC") in {"STATIC", 0} and len(set(found)) < listens:
        yield Danger(
            f'cluster "{site.cluster_name}" has {len(set(found))} endpoint{"" if len(set(found)) == 1 else "s"}, and the '
            f"sidecar listens on {listens} addresses: the other workers are never asked",
            "one endpoint for each, as `aicache envoy-config` prints them",
        )
    chosen = cluster.get("lb_policy", "ROUND_ROBIN")
    if len(found) > 1 and "load_balancing_policy" not in cluster and chosen not in {"LEAST_REQUEST", 1}:
        yield Danger(
            f'cluster "{site.cluster_name}": lb_policy is {chosen}: a busy worker gets as much as an idle one',
            "`lb_policy: LEAST_REQUEST`",
        )


def health(site: Site, _config: Config) -> Iterator[Danger]:
    """A worker that hangs costs every request that is sent to it the whole timeout."""
    cluster = site.cluster
    if cluster is None:
        return
    if not list(each(cluster, "health_checks")):
        yield Danger(
            f'cluster "{site.cluster_name}" has no health_checks: a worker that hangs is asked again and again, and each '
            "request waits for message_timeout",
            "`health_checks` with `grpc_health_check: {}`, as shipped",
        )
    elif part(part(cluster, "common_lb_config"), "healthy_panic_threshold").get("value", 0) or (
        "healthy_panic_threshold" not in part(cluster, "common_lb_config")
    ):
        yield Danger(
            f'cluster "{site.cluster_name}" panics: with half of the workers down, Envoy asks the dead ones too',
            "`common_lb_config: {healthy_panic_threshold: {value: 0}}`",
        )


def routes(site: Site, config: Config) -> Iterator[Danger]:
    """What routes say of the filter, and what they do to answers that take long."""
    if not site.routes:
        return
    asking = site.asking
    if not asking:
        yield Danger(
            "no route asks the sidecar: the filter is off on all of them", "leave `disabled` out where LLMs are"
        )
    for route in site.routes:
        if route not in asking and (name := _chat(route)) is not None:
            yield Danger(f"route {name} takes {_CHAT}, and the filter is off there", "leave `disabled` out")
    for route in asking:
        yield from _overridden(site, route, config)
    nameless = [route for route in asking if not text(route, "name")]
    if nameless and len(asking) > 1:
        yield Danger(
            f"{len(nameless)} of {len(asking)} routes have no name: they are one to the sidecar, and their callers share "
            "answers",
            "give each route a `name`",
        )


def _chat(route: Message) -> str | None:
    """The name of a route that plainly takes LLM calls."""
    match = part(route, "match")
    prefix = text(match, "prefix") or text(match, "path_separated_prefix")
    # What takes everything else takes nothing in particular.
    takes = text(match, "path") == _CHAT or (prefix not in {"", "/"} and _CHAT.startswith(prefix))
    return f'"{text(route, "name")}"' if takes else None


def _overridden(site: Site, route: Message, config: Config) -> Iterator[Danger]:
    said = part(site.override(route) or {}, "overrides")
    name = f'route "{text(route, "name")}"'
    if said.get("failure_mode_allow") is False:
        yield Danger(
            f"{name}: failure_mode_allow is false: while the sidecar is away, its requests fail", "leave it out"
        )
    named = [
        text(each_, "value") for each_ in each(said, "grpc_initial_metadata") if text(each_, "key") == RULE_METADATA
    ]
    if unknown := [rule for rule in named if rule not in {each_.name for each_ in config.rules}]:
        yield Danger(
            f'{name} names the rule "{unknown[0]}", which the sidecar does not have: its requests are bypassed (no_rule)',
            "correct the name, or add the rule",
        )


def cuts(site: Site, _config: Config) -> Iterator[Danger]:
    """Routes that end long answers."""
    short = []
    for route in site.asking:
        action = part(route, "route")
        timeout_ms = milliseconds(action, "timeout", default=ROUTE_TIMEOUT_MS)
        if action and 0 < timeout_ms < ANSWER_MS_MIN:
            short.append(f'"{text(route, "name")}" ({duration(timeout_ms / 1000)})')
    if short:
        yield Danger(
            f"routes {listed(short, joint='and')} end answers that take longer (15 s is Envoy's default), and what was cut "
            "is never kept",
            "`timeout: 0s`",
        )


def too_old(site: Site, _config: Config) -> Iterator[Danger]:
    """What no test ever met."""
    if site.version is not None and site.version < TRIED_MIN:
        yield Danger(
            f"this is Envoy {site.version[0]}.{site.version[1]}: the cache was never run on one before 1.36",
            "take a later Envoy",
        )
