"""Pinecone: the data plane of one index, https://docs.pinecone.io/reference/api. The collection is a namespace.

Creating an index needs a cloud and a region, which are its owner's to choose: it is checked here, never created.
Writes can be found after some seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from ai_cache_extproc.clients.http import HttpRejected
from ai_cache_extproc.config.indexes import PineconeIndex
from ai_cache_extproc.indexes import scores
from ai_cache_extproc.indexes.base import Point, Vector
from ai_cache_extproc.indexes.remote import Condition, Found, Relation, RemoteDriver, key_header

_API_VERSION = "2025-10"
_OPERATORS: Mapping[Relation, str] = {"is": "$eq", "above": "$gt", "at most": "$lte"}
_METRICS: Mapping[str, scores.ToCosine] = {
    "cosine": scores.similarity,
    "dotproduct": scores.similarity,
    # The square of the distance, as its documentation of queries says.
    "euclidean": scores.squared_euclidean,
}


class Driver(RemoteDriver):
    """A namespace needs no creation."""

    name = "pinecone"
    metrics = _METRICS
    cosine: ClassVar[str] = "cosine"

    @classmethod
    def authorization(cls, settings: PineconeIndex) -> Mapping[str, str]:
        """The header `api-key`, and the version of the API that is spoken here."""
        return {**key_header(cls.name, settings, "api-key"), "x-pinecone-api-version": _API_VERSION}

    async def ensure(self, dimensions: int) -> None:
        """Check the index by its statistics; one of before 2025 does not say how it measures, and is cosine then."""
        facts = await self.ask("prepare", "POST", "/describe_index_stats", body={})
        metric = facts.get("metric", "cosine")
        self.check_fit(self.settings.url, dimensions, held=facts["dimension"], metric=metric)

    async def put(self, points: Sequence[Point]) -> None:
        """Upsert."""
        vectors = [
            {"id": point.id, "values": point.vector.tolist(), "metadata": self.layout.facts(point)} for point in points
        ]
        await self._ask("add", "/vectors/upsert", {"vectors": vectors})

    async def nearest(self, vector: Vector, where: Condition | None, limit: int) -> list[Found]:
        """Query the namespace."""
        body: dict[str, object] = {
            "vector": vector.tolist(),
            "topK": limit,
            "includeMetadata": True,
            "includeValues": False,
        }
        if where is not None:
            body["filter"] = where
        answer = await self._ask("search", "/query", body)
        return [Found(row["id"], self.to_cosine(row["score"]), row.get("metadata") or {}) for row in answer["matches"]]

    async def remove(self, ids: Sequence[str]) -> None:
        """By id."""
        await self._delete({"ids": list(ids)})

    async def remove_where(self, where: Condition) -> None:
        """By filter."""
        await self._delete({"filter": where})

    async def remove_all(self) -> None:
        """The whole namespace."""
        await self._delete({"deleteAll": True})

    async def count(self) -> int:
        """Of the namespace, some seconds behind."""
        facts = await self.ask("stats", "POST", "/describe_index_stats", body={})
        count: int = facts.get("namespaces", {}).get(self.collection(), {}).get("vectorCount", 0)
        return count

    def condition(self, field: str, relation: Relation, value: str | float) -> Condition:
        """A metadata filter."""
        return {field: {_OPERATORS[relation]: value}}

    def all_of(self, *conditions: Condition) -> Condition:
        """All of several."""
        return {"$and": list(conditions)}

    async def _delete(self, body: Mapping[str, object]) -> None:
        try:
            await self._ask("delete", "/vectors/delete", body)
        except HttpRejected as error:
            # A namespace that nothing was ever written to is not there.
            if error.status != 404:
                raise

    async def _ask(self, operation: str, path: str, body: Mapping[str, object]) -> Any:  # noqa: ANN401
        return await self.ask(operation, "POST", path, body={"namespace": self.collection(), **body})
