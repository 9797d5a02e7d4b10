"""The configuration of APISIX's ai-cache as a native rule."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from ai_cache_extproc.config.apisix_document import AiCache, Beside, Route
from ai_cache_extproc.config.apisix_secrets import SCOPE_VARIABLE
from ai_cache_extproc.config.apisix_values import KEY_PREFIX
from ai_cache_extproc.config.apisix_variables import HOST, IN_THE_QUESTION, ROUTE, part_of
from ai_cache_extproc.config.higress_notes import Note
from ai_cache_extproc.config.rules import TTL_S_MAX
from ai_cache_extproc.config.scope import IdentityPart

CONSUMER = IdentityPart(header="x-consumer-username", required=False)
"""Where APISIX tells its upstreams who the consumer is."""

Share = Literal["credential", "document"]
_NAME_CHARS_MAX = 56


def rule_of(
    config: AiCache, *, route: Route | None, beside: Beside | None, share: Share, disabled: bool
) -> dict[str, object]:
    """The rule as native values. beside: None where the keys of the plugin are not asked for."""
    rule: dict[str, object] = {"name": _name(route)}
    if route is not None and (match := _match(route)):
        rule["match"] = match
    if disabled or (route is not None and route.status == 0):
        rule["enabled"] = False
    if config.bypass_on:
        rule["bypass_on"] = [{"header": each.header, "equals": each.equals} for each in config.bypass_on]
    rule["layers"] = ["exact"]
    rule["ttl_s"] = config.exact.ttl if beside is not None else min(config.exact.ttl, TTL_S_MAX)
    # The plugin knows none of these, and keeps the two modes apart.
    rule |= {"ttl_jitter": 0, "early_refresh": 0, "replay": {"cross_mode": False}}
    rule["answer_bytes_max"] = config.max_cache_body_size
    if share == "document":
        rule["anonymous"] = "shared"
    rule["scope"] = _scope(config, beside, share)
    if beside is not None:
        rule["apisix"] = _values(config, route, beside, share)
    return rule


def route_id_of(route: Route | None, beside: Beside) -> str | None:
    """The id of the route there; what stands in `apisix` wins."""
    if beside.route_id is not None:
        return beside.route_id
    return None if route is None or route.id is None else str(route.id)


def _name(route: Route | None) -> str:
    wanted = "" if route is None else route.name or str(route.id or "")
    return re.sub(r"[^a-z0-9_.-]+", "-", wanted.lower()).lstrip("_.-")[:_NAME_CHARS_MAX] or "default"


def _match(route: Route) -> dict[str, list[str]]:
    match = {"paths": list(route.paths), "hosts": list(route.authorities)}
    return {name: patterns for name, patterns in match.items() if patterns}


def _scope(config: AiCache, beside: Beside | None, share: Share) -> dict[str, object]:
    key = config.cache_key
    scope: dict[str, object] = {"credentials": [], "parameters": []} if share == "document" else {}
    parts = [part for name in key.include_vars if (part := part_of(name)) is not None]
    if key.include_consumer:
        parts.insert(0, _consumer(beside))
    if parts:
        scope["identity"] = [part.model_dump(mode="json", exclude_defaults=True) for part in parts]
    if key.share_across_routes:
        scope["route"] = ROUTE in key.include_vars
        scope["authority"] = HOST in key.include_vars
    return scope


def _consumer(beside: Beside | None) -> IdentityPart:
    return CONSUMER if beside is None or beside.consumer is None else beside.consumer


def _values(config: AiCache, route: Route | None, beside: Beside, share: Share) -> dict[str, object]:
    key = config.cache_key
    values: dict[str, object] = {
        "route_id": None if key.share_across_routes else route_id_of(route, beside),
        "variables": list(key.include_vars),
        "provider": beside.provider,
        "share": share,
    }
    if key.include_consumer:
        values["consumer"] = _consumer(beside).model_dump(mode="json", exclude_defaults=True)
    if (options := beside.all_options) is not None:
        values["options"] = options
    if beside.override is not None:
        values["override"] = beside.override.model_dump(mode="json", exclude_none=True)
    return values


def _needed(config: AiCache, beside: Beside | None) -> list[str]:
    """What the scope is made of and only arrives where Envoy's filter says so. Query parameters always do."""
    parts = [part for name in config.cache_key.include_vars if (part := part_of(name)) is not None]
    if config.cache_key.include_consumer:
        parts.insert(0, _consumer(beside))
    return [part.words for part in parts if part.parameter is None]


def said_of_rule(config: AiCache, *, beside: Beside | None, share: Share) -> Iterator[Note]:
    """Locations are within the configuration."""
    if config.fail_mode == "error":
        yield Note(("fail_mode",), "`error` is treated as `warn`: a cache never makes a request fail")
    if beside is None and config.exact.ttl > TTL_S_MAX:
        text = f"{config.exact.ttl} s is more than answers live here; {TTL_S_MAX} s hold"
        yield Note(("exact", "ttl"), text, "`apisix` beside the document keeps them as the plugin does, and as long")
    key = config.cache_key
    if key.include_consumer:
        yield Note(
            ("cache_key", "include_consumer"),
            f"takes {_consumer(beside).words} for the consumer; what authenticates before the cache must set it",
            "`apisix: {consumer: {metadata: NAMESPACE, path: [KEY]}}` names another place",
        )
    for index, name in enumerate(key.include_vars):
        if beside is None and name in IN_THE_QUESTION:
            yield Note(("cache_key", "include_vars", index), "tells questions apart here without being named")
    bypassing = [f"header {each.header}" for each in config.bypass_on or ()]
    for name, needed in (("cache_key", _needed(config, beside)), ("bypass_on", bypassing)):
        if needed:
            text = f"must see {', '.join(needed)}, which the shipped envoy.yaml does not show"
            yield Note((name,), text, "`aicache envoy-config --config FILE --format filter` prints a filter that does")
    if key.share_across_routes and beside is None:
        text = "the path belongs to the question here, so only routes with the same paths share"
        yield Note(("cache_key", "share_across_routes"), text)
    if share == "credential":
        yield Note(
            (),
            "each caller's credentials are part of the scope, on top of `cache_key`; requests without any are bypassed",
            f"{SCOPE_VARIABLE}=document shares as far as the document says",
        )
    if beside is not None and share == "credential":
        text = f"the keys under {KEY_PREFIX} hold the caller too, so what the plugin has kept is not found"
        yield Note(("apisix",), text, f"{SCOPE_VARIABLE}=document finds it")
