"""What is dangerous in an Envoy configuration, each with its way out. Pure: one small function for each danger.

Figures and names come from the sidecar's own configuration: what suits one may not suit another.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from ai_cache_extproc.cli.dangers import Danger
from ai_cache_extproc.cli.envoy_names import needed_headers
from ai_cache_extproc.cli.envoy_reading import Site, each, milliseconds, number, part, text, words
from ai_cache_extproc.cli.mutations import may_change
from ai_cache_extproc.cli.words import duration, listed, size
from ai_cache_extproc.config.model import Config
from ai_cache_extproc.config.snapshot import Snapshot
from ai_cache_extproc.extproc.codec import ROUTE_ATTRIBUTE

Check = Callable[[Site, Config], Iterator[Danger]]

MESSAGE_TIMEOUT_MS = 200.0
BUFFER_BYTES = 1024 * 1024
CALLS = 1024
"""Envoy's own defaults."""

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
_OURS = ("x-ai-cache-status", "x-ai-cache-reason", "cache-status", "age", "content-type", "accept-encoding")
_BODY_FIELDS = ("request_body_mode", "response_body_mode")
_BODIES = ("NONE", "STREAMED", "BUFFERED", "BUFFERED_PARTIAL", "FULL_DUPLEX_STREAMED", "GRPC")


def envoy_dangers(site: Site, config: Config) -> Iterator[Danger]:
    """Everything that is dangerous about the filter and what stands around it."""
    for check in CHECKS:
        for danger in check(site, config):
            yield Danger(f"{site.where}: {danger.what}", danger.fix)


def _fails_closed(site: Site, _config: Config) -> Iterator[Danger]:
    if site.filter.get("failure_mode_allow") is not True:
        yield Danger(
            "failure_mode_allow is not true: while the sidecar is away, every request fails",
            "`failure_mode_allow: true`",
        )


def _times_out(site: Site, config: Config) -> Iterator[Danger]:
    counted_on = config.envoy
    timeout_ms = milliseconds(site.filter, "message_timeout", default=MESSAGE_TIMEOUT_MS)
    if timeout_ms < counted_on.message_timeout_ms:
        yield Danger(
            f"message_timeout is {duration(timeout_ms / 1000)}, and the sidecar counts on "
            f"{duration(counted_on.message_timeout_ms / 1000)}: Envoy gives up on answers that are on their way"
            f"{_waits(config)}",
            f"`message_timeout: {counted_on.message_timeout_ms / 1000:g}s`, or lower `envoy.message_timeout_ms`",
        )
    longest_ms = milliseconds(site.filter, "max_message_timeout", default=0)
    if longest_ms < counted_on.max_message_timeout_ms:
        yield Danger(
            f"max_message_timeout is {duration(longest_ms / 1000)}, and the sidecar counts on "
            f"{duration(counted_on.max_message_timeout_ms / 1000)}: waits are not extended{_waits(config)}",
            f"`max_message_timeout: {counted_on.max_message_timeout_ms / 1000:g}s`, or lower "
            "`envoy.max_message_timeout_ms`",
        )


def _waits(config: Config) -> str:
    """What takes longer than a lookup, in brackets; empty where nothing does."""
    parts = ["the flight wait"] if config.lookup.flight_wait_ms else []
    if any(rule.enabled and "semantic" in rule.layers for rule in config.rules):
        parts.append("the semantic search")
    return f" (needed for {listed(parts, joint='and')})" if parts else ""


def _asks_for_bodies(site: Site, _config: Config) -> Iterator[Danger]:
    modes = part(site.filter, "processing_mode")
    for name in _BODY_FIELDS:
        mode = _mode(modes.get(name))
        if mode == "NONE":
            continue
        what = "every body is shown to the sidecar, of other traffic too"
        if mode == "BUFFERED":
            what = "bodies above the buffer are answered 413, in spite of failure_mode_allow"
        elif mode in {"FULL_DUPLEX_STREAMED", "GRPC"}:
            what = "nothing is looked up or kept, and Envoy allows no failure_mode_allow with it"
        yield Danger(f"{name} is {mode}: {what}", f"`{name}: NONE`; the sidecar asks for the bodies that it needs")
    if modes.get("request_header_mode") in {"SKIP", 2}:
        yield Danger("request_header_mode is SKIP: the sidecar is asked nothing", "`request_header_mode: SEND`")


def _mode(value: object) -> str:
    if isinstance(value, int) and 0 <= value < len(_BODIES):
        return _BODIES[value]
    return value if isinstance(value, str) else "NONE"


def _forbids_overrides(site: Site, _config: Config) -> Iterator[Danger]:
    if site.filter.get("allow_mode_override") is not True:
        yield Danger(
            "allow_mode_override is not true: the sidecar never sees a body, so nothing is ever kept",
            "`allow_mode_override: true`",
        )
    elif site.filter.get("allowed_override_modes"):
        yield Danger(
            "allowed_override_modes bounds what the sidecar may ask for: what it does not list is ignored without a word",
            "leave it out",
        )


def _is_muted(site: Site, _config: Config) -> Iterator[Danger]:
    if site.filter.get("disable_immediate_response") is True:
        yield Danger("disable_immediate_response is true: every hit is a failure", "leave it out")
    if site.filter.get("observability_mode") is True:
        yield Danger("observability_mode is true: what the sidecar says is ignored", "leave it out")


def _mutations(site: Site, config: Config) -> Iterator[Danger]:
    rules = part(site.filter, "mutation_rules")
    fix = f'`mutation_rules: {{disallow_all: true, allow_expression: {{regex: "{may_change(config)}"}}}}`'
    allowed = text(part(rules, "allow_expression"), "regex")
    if rules.get("disallow_all") is not True:
        yield Danger(
            "mutation_rules do not say disallow_all: whoever answers as the sidecar may change any header", fix
        )
    elif lacking := [name for name in _OURS if not _matches(allowed, name)]:
        yield Danger(f"mutation_rules do not let the sidecar change {listed(lacking, joint='and')}", fix)


def _matches(expression: str, name: str) -> bool:
    try:
        return re.fullmatch(expression, name) is not None
    except re.error:
        # Envoy's syntax (RE2) has forms that ours lacks.
        return True


def _forwards(site: Site, config: Config) -> Iterator[Danger]:
    rules = part(site.filter, "forward_rules")
    fix = "take `forward_rules` from `aicache envoy-config`"
    patterns = list(each(part(rules, "allowed_headers"), "patterns"))
    if not patterns:
        yield Danger("forward_rules list no allowed_headers: the sidecar is shown every header, secrets too", fix)
        return
    lacking = [name for name in needed_headers(config) if not any(_allows(pattern, name) for pattern in patterns)]
    if lacking:
        yield Danger(f"forward_rules hold back {listed(lacking, joint='and')}, which the sidecar needs to see", fix)


def _allows(pattern: object, name: str) -> bool:
    """Whether a StringMatcher matches; one of a kind unknown here is taken to."""
    if not isinstance(pattern, dict):
        return False
    tests: dict[str, Callable[[str], bool]] = {
        "exact": lambda word: name == word.lower(),
        "prefix": lambda word: name.startswith(word.lower()),
        "suffix": lambda word: name.endswith(word.lower()),
        "contains": lambda word: word.lower() in name,
    }
    for test, matches in tests.items():
        if isinstance(word := pattern.get(test), str):
            return matches(word)
    return _matches(text(part(pattern, "safe_regex"), "regex"), name) if "safe_regex" in pattern else True


def _attributes(site: Site, config: Config) -> Iterator[Danger]:
    shown = words(site.filter, "request_attributes")
    if ROUTE_ATTRIBUTE not in shown:
        yield Danger(
            f"request_attributes lack {ROUTE_ATTRIBUTE}: callers on different routes share answers",
            f"`request_attributes: [{ROUTE_ATTRIBUTE}, xds.cluster_name]`",
        )
    wanted = Snapshot(config).wanted
    if lacking := [name for name in wanted.attributes if name not in shown and name != ROUTE_ATTRIBUTE]:
        yield Danger(
            f"request_attributes lack {listed(lacking, joint='and')}, by which rules know their callers",
            "add what is missing",
        )
    forwarded = part(part(site.filter, "metadata_options"), "forwarding_namespaces")
    namespaces = dict.fromkeys(namespace for namespace, *_ in wanted.metadata)
    if missing := [name for name in namespaces if name not in words(forwarded, "untyped")]:
        yield Danger(
            f"metadata_options.forwarding_namespaces lack {listed(missing, joint='and')}, by which rules know their "
            "callers",
            "add what is missing to `untyped`",
        )


def _order(site: Site, _config: Config) -> Iterator[Danger]:
    behind = [name for name in site.after if name in _DECIDES]
    if behind:
        yield Danger(
            f"{listed(behind, joint='and')} stand behind the cache: a hit is answered without asking them",
            "put them before the ext_proc filter",
        )
    ahead = [name for name in site.before if name in _SIGNS]
    if ahead:
        yield Danger(
            f"{listed(ahead, joint='and')} stand before the cache: with the provider's credential all callers are one, "
            "and share answers",
            "put them behind the ext_proc filter",
        )


def _buffer(site: Site, config: Config) -> Iterator[Danger]:
    if site.listener is None:
        return
    limit_bytes = number(site.listener, "per_connection_buffer_limit_bytes", default=BUFFER_BYTES)
    if limit_bytes < config.limits.request_bytes_max:
        yield Danger(
            f"per_connection_buffer_limit_bytes is {size(limit_bytes)}: longer questions pass uncached (partial_body), "
            f"though the sidecar takes {size(config.limits.request_bytes_max)}",
            "`per_connection_buffer_limit_bytes: 8388608`, or lower `limits.request_bytes_max`",
        )


def _unknown_cluster(site: Site, _config: Config) -> Iterator[Danger]:
    if site.clusters is not None and site.cluster is None:
        yield Danger(
            f'cluster "{site.cluster_name}", which the filter asks, is not in this document',
            "name the sidecar's cluster in `grpc_service.envoy_grpc.cluster_name`",
        )


def _breaker(site: Site, _config: Config) -> Iterator[Danger]:
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


def _speaks_http1(site: Site, _config: Config) -> Iterator[Danger]:
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


CHECKS: tuple[Check, ...] = (
    _fails_closed,
    _times_out,
    _asks_for_bodies,
    _forbids_overrides,
    _is_muted,
    _mutations,
    _forwards,
    _attributes,
    _order,
    _buffer,
    _unknown_cluster,
    _breaker,
    _speaks_http1,
)
