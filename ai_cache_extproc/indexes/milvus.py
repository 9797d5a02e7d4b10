"""Milvus and Zilliz Cloud: the RESTful API v2, https://milvus.io/api-reference/restful.

It answers 200 to what it refuses, with a code in the body.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import orjson

from ai_cache_extproc.config.indexes import MilvusIndex
from ai_cache_extproc.errors import BackendRejected, BackendUnavailable
from ai_cache_extproc.indexes import scores
from ai_cache_extproc.indexes.base import Point, Vector
from ai_cache_extproc.indexes.remote import Condition, Found, Relation, RemoteDriver, bearer

_VECTOR = "vector"
_OPERATORS: Mapping[Relation, str] = {"is": "==", "above": ">", "at most": "<="}
_METRICS: Mapping[str, scores.ToCosine] = {
    "COSINE": scores.similarity,
    "IP": scores.similarity,
    # Milvus leaves out the root.
    "L2": scores.squared_euclidean,
}
# Milvus' own numbers: 1 to 99 are of the service (not ready, busy, out of memory), 1800 of a wrong login.
_UNREADY = range(1, 100)
_TEXT_CHARS_MAX = 65_535
_ID_CHARS_MAX = 64


class Driver(RemoteDriver):
    """One collection, whose dynamic field takes what another's layout adds."""

    name = "milvus"
    metrics = _METRICS
    cosine: ClassVar[str] = "COSINE"

    @classmethod
    def authorization(cls, settings: MilvusIndex) -> Mapping[str, str]:
        """A token or `USER:PASSWORD`, as a bearer."""
        return bearer(cls.name, settings)

    async def ensure(self, dimensions: int) -> None:
        """Create the collection, which loads it as well, or check its vector field."""
        name = self.collection(dimensions)
        if (await self._ask("prepare", "collections/has", {"collectionName": name}))["has"]:
            await self._check(name, dimensions)
            return
        texts = [
            {"fieldName": field, "dataType": "VarChar", "elementTypeParams": {"max_length": _TEXT_CHARS_MAX}}
            for field in self.layout.texts
        ]
        numbers = [
            {"fieldName": field, "dataType": "Double"} for field in (self.layout.created_s, self.layout.expires_s)
        ]
        key: dict[str, object] = {"fieldName": "id", "dataType": "Int64", "isPrimary": True}
        if self.layout.is_ours:
            key |= {"dataType": "VarChar", "elementTypeParams": {"max_length": _ID_CHARS_MAX}}
        vector = {"fieldName": _VECTOR, "dataType": "FloatVector", "elementTypeParams": {"dim": dimensions}}
        body = {
            "collectionName": name,
            "schema": {
                # The plugin leaves the ids to the server.
                "autoId": not self.layout.is_ours,
                "enableDynamicField": True,
                "fields": [key, vector, *texts, *numbers],
            },
            "indexParams": [
                {
                    "fieldName": _VECTOR,
                    "indexName": _VECTOR,
                    "metricType": "COSINE",
                    "params": {"index_type": "AUTOINDEX"},
                }
            ],
        }
        await self._ask("prepare", "collections/create", body)

    async def put(self, points: Sequence[Point]) -> None:
        """Upsert; into a collection of another's, which makes up its own ids, insert."""
        rows = [self.layout.facts(point) | {_VECTOR: point.vector.tolist()} for point in points]
        if self.layout.is_ours:
            rows = [row | {"id": point.id} for row, point in zip(rows, points, strict=True)]
        path = "entities/upsert" if self.layout.is_ours else "entities/insert"
        await self._ask("add", path, {"collectionName": self.collection(), "data": rows})

    async def nearest(self, vector: Vector, where: Condition | None, limit: int) -> list[Found]:
        """Search the vector field."""
        fields = ["*"] if not self.layout.is_ours else list(self.layout.fields)
        body: dict[str, object] = {
            "collectionName": self.collection(),
            "data": [vector.tolist()],
            "annsField": _VECTOR,
            "limit": limit,
            "outputFields": fields,
        }
        if where is not None:
            body["filter"] = where
        rows = await self._ask("search", "entities/search", body)
        return [Found(str(row.get("id", "")), self.to_cosine(row["distance"]), row) for row in rows]

    async def remove(self, ids: Sequence[str]) -> None:
        """By primary key."""
        listed = ids if self.layout.is_ours else [int(each) if each.isdigit() else each for each in ids]
        await self.remove_where(f"id in {orjson.dumps(listed).decode()}")

    async def remove_where(self, where: Condition) -> None:
        """By filter."""
        await self._ask("delete", "entities/delete", {"collectionName": self.collection(), "filter": where})

    async def remove_all(self) -> None:
        """A filter that holds for every id."""
        await self.remove_where('id != ""' if self.layout.is_ours else "id >= 0")

    async def count(self) -> int:
        """Counted, not estimated."""
        body = {"collectionName": self.collection(), "filter": "", "outputFields": ["count(*)"]}
        (row,) = await self._ask("stats", "entities/query", body)
        count: int = row["count(*)"]
        return count

    def condition(self, field: str, relation: Relation, value: str | float) -> Condition:
        """A boolean expression."""
        return f"{field} {_OPERATORS[relation]} {orjson.dumps(value).decode()}"

    def all_of(self, *conditions: Condition) -> Condition:
        """Joined by `and`."""
        return " and ".join(conditions)

    async def _check(self, name: str, dimensions: int) -> None:
        described = await self._ask("prepare", "collections/describe", {"collectionName": name})
        field = next((each for each in described["fields"] if each["name"] == _VECTOR), None)
        if field is None:
            raise self.refuse("prepare", f"the collection {name} has no field `{_VECTOR}`")
        held = next(int(each["value"]) for each in field["params"] if each["key"] == "dim")
        metric = next((each["metricType"] for each in described["indexes"] if each["fieldName"] == _VECTOR), None)
        self.check_fit(name, dimensions, held=held, metric=metric)

    async def _ask(self, operation: str, path: str, body: Mapping[str, object]) -> Any:  # noqa: ANN401
        database = self.settings.database
        sent = dict(body) if database == "default" else {"dbName": database, **body}

        def read(answer: Any) -> Any:  # noqa: ANN401
            code = answer["code"]
            if code in {0, 200}:
                return answer.get("data")
            kind = BackendUnavailable if code in _UNREADY else BackendRejected
            raise kind(self.name, operation, f"{path}: answered code {code}")

        return await self.ask(operation, "POST", f"/v2/vectordb/{path}", body=sent, read=read)
