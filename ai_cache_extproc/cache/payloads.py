"""What answers for a neighbour: an entry of the store, or what stands beside the point itself.

The plugins of Higress and APISIX keep answers in the index. A point of theirs, or of ours in their layout, answers without
the store, but only where it says what was asked: the guards judge nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from ai_cache_extproc.cache.admission import Admitted
from ai_cache_extproc.cache.exact import Exact
from ai_cache_extproc.cache.formats.apisix import answer_of, envelope_of
from ai_cache_extproc.cache.formats.base import NotOurs
from ai_cache_extproc.cache.formats.higress import text_of
from ai_cache_extproc.cache.purges import Purges
from ai_cache_extproc.errors import BackendRejected
from ai_cache_extproc.keys.apisix import apisix_at
from ai_cache_extproc.keys.identity import higress_identity
from ai_cache_extproc.meaning import Asked
from ai_cache_extproc.model import Captured, Entry, Identity, Layout, Match, Mode

QUESTION = "aicache_question"
"""Beside the answer in APISIX's layout, whose points do not say what was asked."""
_KEY_DIGITS = 64


def payload_of(identity: Identity, entry: Entry) -> Mapping[str, str]:
    """What is kept beside an entry's point: nothing of an entry of our own layout, which may be encrypted."""
    if identity.layout is Layout.NATIVE or entry.asked is None:
        return {}
    text = entry.asked.text
    try:
        if identity.layout is Layout.HIGRESS:
            # DashVector's points have `query`, all others `question`.
            return {"question": text, "query": text, "answer": text_of(entry).decode()}
        body, word = envelope_of(entry)
    except BackendRejected:
        return {}
    return {"response": body, "format": word, QUESTION: text}


class Payloads:
    """Entries by the points that lead to them."""

    def __init__(self, exact: Exact, purges: Purges) -> None:
        self._exact = exact
        self._purges = purges

    def source(self, admitted: Admitted, identity: Identity, match: Match) -> Identity | None:
        """Where the entry of a point is, or would be, kept; None for a point that does not say. identity: of who asks."""
        keyring, values = self._purges.current, admitted.rule.higress
        if keyring is None:
            return None
        if values is not None:
            question = _question(match)
            return higress_identity(keyring, admitted.scope, question, values) if question else None
        if identity.layout is Layout.APISIX:
            return apisix_at(keyring, match.key) if match.payload.get(QUESTION) else None
        try:
            return Identity(match.key, bytes.fromhex(match.key[-_KEY_DIGITS:]), flight="")
        except ValueError:
            return None

    async def entry(self, source: Identity, asked: Asked, match: Match) -> Entry | None:
        """What answers for a point; None if it has gone, was purged, or was asked elsewhere. Raises BackendError."""
        if source.layout is Layout.NATIVE:
            entry = await self._exact.source(source.key, source.digest)
            return entry if entry is not None and entry.asked and entry.asked.partition == asked.partition else None
        captured = _captured(source.layout, match)
        told = Asked(asked.partition, match.payload.get(QUESTION) or _question(match))
        if captured is None:
            # The public demo of Higress keeps questions in the index, and answers in Redis alone.
            kept = await self._exact.known(source) if source.layout is Layout.HIGRESS else None
            return None if kept is None else replace(kept, asked=told)
        entry = Entry(dialect="", model="", rule="", captures=(captured,), asked=told)
        # The point knows nothing of the numbers of purges.
        is_known = self._purges.settled or await self._purges.look()
        return entry if is_known and not self._purges.marks.reach(source, entry) else None


def _question(match: Match) -> str:
    return match.payload.get("question") or match.payload.get("query") or ""


def _captured(layout: Layout, match: Match) -> Captured | None:
    # A point that the plugin wrote does not say when.
    created_s = match.created_s or -math.inf
    if layout is Layout.HIGRESS:
        answer = match.payload.get("answer", "")
        if not answer.strip():
            return None
        return Captured(
            Mode.TEXT, "text/plain; charset=utf-8", answer.encode(), created_s, match.expires_s, elapsed_s=0.0
        )
    try:
        captured = answer_of(match.payload.get("response"), match.payload.get("format", "json"))
    except NotOurs:
        return None
    return replace(captured, created_s=created_s, expires_s=match.expires_s)
