"""The indexes that the contract is checked on. An index joins with a way to open it and an entry in `RIGS`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from ai_cache_extproc.errors import BackendError
from ai_cache_extproc.indexes import open_index
from ai_cache_extproc.indexes.base import Index, Point, Tended, Vector
from ai_cache_extproc.model import BreakerState
from ai_cache_extproc.stores.memory import MemoryStore
from ai_cache_extproc.stores.sqlite import SqliteStore
from tests.support.index_settings import index_settings
from tests.support.real_vectors import PASSWORD, USER
from tests.support.redis_server import RedisServer
from tests.support.shared_redis import PATIENT_MS, until
from tests.support.vector_servers import KEY, Pinecone, Vendor, Weaviate
from tests.support.vector_servers_more import Dashvector, Elasticsearch, Milvus, Qdrant

DIMENSIONS = 8
IDENTITY = "tests|letters|local|8"
PARTITION, OTHER = "a" * 32, "b" * 32
_numbers = count()


class Clock:
    """Seconds since the epoch, as a test sets them."""

    def __init__(self) -> None:
        self.now_s = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Servers:
    """Where the servers of one test run are; each is started when it is first needed."""

    request: pytest.FixtureRequest
    folder: Path

    def redis(self) -> RedisServer:
        """A Redis with the query engine, empty."""
        server: RedisServer = self.request.getfixturevalue("searching_redis_server")
        server.cli("FLUSHALL")
        return server

    def chroma(self) -> str:
        """The address of a Chroma."""
        url: str = self.request.getfixturevalue("chroma_server")
        return url


Opened = AbstractAsyncContextManager[Index]


def axis(number: int, sign: float = 1.0) -> Vector:
    """A unit vector along one axis."""
    vector = np.zeros(DIMENSIONS, np.float32)
    vector[number] = sign
    return vector


def at(cosine: float) -> Vector:
    """A unit vector whose cosine with `axis(0)` is this."""
    vector = axis(0) * np.float32(cosine)
    vector[1] = np.sqrt(1 - cosine * cosine)
    return vector


def point(number: int, vector: Vector, **facts: object) -> Point:
    """A point that lives for a minute, in the first partition unless said otherwise."""
    known: dict[str, object] = {
        "id": f"{number:032x}",
        "partition": PARTITION,
        "key": f"aicache:0:scope:{number}",
        "created_s": 1_799_999_000.0,
        "expires_s": 1_800_000_060.0,
        # What the layout of APISIX cannot do without.
        "payload": {"response": "an answer", "format": "json"},
    }
    return Point(vector=vector, **(known | facts))  # type: ignore[arg-type]  # by keyword


@asynccontextmanager
async def opened(
    section: Mapping[str, object], clock: Clock, *, store: object = None, identity: str = IDENTITY
) -> AsyncIterator[Index]:
    """The index of a section of the document, tended, and prepared for eight dimensions."""
    settings = index_settings(section)

    def watch(backend: str, server: str, state: BreakerState | None) -> None:
        pass

    async with open_index(settings, identity=identity, store=store, clock=clock, breaker_watch=watch) as index:
        assert isinstance(index, Tended)
        tending = asyncio.create_task(index.tend())
        try:
            if section["type"] == "redisearch":
                await until(lambda: prepares(index))
            else:
                await index.prepare(DIMENSIONS)
            yield index
        finally:
            tending.cancel()
            await asyncio.gather(tending, return_exceptions=True)


async def prepares(index: Index) -> bool:
    """Whether it is connected by now."""
    try:
        await index.prepare(DIMENSIONS)
    except BackendError:
        return False
    return True


def redisearch_section(server: RedisServer, **settings: object) -> dict[str, object]:
    """A section for this server and the documented user."""
    return {
        "type": "redisearch",
        "url": f"redis://127.0.0.1:{server.port}",
        "username": USER,
        "password": PASSWORD,
        "timeout_ms": PATIENT_MS,
        "write_timeout_ms": PATIENT_MS,
        "connect_timeout_ms": PATIENT_MS,
        "probe_ms": 20,
        **settings,
    }


def section_of(vendor: str, url: str, **settings: object) -> dict[str, object]:
    """A section for a server of this vendor; each call names a collection of its own."""
    collection = f"{'T' if vendor == 'weaviate' else 't'}{next(_numbers):04}"
    known = {"type": vendor, "url": url, "collection": collection, "api_key": KEY, "timeout_ms": PATIENT_MS}
    return known | settings


@asynccontextmanager
async def open_memory(_: Servers, clock: Clock) -> AsyncIterator[Index]:
    """The embedded index beside a store in memory."""
    async with (
        MemoryStore.open(bytes_max=1 << 20, clock=clock) as store,
        opened({"type": "embedded", "rows_max": 1000}, clock, store=store) as index,
    ):
        yield index


@asynccontextmanager
async def open_sqlite(servers: Servers, clock: Clock) -> AsyncIterator[Index]:
    """The embedded index in the file of the SQLite store."""
    async with (
        SqliteStore.open(servers.folder / "cache.db", bytes_max=1 << 24, clock=clock) as store,
        opened({"type": "embedded", "rows_max": 1000}, clock, store=store) as index,
    ):
        yield index


def open_redisearch(servers: Servers, clock: Clock) -> Opened:
    """The session's Redis."""
    return opened(redisearch_section(servers.redis()), clock)


def open_apisix(servers: Servers, clock: Clock) -> Opened:
    """The same, in the layout of APISIX."""
    return opened(redisearch_section(servers.redis(), layout="apisix", collection="aicache-index:apisix"), clock)


def open_chroma(servers: Servers, clock: Clock) -> Opened:
    """A Chroma server."""
    return opened(section_of("chroma", servers.chroma()), clock)


def vendor_of(name: str, servers: Servers) -> Vendor:
    """A fresh stand-in."""
    if name == "milvus":
        return Milvus(servers.folder / "milvus")
    return {
        "qdrant": Qdrant,
        "weaviate": Weaviate,
        "pinecone": Pinecone,
        "elasticsearch": Elasticsearch,
        "dashvector": Dashvector,
    }[name]()


def open_vendor(name: str) -> Callable[[Servers, Clock], Opened]:
    """How to open the index over a stand-in."""

    @asynccontextmanager
    async def opening(servers: Servers, clock: Clock) -> AsyncIterator[Index]:
        async with (
            vendor_of(name, servers).serving() as url,
            opened(section_of(name, url), clock) as index,
        ):
            yield index

    return opening


STANDINS = ("qdrant", "milvus", "weaviate", "pinecone", "elasticsearch", "dashvector")
RIGS: dict[str, Callable[[Servers, Clock], Opened]] = {
    "embedded": open_memory,
    "embedded-file": open_sqlite,
    "redisearch": open_redisearch,
    "redisearch-apisix": open_apisix,
    "chroma": open_chroma,
    **{name: open_vendor(name) for name in STANDINS},
}
