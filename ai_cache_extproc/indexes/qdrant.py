"""Qdrant: its REST API, https://api.qdrant.tech/api-reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from uuid import UUID

from ai_cache_extproc.config.indexes import QdrantIndex
from ai_cache_extproc.indexes import scores
from ai_cache_extproc.indexes.base import Point, Vector
from ai_cache_extproc.indexes.remote import Condition, Found, Relation, RemoteDriver, key_header

_RANGES: Mapping[str, str] = {"above": "gt", "at most": "lte"}
_METRICS: Mapping[str, scores.ToCosine] = {
    "Cosine": scores.similarity,
    "Dot": scores.similarity,
    "Euclid": scores.euclidean,
}


class Driver(RemoteDriver):
    """Point ids are UUIDs there."""

    name = "qdrant"
    metrics = _METRICS
    cosine: ClassVar[str] = "Cosine"

    @classmethod
    def authorization(cls, settings: QdrantIndex) -> Mapping[str, str]:
        """The header `api-key`."""
        return key_header(cls.name, settings, "api-key")

    async def ensure(self, dimensions: int) -> None:
        """Create the collection with indexes on what is filtered by, or check its vectors."""
        path = f"/collections/{self.collection(dimensions)}"
        found = await self.ask_or_none("prepare", "GET", path)
        if found is not None:
            vectors = found["result"]["config"]["params"]["vectors"]
            metric = vectors.get("distance")
            self.check_fit(self.collection(dimensions), dimensions, held=vectors.get("size"), metric=metric)
            return
        vectors = {"size": dimensions, "distance": "Cosine"}
        await self.ask("prepare", "PUT", path, body={"vectors": vectors})
        fields: dict[str | None, object] = {
            self.layout.partition: {"type": "keyword", "is_tenant": True},
            self.layout.expires_s: "float",
        }
        for field, schema in fields.items():
            if field is not None:
                described = {"field_name": field, "field_schema": schema}
                await self.ask("prepare", "PUT", f"{path}/index?wait=true", body=described)

    async def put(self, points: Sequence[Point]) -> None:
        """Upsert, and wait until it can be found."""
        body = {
            "points": [
                {"id": _uuid(point.id), "vector": point.vector.tolist(), "payload": self.layout.facts(point)}
                for point in points
            ]
        }
        await self._points("add", "PUT", "?wait=true", body)

    async def nearest(self, vector: Vector, where: Condition | None, limit: int) -> list[Found]:
        """Query points (the successor of search)."""
        body: dict[str, Any] = {"query": vector.tolist(), "limit": limit, "with_payload": True}
        if where is not None:
            body["filter"] = where
        answer = await self._points("search", "POST", "/query", body)
        return [
            Found(str(row["id"]).replace("-", ""), self.to_cosine(row["score"]), row.get("payload") or {})
            for row in answer["result"]["points"]
        ]

    async def remove(self, ids: Sequence[str]) -> None:
        """By id."""
        await self._points("delete", "POST", "/delete?wait=true", {"points": [_uuid(each) for each in ids]})

    async def remove_where(self, where: Condition) -> None:
        """By filter."""
        await self._points("delete", "POST", "/delete?wait=true", {"filter": self.all_of(where)})

    async def remove_all(self) -> None:
        """With a filter that lets everything through."""
        await self._points("clear", "POST", "/delete?wait=true", {"filter": {}})

    async def count(self) -> int:
        """Exactly."""
        answer = await self._points("stats", "POST", "/count", {"exact": True})
        count: int = answer["result"]["count"]
        return count

    def condition(self, field: str, relation: Relation, value: str | float) -> Condition:
        """A condition of `must`."""
        if relation == "is":
            return {"key": field, "match": {"value": value}}
        return {"key": field, "range": {_RANGES[relation]: value}}

    def all_of(self, *conditions: Condition) -> Condition:
        """A filter."""
        return {"must": list(conditions)}

    async def _points(self, operation: str, method: str, path: str, body: object) -> Any:  # noqa: ANN401
        return await self.ask(operation, method, f"/collections/{self.collection()}/points{path}", body=body)


def _uuid(point_id: str) -> str | int:
    """Ids of another's points may be numbers."""
    return str(UUID(point_id)) if len(point_id) == 32 else int(point_id)
