"""By which answer headers an outcome is seen from outside: their names, and which of them there are."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, model_validator

from ai_cache_extproc.config.scope import HeaderName
from ai_cache_extproc.config.section import FieldFaults, Section

NAMED = ("status", "age", "similarity", "key", "reason")
"""The labels whose name is free."""
TAGS_HEADER = "x-ai-cache-tags"
"""Of an answer, for us and not for its client."""

_TAKEN = frozenset(
    {
        "age",
        "cache-control",
        "cache-status",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "date",
        "host",
        "keep-alive",
        "location",
        "set-cookie",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "vary",
        "www-authenticate",
        TAGS_HEADER,
    }
)


def _free_name(name: str) -> str:
    if name in _TAKEN:
        raise ValueError("has another meaning in an answer; `x-` and words of your own make a good name")
    return name


LabelName = Annotated[HeaderName, AfterValidator(_free_name)]


class Labels(Section):
    """Answer headers that say what the cache did. null leaves one out; metrics, logs and metadata do not change."""

    status: LabelName | None = "x-ai-cache-status"
    """`HIT`, `MISS` or `BYPASS`."""
    age: LabelName | None = "x-ai-cache-age"
    """How old a hit is, in seconds."""
    similarity: LabelName | None = "x-ai-cache-similarity"
    """How close the question of a semantic hit is, 4 decimals."""
    key: LabelName | None = "x-ai-cache-key"
    """The name of the entry, on hits and misses."""
    reason: LabelName | None = "x-ai-cache-reason"
    """Why the cache was not used, or the answer is not kept: a word of docs/reasons.md."""
    standard_cache_status: bool = True
    """Whether `Cache-Status` says the same in the standard's words (RFC 9211)."""
    standard_age: bool = True
    """Whether a hit has `Age` (RFC 9111)."""
    layer_words: bool = False
    """true: a hit says which layer had it, `HIT-L1` (exact) or `HIT-L2` (semantic)."""
    hide_shared: bool = False
    """true: under a rule whose callers share more than their credentials do, no header tells a hit from a miss. The time
    that an answer takes still does."""

    @model_validator(mode="after")
    def _apart(self) -> Labels:
        seen: dict[str, str] = {}
        faults = []
        for label in NAMED:
            name = getattr(self, label)
            if name is None:
                continue
            first = seen.setdefault(name, label)
            if first != label:
                faults.append(((label,), f"is {name}, as labels.{first} is; give each label a name of its own"))
        if faults:
            raise FieldFaults(tuple(faults))
        return self
