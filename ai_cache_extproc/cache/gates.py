"""Whether an answer may be kept, as far as its status and headers tell. Pure."""

from __future__ import annotations

from ai_cache_extproc.cache.fields import directives, length_of
from ai_cache_extproc.cache.pins import is_elsewhere
from ai_cache_extproc.config.rules import Rule
from ai_cache_extproc.model import Reason, ResponseHead

_NOT_KEPT = frozenset({"no-store", "no-cache", "private"})


def is_upstream_error(head: ResponseHead) -> bool:
    """Whether an older answer is better than this one (RFC 5861, `stale-if-error`; 429 is how LLM hosts say busy)."""
    return head.status == 429 or 500 <= head.status <= 599


def refusal(head: ResponseHead, *, end_of_stream: bool, rule: Rule, answer_bytes_max: int) -> Reason | None:
    """Why this answer must not be kept; None if nothing speaks against it yet."""
    headers = head.headers
    if head.status != 200:
        return Reason.STATUS
    if is_elsewhere(rule.pin, head):
        return Reason.FALLBACK
    if end_of_stream:
        return Reason.EMPTY_ANSWER
    if headers.get("content-encoding", "identity").strip().lower() != "identity":
        return Reason.ANSWER_ENCODED
    length = length_of(headers)
    if answer_bytes_max == 0 or (length is not None and length > answer_bytes_max):
        return Reason.ANSWER_TOO_LARGE
    if rule.overrules_upstream:
        return None
    # The scope is a credential, but not the person behind it: `private` is taken at its word.
    if not _NOT_KEPT.isdisjoint(directives(headers.get("cache-control", ""))) or headers.get("vary", "").strip() == "*":
        return Reason.UPSTREAM_NO_STORE
    if "set-cookie" in headers:
        return Reason.SET_COOKIE
    return None
