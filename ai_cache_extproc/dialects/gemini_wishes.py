"""Chunks as a rule wants them replayed: without token counts, or under an id of their own. All else stays as it is."""

from __future__ import annotations

from datetime import UTC, datetime

from ai_cache_extproc.config.rules import Replaying
from ai_cache_extproc.dialects.gemini_answer import Members, candidates_of
from ai_cache_extproc.dialects.openai_chat_replay import Change, Mint, renewed, zeroed

# As Google makes them.
_ID_CHARS = 23
_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"


def chunk_change(wishes: Replaying, mint: Mint) -> Change | None:
    """What a rule wants changed in every chunk of one answer; None if nothing."""
    fresh: Members = {}
    if wishes.ids == "fresh":
        created = datetime.fromtimestamp(mint.now_s(), UTC)
        fresh = {"responseId": mint.alphanumeric(_ID_CHARS), "createTime": created.strftime(_TIME)}
    if wishes.usage == "original":
        return (lambda chunk: renewed(chunk, fresh)) if fresh else None
    return lambda chunk: _uncounted(renewed(chunk, fresh))


def _uncounted(chunk: Members) -> Members:
    changed: Members = {}
    if chunk.get("usageMetadata"):
        changed["usageMetadata"] = zeroed(chunk["usageMetadata"])
    candidates = [candidate for _, candidate in candidates_of(chunk)]
    if any("tokenCount" in candidate for candidate in candidates):
        changed["candidates"] = [renewed(candidate, {"tokenCount": 0}) for candidate in candidates]
    return chunk | changed if changed else chunk
