"""Chroma: the v2 API of its server, https://docs.trychroma.com."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import quote

from ai_cache_extproc.config.indexes import ChromaIndex
from ai_cache_extproc.indexes import scores
from ai_cache_extproc.indexes.base import Point, Vector
from ai_cache_extproc.indexes.remote import Condition, Found, Relation, RemoteDriver, key_header

_OPERATORS: Mapping[Relation, str] = {"is": "$eq", "above": "$gt", "at most": "$lte"}
# The same question in many partitions is one vector many times, whose points fill each other's lists of neighbours: with
# Chroma's own 16 one point in 30 behind 20 such could not be reached at all.
_GRAPH: Mapping[str, object] = {"space": "cosine", "max_neighbors": 64, "ef_construction": 200, "ef_search": 200}
_METRICS: Mapping[str, scores.ToCosine] = {
    "cosine": scores.distance,
    "ip": scores.dot_distance,
    # The square, as measured with 1.5.9: 4 for opposite vectors.
    "l2": scores.squared_euclidean,
}


class Driver(RemoteDriver):
    """Collections have a name, under which they are made, and an id, under which they are asked."""

    name = "chroma"
    metrics = _METRICS
    cosine: ClassVar[str] = "cosine"
    _id = ""

    @classmethod
    def authorization(cls, settings: ChromaIndex) -> Mapping[str, str]:
        """The header `x-chroma-token`."""
        return key_header(cls.name, settings, "x-chroma-token")

    async def ensure(self, dimensions: int) -> None:
        """Create the collection, or check it; an empty one has no dimensions yet."""
        name = self.collection(dimensions)
        found = await self.ask_or_none("prepare", "GET", f"{self._root()}/{quote(name, safe='')}")
        if found is None:
            body = {"name": name, "get_or_create": True, "configuration": {"hnsw": _GRAPH}}
            found = await self.ask("prepare", "POST", self._root(), body=body)
        configuration = found.get("configuration_json") or {}
        metric = ((configuration.get("hnsw") or configuration.get("spann")) or {}).get("space", "l2")
        held = found.get("dimension") or dimensions
        self.check_fit(name, dimensions, held=held, metric=metric)
        self._id = found["id"]

    async def put(self, points: Sequence[Point]) -> None:
        """Upsert."""
        id_part, document = self.layout.id_part, self.layout.document
        body: dict[str, Any] = {
            "ids": [point.id if id_part is None else point.payload[id_part] for point in points],
            "embeddings": [point.vector.tolist() for point in points],
            "metadatas": [self.layout.facts(point) for point in points],
        }
        if document is not None:
            body["documents"] = [point.payload[document] for point in points]
        await self._ask("add", "upsert", body)

    async def nearest(self, vector: Vector, where: Condition | None, limit: int) -> list[Found]:
        """The answer holds a list for each vector that was asked for."""
        body: dict[str, Any] = {
            "query_embeddings": [vector.tolist()],
            "n_results": limit,
            "include": ["distances", "metadatas", "documents"],
        }
        if where is not None:
            body["where"] = where
        answer = await self._ask("search", "query", body)
        rows = zip(
            answer["ids"][0], answer["distances"][0], answer["metadatas"][0], answer["documents"][0], strict=True
        )
        return [self._found(point_id, distance, facts or {}, text) for point_id, distance, facts, text in rows]

    async def remove(self, ids: Sequence[str]) -> None:
        """By id."""
        await self._ask("delete", "delete", {"ids": list(ids)})

    async def remove_where(self, where: Condition) -> None:
        """By filter."""
        await self._ask("delete", "delete", {"where": where})

    async def remove_all(self) -> None:
        """Those of our own making: every one of them has an hour."""
        await self.remove_where(self.condition(self.layout.expires_s, "above", -1.0))

    async def count(self) -> int:
        """Exactly."""
        count: int = await self.ask("stats", "GET", f"{self._root()}/{self._id}/count")
        return count

    def condition(self, field: str, relation: Relation, value: str | float) -> Condition:
        """A `where`."""
        return {field: {_OPERATORS[relation]: value}}

    def all_of(self, *conditions: Condition) -> Condition:
        """All of several."""
        return {"$and": list(conditions)}

    def _found(self, point_id: str, distance: float, facts: Mapping[str, object], text: str | None) -> Found:
        others = {self.layout.id_part: point_id, self.layout.document: text}
        named = {name: value for name, value in others.items() if name is not None}
        return Found(point_id, self.to_cosine(distance), {**facts, **named})

    def _root(self) -> str:
        tenant, database = quote(self.settings.tenant, safe=""), quote(self.settings.database, safe="")
        return f"/api/v2/tenants/{tenant}/databases/{database}/collections"

    async def _ask(self, operation: str, verb: str, body: object) -> Any:  # noqa: ANN401
        return await self.ask(operation, "POST", f"{self._root()}/{self._id}/{verb}", body=body)
