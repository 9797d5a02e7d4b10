"""Whether a request may meet the cache at all, decided from its headers alone. Pure: `explain` asks it too."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from ai_cache_extproc.cache.fields import length_of, media_type
from ai_cache_extproc.cache.wishes import Wish, wish_of
from ai_cache_extproc.config.rules import Rule
from ai_cache_extproc.config.snapshot import Snapshot
from ai_cache_extproc.dialects import Dialects
from ai_cache_extproc.dialects.base import Dialect
from ai_cache_extproc.keys.scope import scope_of
from ai_cache_extproc.model import Bypass, Reason, RequestHead

SKIP_HEADER = "x-higress-skip-ai-cache"


@dataclass(frozen=True, slots=True, eq=False)
class Admitted:
    """A request that may meet the cache, with all that decides who shares its answer. Equal only to itself."""

    head: RequestHead
    dialect: Dialect
    rule: Rule
    scope: bytes
    wish: Wish


def admit(
    head: RequestHead, *, end_of_stream: bool, snapshot: Snapshot, dialects: Dialects, named: str = ""
) -> Admitted | Bypass | None:
    """Admit an LLM call, or say why it is bypassed; None for traffic that is no LLM call.

    named: the rule that Envoy's route names.
    """
    return _admit(head, end_of_stream, snapshot, dialects, named)


# Pure, and asked the same for every request of one client.
@lru_cache(maxsize=1024)
def _admit(
    head: RequestHead, end_of_stream: bool, snapshot: Snapshot, dialects: Dialects, named: str
) -> Admitted | Bypass | None:
    if head.method != "POST" or end_of_stream or not _is_plain_json(head):
        return None
    rule = snapshot.rule_for(head, named)
    dialect = dialects.match(head.path, rule)
    if dialect is None:
        return None
    if rule is None:
        return Bypass(Reason.NO_RULE)
    if not rule.enabled:
        return Bypass(Reason.RULE_DISABLED)
    if head.headers.get(SKIP_HEADER, "").strip().lower() == "on":
        return Bypass(Reason.SKIP_HEADER)
    wish = wish_of(head.headers, rule)
    reason = _refusal(head, rule, wish, snapshot.config.limits.request_bytes_max)
    if reason is not None:
        return Bypass(reason, only_if_cached=wish.only_if_cached)
    scope = scope_of(head, rule)
    if isinstance(scope, Bypass):
        return replace(scope, only_if_cached=wish.only_if_cached)
    return Admitted(head=head, dialect=dialect, rule=rule, scope=scope, wish=wish)


def _is_plain_json(head: RequestHead) -> bool:
    return "upgrade" not in head.headers and media_type(head.headers) == "application/json"


def _refusal(head: RequestHead, rule: Rule, wish: Wish, request_bytes_max: int) -> Reason | None:
    if any(_has(head, header.header, header.equals) for header in rule.bypass_on):
        return Reason.BYPASS_ON
    if wish.no_store:
        return Reason.NO_STORE
    if head.headers.get("content-encoding", "identity").strip().lower() != "identity":
        return Reason.REQUEST_ENCODED
    length = length_of(head.headers)
    if length is not None and length > request_bytes_max:
        return Reason.REQUEST_TOO_LARGE
    return None


def _has(head: RequestHead, name: str, value: str) -> bool:
    """Whether a header has this value, or has it among others because it is repeated."""
    found = head.headers.get(name)
    return found is not None and (found == value or value in found.split(", "))
