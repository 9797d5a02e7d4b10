"""The answer headers and the dynamic metadata by which an outcome is seen from outside. Pure."""

from __future__ import annotations

from functools import lru_cache

from ai_cache_extproc.config.labels import TAGS_HEADER, Labels
from ai_cache_extproc.config.rules import widenings
from ai_cache_extproc.config.snapshot import Snapshot
from ai_cache_extproc.extproc.events import Headers, Metadata
from ai_cache_extproc.model import Bypass, Hit, Miss, Reason

CACHE_NAME = "aicache"


class Labelling:
    """The labels of one configuration: what is set, and what is added as a member of `Cache-Status`.

    removed: answer headers that are ours and not the client's.
    """

    def __init__(self, labels: Labels, *, hidden: frozenset[str] = frozenset(), removed: tuple[str, ...] = ()) -> None:
        """hidden: rules under which no label tells a hit from a miss."""
        self.removed = removed
        self._hidden = hidden
        # Once for all: reading them from the configuration is a fifth of what the labels of a hit cost.
        self._status, self._reason, self._key = labels.status, labels.reason, labels.key
        self._ages = tuple(name for name in (labels.age, "age" if labels.standard_age else None) if name is not None)
        self._similarity = labels.similarity
        self._standard = labels.standard_cache_status
        self._hit, self._semantic_hit = ("HIT-L1", "HIT-L2") if labels.layer_words else ("HIT", "HIT")

    def hit(self, hit: Hit, rule: str) -> Headers:
        """For an answer from the cache (RFC 9211 `hit`, where a negative `ttl` says how stale it is; RFC 9111 `Age`)."""
        key = hit.identity.id
        headers = [("content-type", hit.replay.content_type)]
        if self._key is not None:
            headers.append((self._key, key))
        if rule in self._hidden:
            return tuple(headers)
        if self._status is not None:
            headers.append((self._status, self._hit if hit.similarity is None else self._semantic_hit))
        if self._standard:
            ttl = "" if hit.ttl_s is None else f" ttl={hit.ttl_s};"
            headers.append(("cache-status", f'{CACHE_NAME}; hit;{ttl} key="{key}"; detail={_detail(hit)}'))
        if hit.age_s is not None:
            age = str(hit.age_s)
            for name in self._ages:
                headers.append((name, age))  # noqa: PERF401 - two at most
        if hit.similarity is not None and self._similarity is not None:
            headers.append((self._similarity, f"{hit.similarity:.4f}"))
        return tuple(headers)

    def miss(
        self, miss: Miss, rule: str, *, refresh: bool, reason: Reason | None, status: int
    ) -> tuple[Headers, Headers]:
        """What to set and what to add to an answer that the upstream gives.

        refresh: the client asked past the cache. reason: why this answer will not be kept, if that is known already.
        `stored` is never claimed: whether the answer is whole is known only after these headers are gone.
        """
        key = miss.identity.id
        named: Headers = () if self._key is None else ((self._key, key),)
        if rule in self._hidden:
            return named, ()
        named = (*self._outcome("MISS", reason), *named)
        if not self._standard:
            return named, ()
        member = f"{CACHE_NAME}; fwd={'request' if refresh else 'miss'}; fwd-status={status}"
        member += f'; key="{key}"'
        return named, (("cache-status", member if reason is None else f"{member}; detail={reason}"),)

    def bypass(self, bypass: Bypass) -> tuple[Headers, Headers]:
        """What to set and what to add where we chose not to use the cache: that tells nothing of what is kept."""
        named = self._outcome("BYPASS", bypass.reason)
        if not self._standard:
            return named, ()
        return named, (("cache-status", f"{CACHE_NAME}; fwd=bypass; detail={bypass.reason}"),)

    def unanswered(self, outcome: Miss | Bypass) -> Headers:
        """For an answer that nobody gave. It is based on no kept one, so it has no `Cache-Status` (RFC 9211, 2)."""
        word = "MISS" if isinstance(outcome, Miss) else "BYPASS"
        return (("content-type", "application/json"), *self._outcome(word, outcome.reason))

    def _outcome(self, word: str, reason: Reason | None) -> Headers:
        headers: Headers = () if self._status is None else ((self._status, word),)
        if reason is None or self._reason is None:
            return headers
        return (*headers, (self._reason, reason))


@lru_cache(maxsize=8)
def labelling_of(snapshot: Snapshot) -> Labelling:
    """The labels as this configuration has them."""
    config = snapshot.config
    shared = (rule.name for rule in config.rules if config.labels.hide_shared and any(widenings((rule,))))
    trusting = any(rule.controls.trust_answer_tags for rule in config.rules)
    return Labelling(config.labels, hidden=frozenset(shared), removed=(TAGS_HEADER,) if trusting else ())


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


def outcome_metadata(status: str, rule: str, reason: Reason | None) -> Metadata:
    """For access logs, where the cache has no answer. status: `miss` or `bypass`."""
    metadata: dict[str, str | int | float] = {"status": status, "cache_status": "miss" if status == "miss" else "skip"}
    if rule:
        metadata["rule"] = rule
    if reason is not None:
        metadata["reason"] = reason.value
    return metadata
