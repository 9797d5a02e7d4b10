"""What becomes of a search when the server behind an index is down, slow, or answers with something else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ai_cache_extproc.errors import BackendError, BackendRejected, BackendTimeout, BackendUnavailable
from ai_cache_extproc.indexes import open_index, remote
from ai_cache_extproc.indexes.base import Index
from ai_cache_extproc.indexes.remote import RemoteDriver
from tests.contract.index_rigs import PARTITION, STANDINS, Clock, Servers, axis, opened, point, section_of, vendor_of
from tests.support.index_settings import index_settings
from tests.support.redis_server import server_port
from tests.support.shared_redis import until
from tests.support.vector_servers import KEY, Pinecone, Weaviate, answer, listening
from tests.support.vector_servers_more import Dashvector, Elasticsearch, Qdrant

REMOTE = (*STANDINS, "chroma")


@asynccontextmanager
async def saying(response: Response | None) -> AsyncIterator[str]:
    """A server that answers everything with this; None: with nothing at all, for as long as anyone waits."""

    async def respond(request: Request) -> Response:
        if response is None:
            while not await request.is_disconnected():  # noqa: ASYNC110  # Starlette has no event for it
                await asyncio.sleep(0.01)
            return Response()
        return response

    methods = ["GET", "POST", "PUT", "DELETE"]
    async with listening(Starlette(routes=[Route("/{path:path}", respond, methods=methods)])) as url:
        yield url


@asynccontextmanager
async def unprepared(vendor: str, url: str, **changes: object) -> AsyncIterator[RemoteDriver]:
    """An index of this vendor, as if it had been prepared while all was well."""
    settings = index_settings(section_of(vendor, url, **changes))
    opening = open_index(settings, identity="x", store=None, clock=Clock(), breaker_watch=lambda *_: None)
    async with opening as index:
        assert isinstance(index, RemoteDriver)
        yield index


async def every_operation(index: RemoteDriver) -> list[type[BackendError] | None]:
    """What each operation raises."""
    index.dimensions = 8
    raised: list[type[BackendError] | None] = []
    for operation in (
        index.search(PARTITION, axis(0), top_k=4),
        index.add([point(1, axis(0))]),
        index.delete(["a" * 32]),
        index.delete_partition(PARTITION),
        index.clear(),
        index.check(),
        index.stats(),
        index.sweep(),
        index.prepare(8),
    ):
        try:
            await operation
            raised.append(None)
        except BackendError as error:
            raised.append(type(error))
    return raised


@pytest.mark.parametrize("vendor", REMOTE)
async def test_a_server_that_is_down(vendor: str) -> None:
    """Everything says that it is not there."""
    async with unprepared(vendor, f"http://127.0.0.1:{server_port()}") as index:
        assert {BackendUnavailable} == set(await every_operation(index))


@pytest.mark.parametrize("vendor", REMOTE)
async def test_a_server_that_does_not_answer(vendor: str) -> None:
    """A search ends with its time, and the breaker soon spares the others the wait."""
    async with saying(None) as url, unprepared(vendor, url, timeout_ms=20) as index:
        index.dimensions = 8
        async with asyncio.timeout(5):
            with pytest.raises(BackendTimeout):
                await index.search(PARTITION, axis(0), top_k=4)
            assert {BackendTimeout, BackendUnavailable} == set(await every_operation(index))


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"",
        b"[]",
        b"{}",
        b"null",
        b'{"result": 1, "data": [1], "code": 0, "output": 3, "hits": {"hits": [{}]}}',
    ],
    ids=["html", "empty", "list", "object", "null", "shapes"],
)
@pytest.mark.parametrize("vendor", REMOTE)
async def test_a_server_that_talks_nonsense(vendor: str, body: bytes) -> None:
    """Operations are refused, or find nothing; they raise nothing but our own errors."""
    async with saying(Response(body, media_type="application/json")) as url, unprepared(vendor, url) as index:
        assert set(await every_operation(index)) <= {None, BackendRejected, BackendUnavailable}


@pytest.mark.parametrize("status", [429, 503, 500])
@pytest.mark.parametrize("vendor", REMOTE)
async def test_a_server_that_is_busy(vendor: str, status: int) -> None:
    """It counts as not available."""
    async with saying(answer({"error": "busy"}, status)) as url, unprepared(vendor, url) as index:
        index.dimensions = 8
        with pytest.raises(BackendUnavailable):
            await index.search(PARTITION, axis(0), top_k=4)


@pytest.mark.parametrize("vendor", STANDINS)
async def test_a_wrong_key_is_refused(
    vendor: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's refusal is passed on; the key stands in no error."""
    server = vendor_of(vendor, Servers(request, tmp_path))
    monkeypatch.setattr(server, "header", (server.header[0], "another"))
    async with server.serving() as url, unprepared(vendor, url) as index:
        with pytest.raises(BackendRejected, match="401") as raised:
            await index.prepare(8)
        assert KEY not in str(raised.value)


@pytest.mark.parametrize("vendor", STANDINS)
async def test_a_collection_that_has_gone_is_made_again(
    vendor: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """An answer that is stored after somebody dropped the collection is found."""
    server = vendor_of(vendor, Servers(request, tmp_path))
    async with server.serving() as url, opened(section_of(vendor, url), Clock()) as index:
        await index.add([point(1, axis(0))])
        _drop(server)
        await index.add([point(2, axis(0))])
        assert ["aicache:0:scope:2"] == [match.key for match in await index.search(PARTITION, axis(0), top_k=4)]


def _drop(server: object) -> None:
    for name in ("tables", "classes"):
        getattr(server, name, {}).clear()
    if isinstance(server, Qdrant):
        for each in server.client.get_collections().collections:
            server.client.delete_collection(each.name)
    database = getattr(server, "database", None)
    if database is not None:
        for collection in database.list_collections():
            database.drop_collection(collection)


async def test_nothing_is_asked_before_the_collection_was_checked() -> None:
    """Whoever searches too early is told so at once, whatever the index."""
    async with unprepared("qdrant", f"http://127.0.0.1:{server_port()}") as index:
        with pytest.raises(BackendUnavailable, match="not checked yet"):
            await index.search(PARTITION, axis(0), top_k=4)


@pytest.mark.parametrize(
    ("server", "vendor"),
    [(Pinecone(metric="euclidean"), "pinecone"), (Pinecone(dimensions=4), "pinecone")],
    ids=["metric", "length"],
)
async def test_an_index_that_does_not_fit_is_refused(server: Pinecone, vendor: str) -> None:
    """Vectors that measure otherwise, or of another length, are no place for ours."""
    async with server.serving() as url, unprepared(vendor, url) as index:
        with pytest.raises(BackendRejected, match="holds"):
            await index.prepare(8)


async def test_one_rejected_object_is_told() -> None:
    """Weaviate answers 200 to a batch whose objects it refused."""
    server = Weaviate()
    async with server.serving() as url, opened(section_of("weaviate", url), Clock()) as index:
        (table,) = server.tables.values()
        table.dimensions = 5
        with pytest.raises(BackendRejected, match="objects were refused"):
            await index.add([point(1, axis(0))])
        with pytest.raises(BackendRejected):
            table.put("x", [0.0] * 4 + [1.0], {})
            await index.search(PARTITION, axis(0), top_k=4)


async def test_expired_points_are_swept(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Servers that keep them for ever are relieved of them."""
    for vendor in STANDINS:
        clock = Clock()
        async with (
            vendor_of(vendor, Servers(request, tmp_path)).serving() as url,
            opened(section_of(vendor, url), clock) as index,
        ):
            assert isinstance(index, RemoteDriver)
            await index.add([point(1, axis(0)), point(2, axis(0), expires_s=clock() + 600)])
            clock.now_s += 60
            await index.sweep()
            assert 1 == (await index.stats()).points, vendor
            assert 1 == len(await found(index))


async def test_sweeping_goes_on_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is away at the time is swept the next time."""
    monkeypatch.setattr(remote, "_SWEEP_S", 0.001)
    clock, server = Clock(), Pinecone()
    async with server.serving() as url, opened(section_of("pinecone", url), clock) as index:
        await index.add([point(1, axis(0)), point(2, axis(0), expires_s=clock() + 600)])
        tries, sweep = 0, type(index).sweep  # type: ignore[attr-defined]  # a remote one

        async def failing(driver: RemoteDriver) -> None:
            nonlocal tries
            tries += 1
            if tries < 3:
                raise BackendUnavailable("pinecone", "sweep", "away")
            await sweep(driver)

        monkeypatch.setattr(type(index), "sweep", failing)
        clock.now_s += 60
        (table,) = server.tables.values()
        await until(lambda: len(table.rows) == 1)


async def test_a_namespace_that_was_never_written_to_is_swept() -> None:
    """Pinecone answers 404 to it; another refusal is passed on."""
    server = Pinecone()
    async with server.serving() as url, opened(section_of("pinecone", url), Clock()) as index:
        await index.clear()
        server.header = ("api-key", "another")
        with pytest.raises(BackendRejected, match="401"):
            await index.clear()


async def test_a_name_that_dashvector_does_not_take_is_told() -> None:
    """Its own limit is named before the server is asked; what it refuses itself is passed on."""
    name = "much_too_long_a_name"
    async with Dashvector().serving() as url, unprepared("dashvector", url, collection=name) as index:
        with pytest.raises(BackendRejected, match=r"shorten `index\.collection`"):
            await index.prepare(8)
    said = answer({"code": -2999, "message": "", "request_id": "1"})
    async with saying(said) as url, unprepared("dashvector", url) as index:
        with pytest.raises(BackendRejected, match="code -2999"):
            await index.prepare(8)


async def test_what_elasticsearch_refuses_is_told() -> None:
    """A bulk answer of 200 with errors in it, and an index whose vector is no vector."""
    server = Elasticsearch()
    async with server.serving() as url, opened(section_of("elasticsearch", url), Clock()) as index:
        (table,) = server.tables.values()
        table.dimensions = 5
        with pytest.raises(BackendRejected, match="document_parsing_exception"):
            await index.add([point(1, axis(0))])
        (mapping,) = server.mappings.values()
        mapping["properties"]["embedding"] = {"type": "float"}
        with pytest.raises(BackendRejected, match="dense_vector"):
            await index.check()


async def found(index: Index) -> list[str]:
    """Whatever is near."""
    return [match.id for match in await index.search(PARTITION, axis(0), top_k=4)]
