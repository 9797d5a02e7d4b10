"""What is said to Envoy at the points where an exchange's outcome is seen: pure, from outcomes to replies."""

from __future__ import annotations

from ai_cache_extproc.extproc import headers, modes
from ai_cache_extproc.extproc.events import Continue, Immediate, Modes, Part
from ai_cache_extproc.extproc.headers import Labelling
from ai_cache_extproc.model import Bypass, Hit, Miss, Reason

ACKS = {part: Continue(part) for part in Part}
"""The empty reply to each part."""

_HIT_DETAILS = "ai-cache.hit"
_UNANSWERED_DETAILS = "ai-cache.only_if_cached"

# `type` and `error.message` are where the SDKs of OpenAI, Anthropic and Google look for them.
_UNANSWERED_BODY = (
    b'{"type":"error","error":{"type":"only_if_cached","code":"only_if_cached",'
    b'"message":"No answer to this request is kept that suits it, and it says only-if-cached."}}'
)


def hit(found: Hit, rule: str, labels: Labelling) -> Immediate:
    """The answer, in Envoy's place."""
    return Immediate(
        status=200,
        headers=labels.hit(found, rule),
        body=found.replay.body,
        details=_HIT_DETAILS,
        metadata=headers.hit_metadata(found, rule),
    )


def unanswered(outcome: Miss | Bypass, rule: str, labels: Labelling) -> Immediate:
    """What a client gets that wants a kept answer or none (RFC 9111, 5.2.1.7)."""
    word = "miss" if isinstance(outcome, Miss) else "bypass"
    return Immediate(
        status=504,
        headers=labels.unanswered(outcome),
        body=_UNANSWERED_BODY,
        details=_UNANSWERED_DETAILS,
        metadata=headers.outcome_metadata(word, rule, outcome.reason),
    )


def labelled_miss(
    part: Part,
    miss: Miss,
    *,
    refresh: bool,
    reason: Reason | None,
    status: int,
    rule: str,
    labels: Labelling,
    override: Modes,
) -> Continue:
    """The labels of an answer that the upstream gives; `reason` if it is known already that it is not kept."""
    fields, added = labels.miss(miss, rule, refresh=refresh, reason=reason, status=status)
    return Continue(
        part,
        set_headers=fields,
        append_headers=added,
        remove_headers=labels.removed,
        modes=override,
        metadata=headers.outcome_metadata("miss", rule, reason),
    )


def labelled_bypass(part: Part, bypass: Bypass, rule: str, labels: Labelling) -> Continue:
    """The labels of an answer for which the cache was not used."""
    fields, added = labels.bypass(bypass)
    return Continue(
        part,
        set_headers=fields,
        append_headers=added,
        remove_headers=labels.removed,
        modes=modes.ANSWER_UNSEEN,
        metadata=headers.outcome_metadata("bypass", rule, bypass.reason),
    )


def not_kept(part: Part, reason: Reason, rule: str) -> Continue:
    """Its headers are gone: only the access log can still be told."""
    return Continue(part, metadata=headers.outcome_metadata("miss", rule, reason))
