"""Vector databases that no package brings along, as HTTP stand-ins written from their vendors' documentation.

Each keeps what it is sent in a `Table`, and refuses what the real one would: another length, a field it does not know.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.support.graphql_words import aggregated, got

KEY = "key-of-the-test"
JSON = "application/json"

Predicate = Callable[[Mapping[str, Any]], bool]
Endpoint = Callable[[Request], Awaitable[Response]]


def answer(body: object, status: int = 200) -> Response:
    """JSON, as all of them speak it."""
    return Response(orjson.dumps(body), status, media_type=JSON)


class Refused(Exception):
    """What the vendor answers with its own error."""

    def __init__(self, status: int, body: object) -> None:
        self.status = status
        self.body = body
        super().__init__(str(body))


@dataclass
class Table:
    """One collection: vectors of one length, with fields."""

    dimensions: int
    metric: str = "cosine"
    rows: dict[str, tuple[np.ndarray[Any, Any], dict[str, Any]]] = field(default_factory=dict)

    def put(self, row_id: str, vector: list[float], facts: Mapping[str, Any]) -> None:
        """Insert or replace. Raises ValueError for another length."""
        if len(vector) != self.dimensions:
            raise ValueError(f"{len(vector)} instead of {self.dimensions} dimensions")
        self.rows[row_id] = np.array(vector, np.float32), dict(facts)

    def nearest(
        self, vector: list[float], limit: int, passes: Predicate = lambda _: True
    ) -> list[tuple[str, float, dict[str, Any]]]:
        """Ids, cosines and fields, best first. Raises ValueError for another length."""
        if len(vector) != self.dimensions:
            raise ValueError(f"{len(vector)} instead of {self.dimensions} dimensions")
        asked = np.array(vector, np.float32)
        found = [
            (row_id, float(kept @ asked / np.linalg.norm(kept) / np.linalg.norm(asked)), facts)
            for row_id, (kept, facts) in self.rows.items()
            if passes(facts)
        ]
        return sorted(found, key=lambda row: -row[1])[:limit]

    def remove(self, passes: Predicate) -> int:
        """Remove rows by their fields; how many."""
        gone = [row_id for row_id, (_, facts) in self.rows.items() if passes(facts)]
        for row_id in gone:
            del self.rows[row_id]
        return len(gone)


class Vendor:
    """A server by its calls. What it was asked is kept, in order."""

    header: tuple[str, str]
    """What every request must carry, else 401."""

    def __init__(self) -> None:
        self.tables: dict[str, Table] = {}
        self.asked: list[tuple[str, str]] = []

    @property
    def routes(self) -> Mapping[tuple[str, str], Endpoint]:
        """The documented calls."""
        raise NotImplementedError

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Serve in this event loop; the address."""
        routes = [Route(path, self._guarded(call), methods=[method]) for (method, path), call in self.routes.items()]
        async with listening(Starlette(routes=routes)) as url:
            yield url
        self.close()

    def close(self) -> None:
        """Let go of what stands behind it."""

    def _guarded(self, call: Endpoint) -> Endpoint:
        async def respond(request: Request) -> Response:
            name, value = self.header
            self.asked.append((request.method, request.url.path))
            if request.headers.get(name) != value:
                return answer({"error": {"type": "unauthorized"}}, 401)
            try:
                return await call(request)
            except Refused as refused:
                return answer(refused.body, refused.status)

        return respond


@asynccontextmanager
async def listening(app: Starlette) -> AsyncIterator[str]:
    """The address of an application that is served in this event loop."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, log_config=None, lifespan="off", access_log=False, timeout_graceful_shutdown=0)
        server = uvicorn.Server(config)
        server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]  # older releases have it
        serving_task = asyncio.create_task(server._serve([bound]))
        while not server.started:  # noqa: ASYNC110  # uvicorn has no event for it
            await asyncio.sleep(0.001)
        try:
            yield f"http://127.0.0.1:{bound.getsockname()[1]}"
        finally:
            server.should_exit = True
            server.force_exit = True
            await serving_task


class Weaviate(Vendor):
    """https://docs.weaviate.io/weaviate/api: schema, batches of objects, GraphQL."""

    header = ("authorization", f"Bearer {KEY}")

    def __init__(self) -> None:
        super().__init__()
        self.classes: dict[str, dict[str, Any]] = {}

    @property
    def routes(self) -> Mapping[tuple[str, str], Endpoint]:
        """The documented calls."""
        return {
            ("GET", "/v1/schema/{name}"): self.describe,
            ("POST", "/v1/schema"): self.create,
            ("POST", "/v1/batch/objects"): self.batch,
            ("DELETE", "/v1/batch/objects"): self.remove,
            ("POST", "/v1/graphql"): self.query,
        }

    async def describe(self, request: Request) -> Response:
        name = request.path_params["name"]
        return answer(self.classes[name]) if name in self.classes else Response(status_code=404)

    async def create(self, request: Request) -> Response:
        body = await request.json()
        name = body["class"]
        if not name[0].isupper() or name in self.classes:
            raise Refused(422, {"error": [{"message": "invalid class name"}]})
        self.classes[name], self.tables[name] = body, Table(0, body["vectorIndexConfig"]["distance"])
        return answer(body)

    async def batch(self, request: Request) -> Response:
        results = []
        for each in (await request.json())["objects"]:
            error = None
            try:
                if each["class"] not in self.tables:
                    raise ValueError("class not found in schema")
                table = self.tables[each["class"]]
                table.dimensions = table.dimensions or len(each["vector"])
                table.put(each["id"], each["vector"], each["properties"])
            except ValueError as refused:
                error = {"error": [{"message": f"vector lengths don't match: {refused}"}]}
            results.append({"id": each["id"], "result": {"status": "FAILED", "errors": error} if error else {}})
        return answer(results)

    async def remove(self, request: Request) -> Response:
        match = (await request.json())["match"]
        table, where = self.tables[match["class"]], match["where"]
        if where["path"] == ["id"]:
            count = sum(table.rows.pop(each, None) is not None for each in where["valueTextArray"])
        else:
            count = table.remove(_weaviate_where(where))
        return answer({"results": {"matches": count, "limit": 10_000, "successful": count, "failed": 0}})

    async def query(self, request: Request) -> Response:
        text = (await request.json())["query"]
        if "Aggregate" in text:
            name = aggregated(text)
            return answer({"data": {"Aggregate": {name: [{"meta": {"count": len(self.tables[name].rows)}}]}}})
        name, arguments, fields = got(text)
        known = {each["name"] for each in self.classes[name]["properties"]}
        if not set(fields) <= known:
            return answer({"data": None, "errors": [{"message": f"Cannot query field on {name}"}]})
        passes = _weaviate_where(arguments["where"]) if "where" in arguments else lambda _: True
        table = self.tables[name]
        if not table.rows:
            return answer({"data": {"Get": {name: []}}})
        try:
            rows = table.nearest(arguments["nearVector"]["vector"], arguments["limit"], passes)
        except ValueError:
            return answer({"data": {"Get": {name: None}}, "errors": [{"message": "vector lengths don't match"}]})
        found = [
            {each: facts.get(each) for each in fields} | {"_additional": {"id": row_id, "distance": 1 - cosine}}
            for row_id, cosine, facts in rows
        ]
        return answer({"data": {"Get": {name: found}}})


def _weaviate_where(where: Mapping[str, Any]) -> Predicate:
    if where["operator"] == "And":
        every = [_weaviate_where(each) for each in where["operands"]]
        return lambda facts: all(passes(facts) for passes in every)
    (name,) = where["path"]
    value = where.get("valueText", where.get("valueNumber"))
    compare: Callable[[Any], bool] = {
        "Equal": lambda held: held == value,
        "GreaterThan": lambda held: held > value,
        "LessThanEqual": lambda held: held <= value,
    }[where["operator"]]
    return lambda facts: facts.get(name) is not None and compare(facts[name])


class Pinecone(Vendor):
    """https://docs.pinecone.io/reference/api: the data plane of one index; tables are its namespaces."""

    header = ("api-key", KEY)

    def __init__(self, dimensions: int = 8, metric: str = "cosine") -> None:
        super().__init__()
        self.dimensions, self.metric = dimensions, metric

    @property
    def routes(self) -> Mapping[tuple[str, str], Endpoint]:
        """The documented calls."""
        return {
            ("POST", "/describe_index_stats"): self.describe,
            ("POST", "/vectors/upsert"): self.upsert,
            ("POST", "/query"): self.query,
            ("POST", "/vectors/delete"): self.remove,
        }

    async def describe(self, _: Request) -> Response:
        spaces = {name: {"vectorCount": len(table.rows)} for name, table in self.tables.items()}
        return answer({"dimension": self.dimensions, "metric": self.metric, "namespaces": spaces})

    async def upsert(self, request: Request) -> Response:
        body = await request.json()
        table = self.tables.setdefault(body["namespace"], Table(self.dimensions))
        for each in body["vectors"]:
            if not all(isinstance(value, str | int | float | bool | list) for value in each["metadata"].values()):
                raise Refused(400, {"code": 3, "message": "metadata value must be a string, number, boolean or list"})
            try:
                table.put(each["id"], each["values"], each["metadata"])
            except ValueError as refused:
                raise Refused(400, {"code": 3, "message": f"Vector dimension {refused}"}) from None
        return answer({"upsertedCount": len(body["vectors"])})

    async def query(self, request: Request) -> Response:
        body = await request.json()
        table = self.tables.get(body["namespace"], Table(self.dimensions))
        try:
            rows = table.nearest(body["vector"], body["topK"], dollar_where(body.get("filter", {})))
        except ValueError as refused:
            raise Refused(400, {"code": 3, "message": f"Vector dimension {refused}"}) from None
        score: Callable[[float], float] = {"cosine": lambda c: c, "euclidean": lambda c: 2 - 2 * c}[self.metric]
        matches = [{"id": row_id, "score": score(cosine), "metadata": facts} for row_id, cosine, facts in rows]
        return answer({"matches": matches, "namespace": body["namespace"]})

    async def remove(self, request: Request) -> Response:
        body = await request.json()
        if body["namespace"] not in self.tables:
            raise Refused(404, {"code": 5, "message": "Namespace not found"})
        table = self.tables[body["namespace"]]
        if body.get("deleteAll"):
            del self.tables[body["namespace"]]
        for row_id in body.get("ids", ()):
            table.rows.pop(row_id, None)
        if "filter" in body:
            table.remove(dollar_where(body["filter"]))
        return answer({})


def dollar_where(where: Mapping[str, Any]) -> Predicate:
    """A filter of `$and`, `$eq`, `$gt` and `$lte`."""
    every: list[Predicate] = []
    for name, condition in where.items():
        if name == "$and":
            every += [dollar_where(each) for each in condition]
            continue
        for operator, value in condition.items():
            every.append(_compared(name, operator, value))
    return lambda facts: all(passes(facts) for passes in every)


def _compared(name: str, operator: str, value: Any) -> Predicate:
    compare: Callable[[Any], bool] = {
        "$eq": lambda held: held == value,
        "$gt": lambda held: held > value,
        "$lte": lambda held: held <= value,
    }[operator]
    return lambda facts: name in facts and compare(facts[name])
