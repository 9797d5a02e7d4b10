"""What is particular to the query engine of Redis: two shapes of reply, rows that are gone already, its own schema."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ai_cache_extproc.config.indexes import RediSearchIndex as Settings
from ai_cache_extproc.errors import BackendRejected, BackendUnavailable
from ai_cache_extproc.indexes import open_index
from ai_cache_extproc.indexes.redisearch import RediSearchIndex
from ai_cache_extproc.model import Match
from tests.contract.index_rigs import IDENTITY, PARTITION, Clock, at, axis, opened, point, redisearch_section
from tests.support.real_vectors import searching_redis
from tests.support.redis_server import RedisServer
from tests.support.scripted_redis import HELLO_3, Answer, scripted
from tests.support.shared_redis import until

ROW_2 = (
    b"*10\r\n$8\r\ndistance\r\n$4\r\n0.25\r\n$9\r\npartition\r\n$32\r\n" + PARTITION.encode() + b"\r\n"
    b"$3\r\nkey\r\n$1\r\nk\r\n$9\r\ncreated_s\r\n$1\r\n7\r\n$3\r\nexp\r\n$10\r\n1900000000\r\n"
)
ROW_2 = ROW_2.replace(b"*10", b"*12") + b"$7\r\npayload\r\n$2\r\n{}\r\n"
ROW_3 = b"%6" + ROW_2[3:]
RESP2 = b"*7\r\n:3\r\n$1\r\na\r\n" + ROW_2 + b"$1\r\nb\r\n*-1\r\n$1\r\nc\r\n*0\r\n"
RESP3 = (
    b"%2\r\n$13\r\ntotal_results\r\n:3\r\n$7\r\nresults\r\n*4\r\n"
    b"%2\r\n$2\r\nid\r\n$1\r\na\r\n$16\r\nextra_attributes\r\n" + ROW_3 + b"%1\r\n$2\r\nid\r\n$1\r\nb\r\n"
    b"%2\r\n$2\r\nid\r\n$1\r\nc\r\n$16\r\nextra_attributes\r\n%1\r\n$8\r\ndistance\r\n$1\r\n0\r\n_\r\n"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis with the query engine, for this file."""
    with searching_redis(tmp_path_factory.mktemp("redisearch")) as running:
        yield running


def script(hello: bytes, search: Answer, info: bytes = b"*0\r\n") -> dict[bytes, Answer]:
    """A Redis that answers like this."""
    return {b"HELLO": hello, b"FT.SEARCH": search, b"FT.INFO": info}


async def found_by(answers: dict[bytes, Answer]) -> tuple[list[Match], list[list[bytes]]]:
    """What a search finds, and what the server was asked."""
    async with scripted(answers) as redis, opened(_section(redis.port), Clock()) as index:
        return await index.search(PARTITION, axis(0), top_k=4), redis.asked


def _section(port: int, **settings: object) -> dict[str, object]:
    return {"type": "redisearch", "url": f"redis://127.0.0.1:{port}", "probe_ms": 20, "timeout_ms": 5000, **settings}


@pytest.mark.parametrize(
    ("hello", "reply"), [(HELLO_3, RESP3), (b"-NOPROTO unsupported\r\n", RESP2)], ids=["resp3", "resp2"]
)
async def test_both_shapes_of_reply_are_read(hello: bytes, reply: bytes) -> None:
    """One row with its fields is a match; those that have expired meanwhile, and lost them, are none."""
    matches, asked = await found_by(script(hello, reply))
    assert [Match("a", "k", 0.75, 7.0, 1_900_000_000.0, {})] == matches
    (search,) = [each for each in asked if each[0] == b"FT.SEARCH"]
    assert b"(@partition:{%b} @exp:[(1800000000.000 +inf])=>" % PARTITION.encode() in search[2]
    assert b"[KNN 12 @embedding $vector EF_RUNTIME 64 AS distance]" in search[2]
    (create,) = [each for each in asked if each[0] == b"FT.CREATE"]
    assert b"HNSW 10 TYPE FLOAT32 DIM 8 DISTANCE_METRIC COSINE M 16 EF_CONSTRUCTION 200" in b" ".join(create)


@pytest.mark.parametrize(
    "reply", [b":1\r\n", b"*0\r\n", b"$2\r\nno\r\n", b"_\r\n"], ids=["number", "empty", "text", "null"]
)
async def test_an_odd_reply_is_refused(reply: bytes) -> None:
    """What is no list of rows at all is not read as an empty one."""
    with pytest.raises(BackendRejected, match="odd reply"):
        await found_by(script(HELLO_3, reply))


async def test_odd_statistics_are_refused() -> None:
    """An index that does not say how many documents it has."""
    async with scripted(script(HELLO_3, RESP3)) as redis, opened(_section(redis.port), Clock()) as index:
        with pytest.raises(BackendRejected, match="odd reply"):
            await index.stats()


async def test_rows_that_expire_during_searches_are_no_matches(server: RedisServer) -> None:
    """By the real clock, while Redis removes keys at its leisure: nothing raises, and nothing expired is found."""
    server.cli("FLUSHALL")
    clock = Clock()
    async with opened(redisearch_section(server), clock) as index:
        ends_s = time.time() + 0.15
        points = [point(number, at(1 - number / 400), expires_s=ends_s + number / 1000) for number in range(100)]
        await index.add([*points, point(1000, axis(1), expires_s=time.time() + 60)])
        while (now_s := time.time()) < ends_s + 0.15:
            clock.now_s = now_s
            for match in await index.search(PARTITION, axis(0), top_k=4):
                assert match.expires_s > now_s
        clock.now_s = time.time()
        assert ["aicache:0:scope:1000"] == [match.key for match in await index.search(PARTITION, axis(0), top_k=4)]


async def test_an_index_that_was_dropped_is_made_again(server: RedisServer) -> None:
    """A search finds nothing then, and the next one what was added meanwhile."""
    server.cli("FLUSHALL")
    async with opened(redisearch_section(server), Clock()) as index:
        await index.add([point(1, axis(0))])
        (name,) = server.cli("FT._LIST")
        server.cli("FT.DROPINDEX", name, "DD")
        assert [] == await index.search(PARTITION, axis(0), top_k=4)
        await index.add([point(2, axis(0))])
        assert 1 == len(await index.search(PARTITION, axis(0), top_k=4))


@pytest.mark.parametrize(
    ("field", "told"),
    [
        (
            ("embedding", "VECTOR", "FLAT", 6, "TYPE", "FLOAT32", "DIM", 8, "DISTANCE_METRIC", "L2"),
            "8 dimensions by L2",
        ),
        (("embedding", "VECTOR", "FLAT", 6, "TYPE", "FLOAT32", "DIM", 4, "DISTANCE_METRIC", "COSINE"), "holds 4"),
        (("other", "TAG"), "no vector field embedding"),
    ],
    ids=["metric", "length", "field"],
)
async def test_an_index_that_does_not_fit_is_refused(
    server: RedisServer, field: tuple[str | int, ...], told: str
) -> None:
    """Somebody else's index under our name is left as it is."""
    server.cli("FLUSHALL")
    section = redisearch_section(server, collection="aicache-index:taken")
    async with opened(section, Clock()) as index:
        assert isinstance(index, RediSearchIndex)
        name, prefix = index._names(8)
        server.cli("FT.DROPINDEX", name)
        server.cli("FT.CREATE", name, "ON", "HASH", "PREFIX", 1, prefix, "SCHEMA", *field)
        with pytest.raises(BackendRejected, match=told):
            await index.prepare(8)


async def test_a_redis_without_the_query_engine_is_told(tmp_path: Path) -> None:
    """The server's own words reach whoever prepares; a server that is not connected yet is told too."""
    with RedisServer(tmp_path / "plain") as plain:
        settings = Settings.model_validate(_section(plain.port))
        opening = open_index(settings, identity=IDENTITY, store=None, clock=Clock(), breaker_watch=lambda *_: None)
        async with opening as index:
            assert isinstance(index, RediSearchIndex)
            with pytest.raises(BackendUnavailable):
                await index.prepare(8)
            tending = asyncio.create_task(index.tend())
            await until(lambda: _is_refused(index))
            tending.cancel()
            await asyncio.gather(tending, return_exceptions=True)


async def _is_refused(index: RediSearchIndex) -> bool:
    try:
        await index.prepare(8)
    except BackendRejected as error:
        return "unknown command" in error.reason
    except BackendUnavailable:
        return False
    return False
