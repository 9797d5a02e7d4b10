"""Elasticsearch: kNN search on a `dense_vector`, https://www.elastic.co/docs/solutions/search/vector/knn.

Writes can be found after the index's refresh interval, a second by default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import orjson

from ai_cache_extproc.config.indexes import ElasticsearchIndex
from ai_cache_extproc.indexes import scores
from ai_cache_extproc.indexes.base import Point, Vector
from ai_cache_extproc.indexes.remote import Condition, Found, Relation, RemoteDriver, basic, key_header, secret_of

_VECTOR = "embedding"
_CANDIDATES = 64
_RANGES: Mapping[str, str] = {"above": "gt", "at most": "lte"}
_METRICS: Mapping[str, scores.ToCosine] = {
    "cosine": scores.halved,
    "dot_product": scores.halved,
    # 1 / (1 + the square of the distance).
    "l2_norm": lambda score: scores.squared_euclidean(1.0 / score - 1.0),
}
_LINES = {"content-type": "application/x-ndjson"}


class Driver(RemoteDriver):
    """Ids are the documents' own."""

    name = "elasticsearch"
    metrics = _METRICS
    cosine: ClassVar[str] = "cosine"

    @classmethod
    def authorization(cls, settings: ElasticsearchIndex) -> Mapping[str, str]:
        """An API key, else a login."""
        if settings.username is not None:
            password = secret_of(cls.name, settings.password, settings.password_file)
            return basic(settings.username, password or "")
        found = key_header(cls.name, settings, "authorization")
        return {name: f"ApiKey {key}" for name, key in found.items()}

    async def ensure(self, dimensions: int) -> None:
        """Create the index with its mapping, or check the vector's."""
        name = self.collection(dimensions)
        found = await self.ask_or_none("prepare", "GET", f"/{name}/_mapping")
        if found is None:
            await self.ask("prepare", "PUT", f"/{name}", body={"mappings": self._mapping(dimensions)})
            return
        (described,) = found.values()
        field = described["mappings"].get("properties", {}).get(_VECTOR)
        if field is None or field.get("type") != "dense_vector":
            raise self.refuse("prepare", f"the index {name} has no `dense_vector` named `{_VECTOR}`")
        metric = field.get("similarity", "cosine")
        # Without an explicit length the first vector decides.
        held = field.get("dims", dimensions)
        self.check_fit(name, dimensions, held=held, metric=metric)

    async def put(self, points: Sequence[Point]) -> None:
        """In bulk; the answer is 200 even where every one of them was refused."""
        lines: list[object] = []
        for point in points:
            lines += [{"index": {"_id": point.id}}, {_VECTOR: point.vector.tolist(), **self.layout.facts(point)}]
        body = b"".join(orjson.dumps(line) + b"\n" for line in lines)
        answer = await self.ask("add", "POST", f"/{self.collection()}/_bulk", body=body, headers=_LINES)
        if answer["errors"]:
            first = next(item["index"]["error"]["type"] for item in answer["items"] if "error" in item["index"])
            raise self.refuse("add", f"documents were refused ({first})")

    async def nearest(self, vector: Vector, where: Condition | None, limit: int) -> list[Found]:
        """The filter applies while the neighbours are looked for, so that it leaves none too few."""
        knn: dict[str, object] = {
            "field": _VECTOR,
            "query_vector": vector.tolist(),
            "k": limit,
            "num_candidates": max(_CANDIDATES, limit),
        }
        if where is not None:
            knn["filter"] = where
        body = {"knn": knn, "size": limit, "_source": {"excludes": [_VECTOR]}}
        answer = await self.ask("search", "POST", f"/{self.collection()}/_search", body=body)
        return [
            Found(row["_id"], self.to_cosine(row["_score"]), row.get("_source") or {}) for row in answer["hits"]["hits"]
        ]

    async def remove(self, ids: Sequence[str]) -> None:
        """By id."""
        await self._delete({"ids": {"values": list(ids)}})

    async def remove_where(self, where: Condition) -> None:
        """By query."""
        await self._delete(where)

    async def remove_all(self) -> None:
        """By a query for everything."""
        await self._delete({"match_all": {}})

    async def count(self) -> int:
        """What a search would find."""
        count: int = (await self.ask("stats", "GET", f"/{self.collection()}/_count"))["count"]
        return count

    def condition(self, field: str, relation: Relation, value: str | float) -> Condition:
        """A query."""
        if relation == "is":
            return {"term": {field: value}}
        return {"range": {field: {_RANGES[relation]: value}}}

    def all_of(self, *conditions: Condition) -> Condition:
        """A query for all of several."""
        return {"bool": {"filter": list(conditions)}}

    def _mapping(self, dimensions: int) -> dict[str, Any]:
        layout = self.layout
        vector = {"type": "dense_vector", "dims": dimensions, "index": True, "similarity": "cosine"}
        kept: dict[str, Any] = {field: {"type": "keyword", "index": False} for field in layout.texts}
        numbers = {field: {"type": "double"} for field in (layout.created_s, layout.expires_s)}
        filtered = {} if layout.partition is None else {layout.partition: {"type": "keyword"}}
        return {"properties": {_VECTOR: vector, **kept, **numbers, **filtered}}

    async def _delete(self, query: Condition) -> None:
        path = f"/{self.collection()}/_delete_by_query?conflicts=proceed&refresh=true"
        await self.ask("delete", "POST", path, body={"query": query})
