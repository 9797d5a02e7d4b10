"""What is dangerous in the ext_proc filter itself, each with its way out. Pure: one small function for each danger.

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
from ai_cache_extproc.extproc.codec import CLUSTER_ATTRIBUTE, METADATA_NAMESPACE, ROUTE_ATTRIBUTE

MESSAGE_TIMEOUT_MS = 200.0
BUFFER_BYTES = 1024 * 1024
"""Envoy's own defaults."""
STATIC_BUFFER_BYTES = 32 * 1024 * 1024
"""Where all bodies are held, those that no longer fit are refused: it must be more than anybody sends."""

_OURS = ("x-ai-cache-status", "x-ai-cache-reason", "cache-status", "age", "content-type", "accept-encoding")
_BODY_FIELDS = ("request_body_mode", "response_body_mode")
_BODIES = ("NONE", "STREAMED", "BUFFERED", "BUFFERED_PARTIAL", "FULL_DUPLEX_STREAMED", "GRPC")
_HEADERS = ("DEFAULT", "SEND", "SKIP")
_DUPLEX = {"FULL_DUPLEX_STREAMED", "GRPC"}


def fails_closed(site: Site, _config: Config) -> Iterator[Danger]:
    """Failures of the sidecar must not be those of requests."""
    if site.filter.get("failure_mode_allow") is not True:
        yield Danger(
            "failure_mode_allow is not true: while the sidecar is away, every request fails",
            "`failure_mode_allow: true`",
        )


def times_out(site: Site, config: Config) -> Iterator[Danger]:
    """Envoy must wait for as long as the sidecar counts on."""
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


def asks_for_bodies(site: Site, config: Config) -> Iterator[Danger]:
    """Bodies that are shown without being asked for; all of them, where the sidecar may not ask."""
    modes = part(site.filter, "processing_mode")
    asked = [_mode(modes.get(name), _BODIES) for name in _BODY_FIELDS]
    if site.filter.get("allow_mode_override") is not True and asked != ["NONE", "NONE"]:
        yield from _static(site, config, *asked)
    else:
        for name, mode in zip(_BODY_FIELDS, asked, strict=True):
            if mode == "NONE":
                continue
            what = "every body is shown to the sidecar, of other traffic too"
            if mode == "BUFFERED":
                what = "bodies above the buffer are answered 413, in spite of failure_mode_allow"
            elif mode in _DUPLEX:
                what = "nothing is looked up or kept, and Envoy allows no failure_mode_allow with it"
            yield Danger(f"{name} is {mode}: {what}", f"`{name}: NONE`; the sidecar asks for the bodies that it needs")
    if _mode(modes.get("request_header_mode"), _HEADERS) == "SKIP":
        yield Danger("request_header_mode is SKIP: the sidecar is asked nothing", "`request_header_mode: SEND`")


def _static(site: Site, _config: Config, request: str, response: str) -> Iterator[Danger]:
    """Modes that are fixed: the way for Envoys that allow no overrides, as `envoy-static-modes.yaml` has it."""
    spoilt = {
        "NONE": "the sidecar never sees a question",
        "STREAMED": "the upstream is asked for hits too",
        "BUFFERED_PARTIAL": "of bodies above the buffer, some never arrive",
        "FULL_DUPLEX_STREAMED": "nothing is looked up or kept, and Envoy allows no failure_mode_allow with it",
        "GRPC": "nothing is looked up or kept, and Envoy allows no failure_mode_allow with it",
    }
    if request in spoilt:
        yield Danger(f"request_body_mode is {request}: {spoilt[request]}", "`request_body_mode: BUFFERED`")
    elif site.listener is not None:
        limit_bytes = number(site.listener, "per_connection_buffer_limit_bytes", default=BUFFER_BYTES)
        if limit_bytes < STATIC_BUFFER_BYTES:
            yield Danger(
                f"request_body_mode is BUFFERED, without overrides: bodies above {size(limit_bytes)} are answered 413, in "
                "spite of failure_mode_allow",
                f"`per_connection_buffer_limit_bytes: {STATIC_BUFFER_BYTES}`, or `allow_mode_override: true` and `NONE`",
            )
    spoilt |= {"NONE": "nothing is ever kept", "BUFFERED": "streams are held back until they end"}
    if response != "STREAMED" and response in spoilt:
        yield Danger(f"response_body_mode is {response}: {spoilt[response]}", "`response_body_mode: STREAMED`")
    modes = part(site.filter, "processing_mode")
    if _mode(modes.get("response_header_mode"), _HEADERS) == "SKIP":
        yield Danger("response_header_mode is SKIP: nothing is ever kept", "`response_header_mode: SEND`")
    if _mode(modes.get("response_trailer_mode"), _HEADERS) != "SEND":
        yield Danger(
            "response_trailer_mode is not SEND: the end of an answer that has trailers is never seen, so it is not kept",
            "`response_trailer_mode: SEND`",
        )
    if site.routes and len(site.asking) == len(site.routes):
        yield Danger(
            "every route asks the sidecar, without overrides: uploads are held back whole, and WebSockets hang",
            "`ExtProcPerRoute: {disabled: true}` on routes without LLM calls",
        )


def _mode(value: object, names: tuple[str, ...]) -> str:
    if isinstance(value, int) and 0 <= value < len(names):
        return names[value]
    return value if isinstance(value, str) else names[0]


def forbids_overrides(site: Site, _config: Config) -> Iterator[Danger]:
    """Everything by which Envoy ignores what the sidecar asks for."""
    modes = part(site.filter, "processing_mode")
    if site.filter.get("allow_mode_override") is not True:
        if all(_mode(modes.get(name), _BODIES) == "NONE" for name in _BODY_FIELDS):
            yield Danger(
                "allow_mode_override is not true: the sidecar never sees a body, so nothing is ever kept",
                "`allow_mode_override: true`",
            )
        return
    if site.filter.get("allowed_override_modes"):
        yield Danger(
            "allowed_override_modes bounds what the sidecar may ask for: what it does not list is ignored without a word",
            "leave it out",
        )
    if site.filter.get("send_body_without_waiting_for_header_response") is True:
        yield Danger(
            "send_body_without_waiting_for_header_response is true: what the sidecar asks for is ignored",
            "leave it out",
        )


def is_muted(site: Site, _config: Config) -> Iterator[Danger]:
    """What the sidecar says must count."""
    if site.filter.get("disable_immediate_response") is True:
        yield Danger("disable_immediate_response is true: every hit is a failure", "leave it out")
    if site.filter.get("observability_mode") is True:
        yield Danger("observability_mode is true: what the sidecar says is ignored", "leave it out")


def mutations(site: Site, config: Config) -> Iterator[Danger]:
    """What whoever answers as the sidecar may change."""
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


def forwards(site: Site, config: Config) -> Iterator[Danger]:
    """What the sidecar is shown of headers: what it needs, and no more."""
    rules = part(site.filter, "forward_rules")
    fix = "take `forward_rules` from `aicache envoy-config`"
    patterns = list(each(part(rules, "allowed_headers"), "patterns"))
    if not patterns:
        yield Danger("forward_rules list no allowed_headers: the sidecar is shown every header, secrets too", fix)
        return
    lacking = [name for name in needed_headers(config) if not any(_allows(pattern, name) for pattern in patterns)]
    held = list(each(part(rules, "disallowed_headers"), "patterns"))
    lacking += [name for name in needed_headers(config) if any(_allows(pattern, name) for pattern in held)]
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


def attributes(site: Site, config: Config) -> Iterator[Danger]:
    """What the sidecar is shown besides headers, and whether it is heard."""
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
    if METADATA_NAMESPACE not in words(part(part(site.filter, "metadata_options"), "receiving_namespaces"), "untyped"):
        yield Danger(
            f"metadata_options.receiving_namespaces lack {METADATA_NAMESPACE}: what the sidecar says of an exchange is "
            "dropped, so access logs cannot show it",
            f"`metadata_options: {{receiving_namespaces: {{untyped: [{METADATA_NAMESPACE}]}}}}`",
        )
    yield from _cluster_attributes(site, config)


def _cluster_attributes(site: Site, config: Config) -> Iterator[Danger]:
    """By which cluster a rule is chosen, and which cluster answered."""
    told = {
        "request_attributes": any(rule.match.clusters for rule in config.rules),
        "response_attributes": any(rule.pin.clusters for rule in config.rules),
    }
    for name, needed in told.items():
        if needed and CLUSTER_ATTRIBUTE not in words(site.filter, name):
            yield Danger(f"{name} lack {CLUSTER_ATTRIBUTE}, which rules name", f"`{name}: [{CLUSTER_ATTRIBUTE}]`")


def receives(site: Site, config: Config) -> Iterator[Danger]:
    """A hit is one gRPC message."""
    asked = part(part(site.filter, "grpc_service"), "envoy_grpc")
    limit_bytes = number(asked, "max_receive_message_length", default=0)
    if 0 < limit_bytes <= config.limits.answer_bytes_max:
        yield Danger(
            f"envoy_grpc.max_receive_message_length is {size(limit_bytes)}: longer hits are failures, though the sidecar "
            f"keeps {size(config.limits.answer_bytes_max)}",
            "leave it out",
        )
