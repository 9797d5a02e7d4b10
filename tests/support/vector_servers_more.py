"""More stand-ins: Qdrant and Milvus over an engine of their vendor's, Elasticsearch, DashVector."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson
from milvus_lite import CollectionSchema, DataType, FieldSchema, MilvusLite  # type: ignore[import-untyped]
from milvus_lite.exceptions import MilvusLiteError  # type: ignore[import-untyped]
from qdrant_client import QdrantClient, models
from starlette.requests import Request
from starlette.responses import Response

from tests.support.vector_servers import KEY, Endpoint, Predicate, Refused, Table, Vendor, answer


class Qdrant(Vendor):
    """https://api.qdrant.tech: what comes is read by the vendor's own models and done by its client's local mode."""

    header = ("api-key", KEY)

    def __init__(self) -> None:
        super().__init__()
        self.client = QdrantClient(":memory:")

    @property
    def routes(self) -> Mapping[tuple[str, str], Endpoint]:
        """The documented calls."""
        return {
            ("GET", "/collections/{name}"): self.describe,
            ("PUT", "/collections/{name}"): self.create,
            ("PUT", "/collections/{name}/index"): self.create_field,
            ("PUT", "/collections/{name}/points"): self.upsert,
            ("POST", "/collections/{name}/points/query"): self.query,
            ("POST", "/collections/{name}/points/delete"): self.remove,
            ("POST", "/collections/{name}/points/count"): self.count,
        }

    def close(self) -> None:
        """The local client."""
        self.client.close()

    def sizes(self, name: str) -> models.VectorParams:
        if not self.client.collection_exists(name):
            raise Refused(404, {"status": {"error": f"Not found: Collection `{name}` doesn't exist!"}})
        vectors = self.client.get_collection(name).config.params.vectors
        assert isinstance(vectors, models.VectorParams)
        return vectors

    async def describe(self, request: Request) -> Response:
        vectors = self.sizes(request.path_params["name"])
        described = {"size": vectors.size, "distance": vectors.distance.value}
        return answer({"result": {"config": {"params": {"vectors": described}}}, "status": "ok"})

    async def create(self, request: Request) -> Response:
        body = models.CreateCollection.model_validate(await request.json())
        assert isinstance(body.vectors, models.VectorParams)
        self.client.create_collection(request.path_params["name"], vectors_config=body.vectors)
        return answer({"result": True, "status": "ok"})

    async def create_field(self, request: Request) -> Response:
        models.CreateFieldIndex.model_validate(await request.json())
        return answer({"result": {"status": "completed"}, "status": "ok"})

    async def upsert(self, request: Request) -> Response:
        name, body = request.path_params["name"], models.PointsList.model_validate(await request.json())
        size = self.sizes(name).size
        for point in body.points:
            assert isinstance(point.vector, list)
            if len(point.vector) != size:
                raise Refused(400, {"status": {"error": "Wrong input: Vector dimension error"}})
        self.client.upsert(name, body.points)
        return answer({"result": {"status": "completed"}, "status": "ok"})

    async def query(self, request: Request) -> Response:
        name, body = request.path_params["name"], models.QueryRequest.model_validate(await request.json())
        assert isinstance(body.query, list)
        if len(body.query) != self.sizes(name).size:
            raise Refused(400, {"status": {"error": "Wrong input: Vector dimension error"}})
        vector = [float(each) for each in body.query]  # type: ignore[arg-type]  # a list of floats
        found = self.client.query_points(
            name, vector, query_filter=body.filter, limit=body.limit or 10, with_payload=True
        )
        points = [{"id": str(each.id), "score": each.score, "payload": each.payload} for each in found.points]
        return answer({"result": {"points": points}, "status": "ok"})

    async def remove(self, request: Request) -> Response:
        name, body = request.path_params["name"], await request.json()
        listed = "points" in body
        selector = (models.PointIdsList if listed else models.FilterSelector).model_validate(body)
        self.client.delete(name, selector)
        return answer({"result": {"status": "completed"}, "status": "ok"})

    async def count(self, request: Request) -> Response:
        return answer({"result": {"count": self.client.count(request.path_params["name"]).count}, "status": "ok"})


class Milvus(Vendor):
    """The RESTful API v2 over the engine of milvus-lite, whose own server speaks gRPC alone."""

    header = ("authorization", f"Bearer {KEY}")

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.database = MilvusLite(str(folder))
        self.kinds = {
            "Int64": DataType.INT64,
            "VarChar": DataType.VARCHAR,
            "Double": DataType.DOUBLE,
            "FloatVector": DataType.FLOAT_VECTOR,
        }

    @property
    def routes(self) -> Mapping[tuple[str, str], Endpoint]:
        """The documented calls."""
        return {("POST", "/v2/vectordb/{path:path}"): self.respond}

    def close(self) -> None:
        """The engine's files."""
        self.database.close()

    def described(self, name: str) -> dict[str, Any]:
        facts = self.database.get_collection(name).describe()
        fields = [
            {
                "name": each["name"],
                "type": each["dtype"],
                "primaryKey": each["is_primary"],
                "params": [{"key": "dim", "value": str(each["dim"])}] if each["dim"] else [],
            }
            for each in facts["schema"]["fields"]
        ]
        specs = facts["index_specs"].items()
        indexes = [{"fieldName": field, "metricType": spec["metric_type"]} for field, spec in specs]
        return {"collectionName": name, "fields": fields, "indexes": indexes, "load": "LoadStateLoaded"}

    def created(self, body: Mapping[str, Any]) -> dict[str, Any]:
        schema = body["schema"]
        fields = [
            FieldSchema(
                name=each["fieldName"],
                dtype=self.kinds[each["dataType"]],
                is_primary=each.get("isPrimary", False),
                auto_id=schema["autoId"] and each.get("isPrimary", False),
                dim=each.get("elementTypeParams", {}).get("dim"),
                max_length=each.get("elementTypeParams", {}).get("max_length"),
            )
            for each in schema["fields"]
        ]
        collection = self.database.create_collection(
            body["collectionName"], CollectionSchema(fields, enable_dynamic_field=schema["enableDynamicField"])
        )
        for each in body["indexParams"]:
            parameters = {"index_type": each["params"]["index_type"], "metric_type": each["metricType"], "params": {}}
            collection.create_index(each["fieldName"], parameters)
        collection.load()
        return {}

    def searched(self, collection: Any, body: Mapping[str, Any]) -> list[dict[str, Any]]:
        fields = None if body["outputFields"] == ["*"] else body["outputFields"]
        (rows,) = collection.search(
            body["data"], top_k=body["limit"], expr=body.get("filter"), output_fields=fields, anns_field="vector"
        )
        return [{"id": row["id"], "distance": row["distance"], **row["entity"]} for row in rows]

    def done(self, path: str, body: Mapping[str, Any]) -> object:
        name = body["collectionName"]
        if path == "collections/has":
            return {"has": self.database.has_collection(name)}
        if path == "collections/create":
            return self.created(body)
        if path == "collections/describe":
            return self.described(name)
        collection = self.database.get_collection(name)
        if path == "entities/search":
            return self.searched(collection, body)
        if path == "entities/insert":
            return {"insertCount": len(collection.insert(body["data"]))}
        if path == "entities/upsert":
            return {"upsertCount": len(collection.upsert(body["data"]))}
        if path == "entities/delete":
            collection.delete([row["id"] for row in collection.query(body["filter"], output_fields=["id"])])
            return {}
        assert path == "entities/query", path
        return [{"count(*)": len(collection.query(body["filter"] or None, output_fields=["id"]))}]

    async def respond(self, request: Request) -> Response:
        body = await request.json()
        try:
            return answer({"code": 0, "data": self.done(request.path_params["path"], body)})
        except (MilvusLiteError, ValueError) as error:
            # As Milvus does: 200, and the code says what was wrong.
            return answer({"code": 1100, "message": str(error)})


class Elasticsearch(Vendor):
    """https://www.elastic.co/docs/api: mappings, bulk, kNN search, delete by query."""

    header = ("authorization", f"ApiKey {KEY}")

    def __init__(self) -> None:
        super().__init__()
        self.mappings: dict[str, dict[str, Any]] = {}

    @property
    def routes(self) -> Mapping[tuple[str, str], Endpoint]:
        """The documented calls."""
        return {
            ("GET", "/{name}/_mapping"): self.mapping,
            ("PUT", "/{name}"): self.create,
            ("POST", "/{name}/_bulk"): self.bulk,
            ("POST", "/{name}/_search"): self.search,
            ("POST", "/{name}/_delete_by_query"): self.remove,
            ("GET", "/{name}/_count"): self.count,
        }

    def table_of(self, request: Request) -> Table:
        name = request.path_params["name"]
        if name not in self.tables:
            raise Refused(404, {"error": {"type": "index_not_found_exception"}, "status": 404})
        return self.tables[name]

    async def mapping(self, request: Request) -> Response:
        self.table_of(request)
        name = request.path_params["name"]
        return answer({name: {"mappings": self.mappings[name]}})

    async def create(self, request: Request) -> Response:
        name, body = request.path_params["name"], await request.json()
        vector = body["mappings"]["properties"]["embedding"]
        assert vector["type"] == "dense_vector"
        self.tables[name], self.mappings[name] = Table(vector["dims"], vector["similarity"]), body["mappings"]
        return answer({"acknowledged": True})

    async def bulk(self, request: Request) -> Response:
        assert request.headers["content-type"] == "application/x-ndjson"
        text = await request.body()
        assert text.endswith(b"\n"), "the last line must end too"
        lines = [orjson.loads(line) for line in text.splitlines()]
        table, items = self.table_of(request), []
        for action, source in zip(lines[0::2], lines[1::2], strict=True):
            point_id, item = action["index"]["_id"], {"status": 201}
            try:
                facts = {name: value for name, value in source.items() if name != "embedding"}
                table.put(point_id, source["embedding"], facts)
            except ValueError:
                item = {"status": 400, "error": {"type": "document_parsing_exception"}}  # type: ignore[dict-item]
            items.append({"index": {"_id": point_id, **item}})
        return answer({"errors": any("error" in each["index"] for each in items), "items": items})

    async def search(self, request: Request) -> Response:
        body = await request.json()
        knn = body["knn"]
        assert knn["k"] <= knn["num_candidates"]
        try:
            rows = self.table_of(request).nearest(knn["query_vector"], knn["k"], _query(knn.get("filter")))
        except ValueError:
            raise Refused(400, {"error": {"type": "illegal_argument_exception"}, "status": 400}) from None
        hits = [{"_id": row_id, "_score": (1 + cosine) / 2, "_source": facts} for row_id, cosine, facts in rows]
        return answer({"hits": {"hits": hits[: body["size"]]}})

    async def remove(self, request: Request) -> Response:
        table, query = self.table_of(request), (await request.json())["query"]
        if "ids" in query:
            return answer({"deleted": sum(table.rows.pop(each, None) is not None for each in query["ids"]["values"])})
        return answer({"deleted": table.remove(_query(query))})

    async def count(self, request: Request) -> Response:
        return answer({"count": len(self.table_of(request).rows)})


def _query(query: Mapping[str, Any] | None) -> Predicate:
    if query is None or "match_all" in query:
        return lambda _: True
    if "bool" in query:
        every = [_query(each) for each in query["bool"]["filter"]]
        return lambda facts: all(passes(facts) for passes in every)
    if "term" in query:
        ((name, value),) = query["term"].items()
        return lambda facts: facts.get(name) == value
    ((name, bounds),) = query["range"].items()
    ((relation, bound),) = bounds.items()
    compare: Callable[[Any], bool] = {"gt": lambda held: held > bound, "lte": lambda held: held <= bound}[relation]
    return lambda facts: name in facts and compare(facts[name])


_SQL = re.compile(r"(\w+) (=|>|<=) ('[^']*'|-?\d+)")


class Dashvector(Vendor):
    """https://help.aliyun.com/document_detail/2510317.html: 200 with a code in it, whatever was asked."""

    header = ("dashvector-auth-token", KEY)

    def __init__(self) -> None:
        super().__init__()
        self.schemas: dict[str, dict[str, str]] = {}

    @property
    def routes(self) -> Mapping[tuple[str, str], Endpoint]:
        """The documented calls."""
        root = "/v1/collections"
        return {
            ("POST", root): self.create,
            ("GET", root + "/{name}"): self.describe,
            ("POST", root + "/{name}/docs/upsert"): self.upsert,
            ("DELETE", root + "/{name}/docs"): self.remove,
            ("POST", root + "/{name}/query"): self.query,
            ("GET", root + "/{name}/stats"): self.stats,
        }

    def said(self, output: object = None, code: int = 0) -> Response:
        body = {"request_id": "1", "code": code, "message": ""}
        return answer(body if output is None else body | {"output": output})

    def fits(self, name: str, facts: Mapping[str, Any]) -> bool:
        kinds = {"STRING": str, "INT": int, "FLOAT": float}
        return all(
            type(value) is kinds[self.schemas[name][each]]
            for each, value in facts.items()
            if each in self.schemas[name]
        )

    async def describe(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self.tables:
            return self.said(code=-2021)
        table = self.tables[name]
        return self.said({"name": name, "dimension": table.dimensions, "metric": table.metric, "status": "SERVING"})

    async def create(self, request: Request) -> Response:
        body = await request.json()
        if not re.fullmatch(r"[A-Za-z0-9_-]{3,32}", body["name"]):
            return self.said(code=-2010)
        self.tables[body["name"]] = Table(body["dimension"], body["metric"])
        self.schemas[body["name"]] = body["fields_schema"]
        return self.said()

    async def upsert(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self.tables:
            return self.said(code=-2021)
        for each in (await request.json())["docs"]:
            if not self.fits(name, each["fields"]):
                return self.said(code=-2027)
            try:
                self.tables[name].put(each["id"], each["vector"], each["fields"])
            except ValueError:
                return self.said(code=-2012)
        return self.said([])

    async def query(self, request: Request) -> Response:
        body, table = await request.json(), self.tables[request.path_params["name"]]
        where = _SQL.findall(body.get("filter", ""))
        assert " and ".join(" ".join(each) for each in where) == body.get("filter", "")
        if "vector" not in body:
            gone = [row_id for row_id, (_, facts) in table.rows.items() if _sql(where)(facts)]
            return self.said([{"id": row_id, "fields": {}} for row_id in gone[: body["topk"]]])
        try:
            rows = table.nearest(body["vector"], body["topk"], _sql(where))
        except ValueError:
            return self.said(code=-2012)
        return self.said([{"id": row_id, "score": 1 - cosine, "fields": facts} for row_id, cosine, facts in rows])

    async def remove(self, request: Request) -> Response:
        body, table = await request.json(), self.tables[request.path_params["name"]]
        for row_id in list(table.rows) if body.get("delete_all") else body["ids"]:
            table.rows.pop(row_id, None)
        return self.said([])

    async def stats(self, request: Request) -> Response:
        return self.said({"total_doc_count": str(len(self.tables[request.path_params["name"]].rows))})


def _sql(where: list[tuple[str, str, str]]) -> Predicate:
    def passes(facts: Mapping[str, Any], name: str, operator: str, shown: str) -> bool:
        if shown.startswith("'"):
            return bool(facts[name] == shown[1:-1])
        return bool(facts[name] > int(shown) if operator == ">" else facts[name] <= int(shown))

    return lambda facts: all(passes(facts, *each) for each in where)
