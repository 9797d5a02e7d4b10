"""Collections that a plugin of Higress or APISIX shares with us: each reads what the other wrote."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from qdrant_client import models

from ai_cache_extproc.clients.http import HttpClient
from ai_cache_extproc.config.http import HttpService
from ai_cache_extproc.errors import BackendRejected
from ai_cache_extproc.indexes.remote import RemoteDriver
from tests.contract.index_rigs import (
    OTHER,
    PARTITION,
    STANDINS,
    Clock,
    Servers,
    at,
    axis,
    opened,
    point,
    redisearch_section,
    section_of,
    vendor_of,
)
from tests.support.real_vectors import chroma, searching_redis
from tests.support.redis_server import RedisServer
from tests.support.vector_servers_more import Dashvector, Elasticsearch, Qdrant

IDENTITY = "openai|text-embedding-3-small|https://api.openai.com/v1/embeddings|8"
APISIX_PARTITION, FINGERPRINT = "c" * 64, "d" * 64


@pytest.fixture(scope="module")
def searching_redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis with the query engine, for this file."""
    with searching_redis(tmp_path_factory.mktemp("redisearch")) as server:
        yield server


@pytest.fixture(scope="module")
def chroma_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Chroma server, for this file."""
    with chroma(tmp_path_factory.mktemp("chroma") / "data") as url:
        yield url


def answered(vendor: str, question: str, answer: str) -> dict[str, str]:
    """The payload by the plugin's names for this vendor."""
    return {"query" if vendor == "dashvector" else "question": question, "answer": answer}


@pytest.mark.parametrize("partitioned", [True, False], ids=["partitioned", "together"])
@pytest.mark.parametrize("vendor", [*STANDINS, "chroma"])
async def test_answers_stand_in_the_points(
    vendor: str, partitioned: bool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """What is written in the layout of Higress comes back with the answer; partitions hold where they are asked for."""
    servers, payload = Servers(request, tmp_path), answered(vendor, "星星是什么", 'A "star"')
    settings: dict[str, object] = {"layout": "higress", "partitioned": partitioned}
    if vendor == "chroma":
        await _round(section_of(vendor, servers.chroma(), **settings), payload, partitioned=partitioned)
        return
    async with vendor_of(vendor, servers).serving() as url:
        await _round(section_of(vendor, url, **settings), payload, partitioned=partitioned)


async def _round(section: dict[str, object], payload: dict[str, str], *, partitioned: bool) -> None:
    async with opened(section, Clock()) as index:
        assert isinstance(index, RemoteDriver)
        assert section["collection"] == index.collection()
        await index.add([point(1, axis(0), payload=payload)])
        (match,) = await index.search(PARTITION, at(0.98), top_k=1)
        assert payload == match.payload
        assert 0.98 == pytest.approx(match.similarity, abs=1e-3)
        assert (0 if partitioned else 1) == len(await index.search(OTHER, axis(0), top_k=1))
        if not partitioned:
            with pytest.raises(BackendRejected, match="partitioned: false"):
                await index.delete_partition(PARTITION)


async def test_points_of_the_plugin_are_found_in_qdrant() -> None:
    """As Higress writes them: an id of its own, question and answer, nothing else; they never expire."""
    server = Qdrant()
    async with server.serving() as url, opened(_together("qdrant", url), clock := Clock()) as index:
        (collection,) = server.client.get_collections().collections
        payload = {"question": "what is a star", "answer": "a sun"}
        vector = axis(0).tolist()
        server.client.upsert(collection.name, [models.PointStruct(id=str(uuid4()), vector=vector, payload=payload)])
        clock.now_s += 1e8
        (match,) = await index.search(PARTITION, axis(0), top_k=1)
        assert (payload, "", float("inf")) == (match.payload, match.key, match.expires_s)
        assert 1 == await index.delete([match.id])
        assert [] == await index.search(PARTITION, axis(0), top_k=1)


async def test_points_of_the_plugin_are_found_in_elasticsearch_and_dashvector() -> None:
    """The same where the fields stand beside the vector."""
    for server, vendor in ((Elasticsearch(), "elasticsearch"), (Dashvector(), "dashvector")):
        async with server.serving() as url, opened(_together(vendor, url), Clock()) as index:
            (table,) = server.tables.values()
            table.put("AVNx7", axis(0).tolist(), answered(vendor, "what is a star", "a sun"))
            (match,) = await index.search(PARTITION, axis(0), top_k=1)
            assert "a sun" == match.payload["answer"]


async def test_a_collection_of_the_plugin_without_answers_names_questions() -> None:
    """As the `Dash:` block has it: the answer stands in the store, under the question."""
    server = Dashvector()
    async with server.serving() as url, opened(_together("dashvector", url), Clock()) as index:
        (table,) = server.tables.values()
        table.put("1", axis(0).tolist(), {"query": "what is a star"})
        (match,) = await index.search(PARTITION, axis(0), top_k=1)
        assert {"query": "what is a star"} == match.payload


async def test_points_of_the_plugin_are_found_in_chroma(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """There the question is the id and the answer the document, in a collection that measures as Chroma does by default."""
    url = Servers(request, tmp_path).chroma()
    section = _together("chroma", url)
    root = "/api/v2/tenants/default_tenant/databases/default_database/collections"
    async with HttpClient.open("test", HttpService(url=url)) as client:
        made: dict[str, str] = await client.ask("make", "POST", root, body={"name": section["collection"]})
        body = {"ids": ["what is a star"], "embeddings": [at(0.5).tolist()], "documents": ["a sun"]}
        await client.ask("add", "POST", f"{root}/{made['id']}/add", body=body)
    async with opened(section, Clock()) as index:
        (match,) = await index.search(PARTITION, axis(0), top_k=1)
        assert ({"question": "what is a star", "answer": "a sun"}, "what is a star") == (match.payload, match.id)
        assert 0.5 == pytest.approx(match.similarity, abs=1e-3)


def _together(vendor: str, url: str) -> dict[str, object]:
    return section_of(vendor, url, layout="higress", partitioned=False)


@pytest.mark.parametrize("vendor", ["qdrant", "elasticsearch", "dashvector", "milvus", "chroma"])
async def test_a_collection_of_another_length_is_refused(
    vendor: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The error names the collection, both lengths and the way out."""
    servers = Servers(request, tmp_path)
    if vendor == "chroma":
        await _refused(section_of(vendor, servers.chroma(), layout="higress"))
        return
    async with vendor_of(vendor, servers).serving() as url:
        await _refused(section_of(vendor, url, layout="higress"))


async def _refused(section: dict[str, object]) -> None:
    async with opened(section, Clock()) as index:
        await index.add([point(1, axis(0), payload=answered(str(section["type"]), "q", "a"))])
        with pytest.raises(BackendRejected, match=rf"{section['collection']} holds 8 dimensions by .*has 4, .*drop"):
            await index.prepare(4)


async def test_what_apisix_wrote_is_found(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Its index, its hash, its names: `HNSW 6`, no field for the hour, an answer that Redis itself lets expire."""
    server = Servers(request, tmp_path).redis()
    embedder = _embedder()
    index_name, prefix = f"aicache-index:idx:{embedder}:8", f"aicache-index:l2:{embedder}:8:"
    vector: list[str | int] = [
        "embedding",
        "VECTOR",
        "HNSW",
        6,
        "TYPE",
        "FLOAT32",
        "DIM",
        8,
        "DISTANCE_METRIC",
        "COSINE",
    ]
    schema: list[str | int] = ["ON", "HASH", "PREFIX", 1, prefix, "SCHEMA", "partition", "TAG", *vector]
    server.cli("FT.CREATE", index_name, *schema)
    key = f"{prefix}{APISIX_PARTITION}:{FINGERPRINT}"
    facts: list[str | int] = ["response", '{"choices": []}', "created_at", 1_799_999_000, "format", "json"]
    server.cli("HSET", key, "partition", APISIX_PARTITION, "embedding", axis(0).tobytes(), *facts)
    section = redisearch_section(server, layout="apisix")
    async with opened(section, Clock(), identity=IDENTITY) as index:
        (match,) = await index.search(APISIX_PARTITION, at(0.96), top_k=4)
        assert ({"response": '{"choices": []}', "format": "json"}, 1_799_999_000) == (match.payload, match.created_s)
        assert 0.96 == pytest.approx(match.similarity, abs=1e-3)
        assert 1 == await index.delete([match.id])
        assert 0 == server.cli("EXISTS", key)


async def test_apisix_finds_what_we_wrote(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """By its own query, word for word, and with a lifetime on the key."""
    server = Servers(request, tmp_path).redis()
    section = redisearch_section(server, layout="apisix")
    async with opened(section, Clock(), identity=IDENTITY) as index:
        payload = {"response": "{}", "format": "sse"}
        await index.add([point(1, axis(0), id=FINGERPRINT, partition=APISIX_PARTITION, payload=payload)])
    query = f"(@partition:{{{APISIX_PARTITION}}})=>[KNN 1 @embedding $vec AS __score]"
    fields = ["__score", "response", "created_at", "format"]
    name = f"aicache-index:idx:{_embedder()}:8"
    asked: list[str | int | bytes] = [
        "FT.SEARCH",
        name,
        query,
        "PARAMS",
        2,
        "vec",
        axis(0).tobytes(),
        "RETURN",
        4,
        *fields,
    ]
    reply = server.cli(*asked, "SORTBY", "__score", "DIALECT", 2)
    key = f"aicache-index:l2:{_embedder()}:8:{APISIX_PARTITION}:{FINGERPRINT}".encode()
    found = dict(zip(reply[2][0::2], reply[2][1::2], strict=True))
    assert (key, b"{}", b"sse", 0.0) == (reply[1], found[b"response"], found[b"format"], float(found[b"__score"]))
    assert server.cli("PTTL", key) > 0


def _embedder() -> str:
    return hashlib.sha256(IDENTITY.encode()).hexdigest()[:16]
