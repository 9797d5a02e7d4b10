"""How old an answer may be: hits from entries, early refresh, stale answers. Pure."""

from __future__ import annotations

import math

from ai_cache_extproc.cache.admission import Admitted
from ai_cache_extproc.cache.wishes import NO_WISH
from ai_cache_extproc.config.rules import Rule
from ai_cache_extproc.model import Captured, Entry, Hit, Identity, Question


def hit_of(admitted: Admitted, question: Question, identity: Identity, entry: Entry, now_s: float) -> Hit | None:
    """A hit from a capture inside its lifetime; None if none of them suits the client and can answer in this mode."""
    captures = _suiting(admitted, entry.fresh(now_s), now_s)
    replay = admitted.dialect.replay(question, captures, admitted.rule.replay) if captures else None
    if replay is None:
        return None
    left_s = replay.source.expires_s - now_s
    ttl_s = None if math.isinf(left_s) else max(0, int(left_s))
    similarity = None if entry.alias is None else entry.alias.similarity
    return Hit(identity, entry, replay, age_s=_age_s(replay.source, now_s), ttl_s=ttl_s, similarity=similarity)


def stale_hit_of(admitted: Admitted, question: Question, identity: Identity, entry: Entry, now_s: float) -> Hit | None:
    """The same from captures past their lifetime by no more than the rule allows; of the very question only."""
    if entry.alias is not None:
        return None
    until_s = now_s - admitted.rule.stale_if_error_s
    captures = _suiting(admitted, entry.fresh(until_s), now_s)
    replay = admitted.dialect.replay(question, captures, admitted.rule.replay) if captures else None
    if replay is None:
        return None
    left_s = replay.source.expires_s - now_s
    ttl_s = None if math.isinf(left_s) else math.floor(left_s)
    return Hit(identity, entry, replay, age_s=_age_s(replay.source, now_s), ttl_s=ttl_s)


def may_serve_stale(admitted: Admitted, entry: Entry, now_s: float) -> bool:
    """Whether any capture may still answer if the upstream fails."""
    return admitted.wish.takes_stale and bool(entry.fresh(now_s - admitted.rule.stale_if_error_s))


def lifetime_s(admitted: Admitted) -> float:
    """How long an answer to this client may be served: its own wish shortens what the rule says."""
    rule_s = math.inf if admitted.rule.ttl_s is None else admitted.rule.ttl_s
    asked_s = admitted.wish.ttl_s
    return rule_s if asked_s is None else min(rule_s, asked_s)


def is_due(rule: Rule, source: Captured, now_s: float, chance: float) -> bool:
    """Whether to ask the upstream ahead of the expiry, so that not everyone does at it; chance: 0 to 1, uniform.

    XFetch (Vattani, Chierichetti, Lowenstein: Optimal Probabilistic Cache Stampede Prevention, VLDB 2015): the longer
    the upstream takes, the earlier; on average one request in all goes ahead.
    """
    lead_s = rule.early_refresh * source.elapsed_s
    if lead_s <= 0:
        return False
    return now_s - lead_s * math.log(max(chance, 1e-12)) >= source.expires_s


def _suiting(admitted: Admitted, captures: tuple[Captured, ...], now_s: float) -> tuple[Captured, ...]:
    wish = admitted.wish
    # Nearly everyone asks nothing.
    if wish is NO_WISH:
        return captures
    return tuple(captured for captured in captures if wish.suits(captured, now_s))


def _age_s(source: Captured, now_s: float) -> int | None:
    """A clock that was set back must not give a negative age (RFC 9111, 5.1)."""
    age_s = now_s - source.created_s
    return None if math.isinf(age_s) else max(0, int(age_s))
