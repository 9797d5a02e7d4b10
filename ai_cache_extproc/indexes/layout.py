"""Under which names a collection keeps the facts of a point: our own, or those of a Higress plugin that shares it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from ai_cache_extproc.indexes.base import Point
from ai_cache_extproc.model import Match

NEVER_S = 2_147_483_647
"""Stands for a point that never expires: JSON has no infinity, and one vendor's integers end here."""


@dataclass(frozen=True, slots=True)
class Layout:
    """partition: None where points of all partitions stand together, and none of them can be told apart.

    payload: one field that holds all of it as JSON, or its parts as fields of their own. is_ours: whether the
    collection is created if it is missing, and its name says which embedder it belongs to.
    id_part, document: the payload's part that is a point's id, and its document, where the vendor has such (Chroma).
    """

    partition: str | None = "partition"
    key: str = "key"
    created_s: str = "created_s"
    expires_s: str = "expires_s"
    payload: str | tuple[str, ...] = "payload"
    is_ours: bool = True
    id_part: str | None = None
    document: str | None = None

    @property
    def fields(self) -> tuple[str, ...]:
        """Every name, the partition first if there is one."""
        payload = (self.payload,) if isinstance(self.payload, str) else self.payload
        kept = tuple(part for part in payload if part not in {self.id_part, self.document})
        return (*filter(None, (self.partition,)), self.key, self.created_s, self.expires_s, *kept)

    @property
    def texts(self) -> tuple[str, ...]:
        """The names of those that hold text."""
        return tuple(name for name in self.fields if name not in {self.created_s, self.expires_s})

    def facts(self, point: Point) -> dict[str, str | float]:
        """What is stored beside the vector; text and numbers, flat."""
        facts: dict[str, str | float] = {
            self.key: point.key,
            self.created_s: point.created_s,
            self.expires_s: min(point.expires_s, float(NEVER_S)),
        }
        if self.partition is not None:
            facts[self.partition] = point.partition
        if isinstance(self.payload, str):
            return facts | {self.payload: orjson.dumps(dict(point.payload)).decode()}
        return facts | {part: text for part, text in point.payload.items() if part in self.fields}

    def match(
        self, point_id: str, facts: Mapping[str, object], similarity: float, *, partition: str, now_s: float
    ) -> Match | None:
        """The match that a row is; None for one without facts, of another partition, or expired."""
        if self.partition is not None and facts.get(self.partition) != partition:
            return None
        # A collection that others write too holds points that never expire, under no key of ours.
        expires_s = _number(facts.get(self.expires_s, NEVER_S if not self.is_ours else None))
        created_s = _number(facts.get(self.created_s, 0.0))
        payload = self._payload(facts)
        key = facts.get(self.key, "" if not self.is_ours else None)
        if expires_s is None or created_s is None or payload is None or not isinstance(key, str):
            return None
        if expires_s <= now_s or not math.isfinite(similarity):
            return None
        return Match(
            id=point_id,
            key=key,
            # Rounding in a server may leave the range by a hair.
            similarity=max(-1.0, min(1.0, similarity)),
            created_s=created_s,
            expires_s=math.inf if expires_s >= NEVER_S else expires_s,
            payload=payload,
        )

    def _payload(self, facts: Mapping[str, object]) -> dict[str, str] | None:
        if not isinstance(self.payload, str):
            parts = {part: facts.get(part) for part in self.payload}
            texts = {part: text for part, text in parts.items() if isinstance(text, str)}
            # The first is what makes it an answer, or names one; a collection may hold that alone. A key names one too.
            return texts if self.payload[0] in texts or facts.get(self.key) else None
        text = facts.get(self.payload)
        if not isinstance(text, str):
            return None
        try:
            payload = orjson.loads(text)
        except orjson.JSONDecodeError:
            return None
        return payload if isinstance(payload, dict) else None


def _number(value: object) -> float | None:
    """A number, also one that stands as text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


NATIVE = Layout()


def higress_layout(vendor: str, *, partitioned: bool) -> Layout:
    """As the Higress plugin reads and writes a collection of this vendor; what is ours beside it it does not see."""
    chroma = vendor == "chroma"
    return Layout(
        partition="aicache_partition" if partitioned else None,
        key="aicache_key",
        created_s="aicache_created_s",
        expires_s="aicache_expires_s",
        payload=("query" if vendor == "dashvector" else "question", "answer"),
        is_ours=False,
        id_part="question" if chroma else None,
        document="answer" if chroma else None,
    )
