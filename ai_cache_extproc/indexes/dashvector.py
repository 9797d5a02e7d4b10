"""DashVector (Alibaba Cloud): its HTTP API, https://help.aliyun.com/document_detail/2510317.html.

It answers 200 to what it refuses, with a code in the body, and removes by id alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from ai_cache_extproc.config.indexes import DashVectorIndex
from ai_cache_extproc.indexes import scores
from ai_cache_extproc.indexes.base import Point, Vector
from ai_cache_extproc.indexes.layout import NEVER_S
from ai_cache_extproc.indexes.remote import Condition, Found, Relation, RemoteDriver, key_header

_OPERATORS: Mapping[Relation, str] = {"is": "=", "above": ">", "at most": "<="}
_METRICS: Mapping[str, scores.ToCosine] = {
    "cosine": scores.distance,
    "dotproduct": scores.similarity,
    "euclidean": scores.squared_euclidean,
}
_ROWS_MAX = 1024
_NAME_CHARS_MAX = 32
_NOT_FOUND = -2021
"""The code for a collection that does not exist."""


class Driver(RemoteDriver):
    """Times are whole seconds: its FLOAT has 24 bits."""

    name = "dashvector"
    metrics = _METRICS
    cosine: ClassVar[str] = "cosine"

    @classmethod
    def authorization(cls, settings: DashVectorIndex) -> Mapping[str, str]:
        """The header `dashvector-auth-token`."""
        return key_header(cls.name, settings, "dashvector-auth-token")

    async def ensure(self, dimensions: int) -> None:
        """Create the collection with the fields that are filtered by, or check it."""
        name = self.collection(dimensions)
        if len(name) > _NAME_CHARS_MAX:
            reason = (
                f"the collection's name {name} has more than {_NAME_CHARS_MAX} characters; shorten `index.collection`"
            )
            raise self.refuse("prepare", reason)
        found = await self.ask("prepare", "GET", f"/v1/collections/{name}")
        if found["code"] == 0:
            output = found["output"]
            metric = output.get("metric", "cosine")
            self.check_fit(name, dimensions, held=output["dimension"], metric=metric)
            return
        if found["code"] != _NOT_FOUND:
            raise self.refuse("prepare", f"answered code {found['code']}")
        fields = dict.fromkeys(self.layout.texts, "STRING")
        fields |= {self.layout.created_s: "INT", self.layout.expires_s: "INT"}
        body = {"name": name, "dimension": dimensions, "metric": "cosine", "fields_schema": fields}
        _accepted(self, "prepare", await self.ask("prepare", "POST", "/v1/collections", body=body))

    async def put(self, points: Sequence[Point]) -> None:
        """Upsert."""
        docs = [{"id": point.id, "vector": point.vector.tolist(), "fields": self._facts(point)} for point in points]
        await self._ask("add", "POST", "/docs/upsert", {"docs": docs})

    async def nearest(self, vector: Vector, where: Condition | None, limit: int) -> list[Found]:
        """The nearest of those that pass the filter."""
        body: dict[str, object] = {"vector": vector.tolist(), "topk": limit, "include_vector": False}
        if where is not None:
            body["filter"] = where
        return [
            Found(row["id"], self.to_cosine(row["score"]), row.get("fields") or {})
            for row in await self._ask("search", "POST", "/query", body)
        ]

    async def remove(self, ids: Sequence[str]) -> None:
        """By id."""
        await self._ask("delete", "DELETE", "/docs", {"ids": list(ids)})

    async def remove_where(self, where: Condition) -> None:
        """Find their ids without a vector, then remove those, until none is found."""
        while True:
            body = {"filter": where, "topk": _ROWS_MAX, "include_vector": False}
            ids = [row["id"] for row in await self._ask("delete", "POST", "/query", body)]
            if ids:
                await self.remove(ids)
            if len(ids) < _ROWS_MAX:
                return

    async def remove_all(self) -> None:
        """Every document."""
        await self._ask("clear", "DELETE", "/docs", {"delete_all": True})

    async def count(self) -> int:
        """As its statistics have it."""
        count: int = (await self._ask("stats", "GET", "/stats", None))["total_doc_count"]
        return int(count)

    def condition(self, field: str, relation: Relation, value: str | float) -> Condition:
        """As in the WHERE of SQL. Text is a digest: there is nothing to escape."""
        shown = f"'{value}'" if isinstance(value, str) else str(int(value))
        return f"{field} {_OPERATORS[relation]} {shown}"

    def all_of(self, *conditions: Condition) -> Condition:
        """Joined by `and`."""
        return " and ".join(conditions)

    def _facts(self, point: Point) -> dict[str, str | int]:
        facts = self.layout.facts(point)
        return {name: value if isinstance(value, str) else min(int(value), NEVER_S) for name, value in facts.items()}

    async def _ask(self, operation: str, method: str, path: str, body: object) -> Any:  # noqa: ANN401
        answer = await self.ask(operation, method, f"/v1/collections/{self.collection()}{path}", body=body)
        return _accepted(self, operation, answer)


def _accepted(driver: Driver, operation: str, answer: Mapping[str, Any]) -> Any:  # noqa: ANN401
    if answer["code"] != 0:
        raise driver.refuse(operation, f"answered code {answer['code']}")
    return answer.get("output")
