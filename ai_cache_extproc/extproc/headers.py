"""The answer headers and the dynamic metadata by which an outcome is seen from outside. Pure."""

from __future__ import annotations

from ai_cache_extproc.extproc.events import Headers, Metadata
from ai_cache_extproc.model import Bypass, Hit, Miss, Reason

CACHE_NAME = "aicache"


def hit_headers(hit: Hit) -> Headers:
    """For an answer from the cache (RFC 9211 `hit`, where a negative `ttl` says how stale it is; RFC 9111 `Age`)."""
    ttl = "" if hit.ttl_s is None else f" ttl={hit.ttl_s};"
    headers: Headers = (
        ("content-type", hit.replay.content_type),
        ("x-ai-cache-status", "HIT"),
        ("x-ai-cache-key", hit.identity.id),
        ("cache-status", f'{CACHE_NAME}; hit;{ttl} key="{hit.identity.id}"; detail={_detail(hit)}'),
    )
    if hit.age_s is not None:
        headers = (*headers, ("x-ai-cache-age", str(hit.age_s)), ("age", str(hit.age_s)))
    if hit.similarity is None:
        return headers
    return (*headers, ("x-ai-cache-similarity", f"{hit.similarity:.4f}"))


def _detail(hit: Hit) -> str:
    if hit.ttl_s is not None and hit.ttl_s < 0:
        return "stale"
    return "exact" if hit.similarity is None else "semantic"


def hit_metadata(hit: Hit, rule: str) -> Metadata:
    """For access logs. `cache_status` is what Higress' plugin writes there."""
    metadata: dict[str, str | int | float] = {
        "status": "hit",
        "cache_status": "hit",
        "key": hit.identity.id,
        "rule": rule,
    }
    if hit.age_s is not None:
        metadata["age_s"] = hit.age_s
    if hit.ttl_s is not None and hit.ttl_s < 0:
        metadata["stale_s"] = -hit.ttl_s
    if hit.similarity is not None:
        metadata["similarity"] = hit.similarity
    return metadata


def miss_headers(miss: Miss, *, refresh: bool, reason: Reason | None, status: int) -> tuple[Headers, str]:
    """What to set, and the `Cache-Status` member to add, for an answer that the upstream gives.

    refresh: the client asked past the cache. reason: why this answer will not be kept, if that is known already.
    `stored` is never claimed: whether the answer is whole is known only after these headers are gone.
    """
    headers: Headers = (("x-ai-cache-status", "MISS"), ("x-ai-cache-key", miss.identity.id))
    member = f"{CACHE_NAME}; fwd={'request' if refresh else 'miss'}; fwd-status={status}"
    member += f'; key="{miss.identity.id}"'
    if reason is None:
        return headers, member
    return (*headers, ("x-ai-cache-reason", reason)), f"{member}; detail={reason}"


def bypass_headers(bypass: Bypass) -> tuple[Headers, str]:
    """What to set, and the `Cache-Status` member to add, where we chose not to use the cache."""
    headers: Headers = (("x-ai-cache-status", "BYPASS"), ("x-ai-cache-reason", bypass.reason))
    return headers, f"{CACHE_NAME}; fwd=bypass; detail={bypass.reason}"


def outcome_metadata(status: str, rule: str, reason: Reason | None) -> Metadata:
    """For access logs, where the upstream answers. status: `miss` or `bypass`."""
    metadata: dict[str, str | int | float] = {"status": status, "cache_status": "miss" if status == "miss" else "skip"}
    if rule:
        metadata["rule"] = rule
    if reason is not None:
        metadata["reason"] = reason.value
    return metadata
