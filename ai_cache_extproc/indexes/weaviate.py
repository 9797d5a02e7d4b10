"""Weaviate: objects over REST, searches over GraphQL, https://docs.weaviate.io/weaviate/api."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from uuid import UUID

import orjson

from ai_cache_extproc.config.indexes import WeaviateIndex
from ai_cache_extproc.indexes import scores
from ai_cache_extproc.indexes.base import Point, Vector
from ai_cache_extproc.indexes.remote import Condition, Found, Relation, RemoteDriver, bearer

_OPERATORS: Mapping[Relation, str] = {"is": "Equal", "above": "GreaterThan", "at most": "LessThanEqual"}
_METRICS: Mapping[str, scores.ToCosine] = {
    "cosine": scores.distance,
    "dot": scores.negated_dot,
    "l2-squared": scores.squared_euclidean,
}


class Driver(RemoteDriver):
    """Object ids are UUIDs there. A class does not say how long its vectors are: the first one decides."""

    name = "weaviate"
    metrics = _METRICS
    cosine: ClassVar[str] = "cosine"

    @classmethod
    def authorization(cls, settings: WeaviateIndex) -> Mapping[str, str]:
        """A bearer."""
        return bearer(cls.name, settings)

    def collection(self, dimensions: int | None = None) -> str:
        """Classes begin with a capital letter."""
        name = super().collection(dimensions).replace("-", "_")
        return name[:1].upper() + name[1:]

    async def ensure(self, dimensions: int) -> None:
        """Create the class, or check how it measures."""
        name = self.collection(dimensions)
        found = await self.ask_or_none("prepare", "GET", f"/v1/schema/{name}")
        if found is None:
            await self.ask("prepare", "POST", "/v1/schema", body=self._class(name))
            return
        metric = (found.get("vectorIndexConfig") or {}).get("distance", "cosine")
        self.check_fit(name, dimensions, held=dimensions, metric=metric)

    async def put(self, points: Sequence[Point]) -> None:
        """In a batch, which replaces; the answer is 200 even where an object was refused."""
        objects = [
            {
                "class": self.collection(),
                "id": str(UUID(point.id)),
                "vector": point.vector.tolist(),
                "properties": self.layout.facts(point),
            }
            for point in points
        ]
        answer = await self.ask("add", "POST", "/v1/batch/objects", body={"objects": objects})
        if any((row.get("result") or {}).get("errors") for row in answer):
            raise self.refuse("add", "objects were refused (another length of vector, or another type of property)")

    async def nearest(self, vector: Vector, where: Condition | None, limit: int) -> list[Found]:
        """GraphQL's `Get`."""
        name, fields = self.collection(), " ".join(self.layout.fields)
        arguments = f"limit: {limit}, nearVector: {{vector: {orjson.dumps(vector.tolist()).decode()}}}"
        if where is not None:
            arguments += f", where: {_graphql(where)}"
        query = f"{{ Get {{ {name}({arguments}) {{ {fields} _additional {{ id distance }} }} }} }}"
        answer = await self._query("search", query)
        return [
            Found(row["_additional"]["id"].replace("-", ""), self.to_cosine(float(row["_additional"]["distance"])), row)
            for row in answer["Get"][name] or ()
        ]

    async def remove(self, ids: Sequence[str]) -> None:
        """By id."""
        listed = [str(UUID(each)) for each in ids]
        await self.remove_where({"path": ["id"], "operator": "ContainsAny", "valueTextArray": listed})

    async def remove_where(self, where: Condition) -> None:
        """In batches: one call removes as many objects as the server's `QUERY_MAXIMUM_RESULTS`."""
        body = {"match": {"class": self.collection(), "where": where}, "output": "minimal"}
        while True:
            answer = await self.ask("delete", "DELETE", "/v1/batch/objects", body=body)
            results = answer["results"]
            if results["matches"] < results["limit"]:
                return

    async def remove_all(self) -> None:
        """Those of our own making: every one of them has an hour."""
        await self.remove_where(self.condition(self.layout.expires_s, "above", -1.0))

    async def count(self) -> int:
        """GraphQL's `Aggregate`."""
        name = self.collection()
        answer = await self._query("stats", f"{{ Aggregate {{ {name} {{ meta {{ count }} }} }} }}")
        count: int = answer["Aggregate"][name][0]["meta"]["count"]
        return count

    def condition(self, field: str, relation: Relation, value: str | float) -> Condition:
        """A `where` of one field."""
        kind = "valueText" if isinstance(value, str) else "valueNumber"
        return {"path": [field], "operator": _OPERATORS[relation], kind: value}

    def all_of(self, *conditions: Condition) -> Condition:
        """All of several."""
        return {"operator": "And", "operands": list(conditions)}

    def _class(self, name: str) -> dict[str, Any]:
        texts = [
            # As one word: the default cuts text into words and matches any of them.
            {"name": field, "dataType": ["text"], "tokenization": "field", "indexSearchable": False}
            | {"indexFilterable": field == self.layout.partition}
            for field in self.layout.texts
        ]
        numbers = [
            {"name": field, "dataType": ["number"], "indexRangeFilters": True}
            for field in (self.layout.created_s, self.layout.expires_s)
        ]
        return {
            "class": name,
            "vectorizer": "none",
            "vectorIndexConfig": {"distance": "cosine"},
            "properties": [*texts, *numbers],
        }

    async def _query(self, operation: str, query: str) -> Any:  # noqa: ANN401
        answer = await self.ask(operation, "POST", "/v1/graphql", body={"query": query})
        if answer.get("errors"):
            raise self.refuse(
                operation, "the query was refused (another length of vector, or a field that is not there)"
            )
        return answer["data"]


def _graphql(value: Any) -> str:  # noqa: ANN401
    """A filter as a GraphQL value: names without quotes, and the operator is one of them."""
    if isinstance(value, dict):
        members = (f"{name}: {member if name == 'operator' else _graphql(member)}" for name, member in value.items())
        return f"{{{', '.join(members)}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_graphql, value))}]"
    return orjson.dumps(value).decode()
