"""Whether a request may meet the cache at all, decided from its headers alone. Pure: `explain` asks it too."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from ai_cache_extproc.cache.fields import directives, length_of, media_type
from ai_cache_extproc.config.rules import Rule
from ai_cache_extproc.config.snapshot import Snapshot
from ai_cache_extproc.dialects import Dialects
from ai_cache_extproc.dialects.base import Dialect
from ai_cache_extproc.keys.scope import scope_of
from ai_cache_extproc.model import Bypass, Reason, RequestHead

SKIP_HEADER = "x-higress-skip-ai-cache"


@dataclass(frozen=True, slots=True, eq=False)
class Admitted:
    """A request that may meet the cache, with all that decides who shares its answer. Equal only to itself.

    refresh: the client accepts only a fresh answer (`no-cache`); that answer is kept.
    """

    head: RequestHead
    dialect: Dialect
    rule: Rule
    scope: bytes
    refresh: bool


def admit(
    head: RequestHead, *, end_of_stream: bool, snapshot: Snapshot, dialects: Dialects
) -> Admitted | Bypass | None:
    """Admit an LLM call, or say why it is bypassed; None for traffic that is no LLM call."""
    return _admit(head, end_of_stream, snapshot, dialects)


# Pure, and asked the same for every request of one client.
@lru_cache(maxsize=1024)
def _admit(head: RequestHead, end_of_stream: bool, snapshot: Snapshot, dialects: Dialects) -> Admitted | Bypass | None:
    if head.method != "POST" or end_of_stream or not _is_plain_json(head):
        return None
    rule = snapshot.rule_for(head)
    dialect = dialects.match(head.path, rule)
    if dialect is None:
        return None
    if rule is None:
        return Bypass(Reason.NO_RULE)
    asked = directives(head.headers.get("cache-control", ""))
    reason = _refusal(head, rule, asked, snapshot.config.limits.request_bytes_max)
    if reason is not None:
        return Bypass(reason)
    scope = scope_of(head, rule)
    if isinstance(scope, Bypass):
        return scope
    # max-age=0 asks for what no-cache asks for: nothing kept is young enough (RFC 9111, 5.2.1.1).
    refresh = "no-cache" in asked or asked.get("max-age") == "0"
    return Admitted(head=head, dialect=dialect, rule=rule, scope=scope, refresh=refresh)


def _is_plain_json(head: RequestHead) -> bool:
    return "upgrade" not in head.headers and media_type(head.headers) == "application/json"


def _refusal(head: RequestHead, rule: Rule, asked: dict[str, str], request_bytes_max: int) -> Reason | None:
    if not rule.enabled:
        return Reason.RULE_DISABLED
    if head.headers.get(SKIP_HEADER, "").strip().lower() == "on":
        return Reason.SKIP_HEADER
    if "no-store" in asked:
        return Reason.NO_STORE
    if head.headers.get("content-encoding", "identity").strip().lower() != "identity":
        return Reason.REQUEST_ENCODED
    length = length_of(head.headers)
    if length is not None and length > request_bytes_max:
        return Reason.REQUEST_TOO_LARGE
    return None
