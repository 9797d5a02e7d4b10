"""What is said to Envoy at the points where an exchange's outcome is seen: pure, from outcomes to replies."""

from __future__ import annotations

from ai_cache_extproc.extproc import headers, modes
from ai_cache_extproc.extproc.events import Continue, Immediate, Modes, Part
from ai_cache_extproc.model import Bypass, Hit, Miss, Reason

ACKS = {part: Continue(part) for part in Part}
"""The empty reply to each part."""

_HIT_DETAILS = "ai-cache.hit"


def hit(found: Hit, rule: str) -> Immediate:
    """The answer, in Envoy's place."""
    return Immediate(
        status=200,
        headers=headers.hit_headers(found),
        body=found.replay.body,
        details=_HIT_DETAILS,
        metadata=headers.hit_metadata(found, rule),
    )


def labelled_miss(
    part: Part, miss: Miss, *, refresh: bool, reason: Reason | None, status: int, rule: str, override: Modes
) -> Continue:
    """The labels of an answer that the upstream gives; `reason` if it is known already that it is not kept."""
    fields, member = headers.miss_headers(miss, refresh=refresh, reason=reason, status=status)
    return Continue(
        part,
        set_headers=fields,
        append_headers=(("cache-status", member),),
        modes=override,
        metadata=headers.outcome_metadata("miss", rule, reason),
    )


def labelled_bypass(part: Part, bypass: Bypass, rule: str) -> Continue:
    """The labels of an answer for which the cache was not used."""
    fields, member = headers.bypass_headers(bypass)
    return Continue(
        part,
        set_headers=fields,
        append_headers=(("cache-status", member),),
        modes=modes.ANSWER_UNSEEN,
        metadata=headers.outcome_metadata("bypass", rule, bypass.reason),
    )


def not_kept(part: Part, reason: Reason, rule: str) -> Continue:
    """Its headers are gone: only the access log can still be told."""
    return Continue(part, metadata=headers.outcome_metadata("miss", rule, reason))
