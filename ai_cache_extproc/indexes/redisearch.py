"""Points as hashes of a Redis that has the query engine, found through `FT.SEARCH`.

Redis removes what has expired some time after its hour, and until then finds it without its fields: such a row is no
match. Names are those of the APISIX plugin, so that an index of its can be shared (`layout: apisix`).
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import cast

from ai_cache_extproc.clients.redis.client import RedisClient
from ai_cache_extproc.clients.redis.opening import client_of
from ai_cache_extproc.config.indexes import RediSearchIndex as Settings
from ai_cache_extproc.errors import BackendRejected
from ai_cache_extproc.indexes import scores
from ai_cache_extproc.indexes.base import IndexStats, Point, Vector, check_digest, check_vector, unprepared
from ai_cache_extproc.indexes.layout import NEVER_S, Layout
from ai_cache_extproc.model import BreakerState, Match

_VECTOR = "embedding"
_DISTANCE = "distance"
_SPARE_ROWS = 8
"""Asked for beyond what is wanted: some may have expired."""
_DELETE_ROWS = 500
_NO_INDEX = ("no such index", "unknown index name", "no such index name")

_NATIVE = Layout(expires_s="exp")
# `exp`, `key` and `aicache_question` are additions of ours, which the plugin does not see and which its own points lack.
_APISIX = Layout(
    expires_s="exp", created_s="created_at", payload=("response", "format", "aicache_question"), is_ours=False
)


class RediSearchIndex:
    """An Index and Tended. `tend` must run beside whoever asks."""

    name = "redisearch"

    def __init__(self, client: RedisClient, settings: Settings, *, embedder: str, clock: Callable[[], float]) -> None:
        """embedder: a short digest of its identity."""
        self._client = client
        self._settings = settings
        self._embedder = embedder
        self._clock = clock
        self._layout = _NATIVE if settings.layout == "native" else _APISIX
        self._dimensions = 0

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        settings: Settings,
        *,
        identity: str,
        clock: Callable[[], float] = time.time,
        breaker_watch: Callable[[str, str, BreakerState | None], None],
    ) -> AsyncIterator[RediSearchIndex]:
        """An index that connects once it is tended. identity: of the embedder; APISIX's is `PROVIDER|MODEL|ENDPOINT|DIMENSIONS`."""
        client = client_of(settings, heard=(), breaker_changed=partial(breaker_watch, cls.name))
        yield cls(client, settings, embedder=hashlib.sha256(identity.encode()).hexdigest()[:16], clock=clock)

    async def tend(self) -> None:
        """Keep the connections up until cancelled."""
        await self._client.tend()

    async def prepare(self, dimensions: int) -> None:
        """Create the index, or check the one that is there."""
        index, prefix = self._names(dimensions)
        settings, layout = self._settings, self._layout
        vector: list[str | int] = ["TYPE", "FLOAT32", "DIM", dimensions, "DISTANCE_METRIC", "COSINE"]
        expiry: list[str | int] = []
        if layout.is_ours:
            vector += ["M", settings.m, "EF_CONSTRUCTION", settings.ef_construction]
            expiry = [layout.expires_s, "NUMERIC"]
        schema: list[str | int] = [
            str(layout.partition),
            "TAG",
            *expiry,
            _VECTOR,
            "VECTOR",
            "HNSW",
            len(vector),
            *vector,
        ]
        try:
            await self._client.write(index, "FT.CREATE", index, "ON", "HASH", "PREFIX", 1, prefix, "SCHEMA", *schema)
        except BackendRejected as error:
            if "already exists" not in error.reason.lower():
                raise
            await self._check_schema(index, dimensions)
        self._dimensions = dimensions

    async def add(self, points: Sequence[Point]) -> None:
        """Hashes, with their hour, all sent together."""
        _, prefix = self._prepared("add")
        for point in points:
            check_vector(self.name, "add", point.vector, self._dimensions)
            check_digest(self.name, "add", point.id, point.partition)
        asked = []
        for point in points:
            key = prefix + self._suffix(point)
            fields = [part for name, value in self._layout.facts(point).items() for part in (name, _text(value))]
            vector = point.vector.astype("<f4").tobytes()
            asked.append(self._client.write(key, "HSET", key, _VECTOR, vector, *fields))
            if not math.isinf(point.expires_s):
                asked.append(self._client.write(key, "PEXPIREAT", key, int(point.expires_s * 1000)))
        await asyncio.gather(*asked)

    async def search(self, partition: str, vector: Vector, *, top_k: int) -> list[Match]:
        """The nearest by the index's graph; an index that has gone is made anew, and empty."""
        index, _ = self._prepared("search")
        check_vector(self.name, "search", vector, self._dimensions)
        check_digest(self.name, "search", partition)
        try:
            reply = await self._client.read(index, *self._query(index, partition, vector, top_k))
        except BackendRejected as error:
            if not any(text in error.reason.lower() for text in _NO_INDEX):
                raise
            await self.prepare(self._dimensions)
            return []
        matches = [match for row in _rows(reply) if (match := self._match(row, partition)) is not None]
        return sorted(matches, key=lambda match: -match.similarity)[:top_k]

    async def delete(self, ids: Sequence[str]) -> int:
        """Delete the hashes."""
        _, prefix = self._prepared("delete")
        check_digest(self.name, "delete", *(part for point_id in ids for part in point_id.split(":")))
        return await self._delete_keys([prefix + point_id for point_id in ids])

    async def delete_partition(self, partition: str) -> None:
        """Find its hashes, some at a time, and delete them."""
        index, _ = self._prepared("delete_partition")
        check_digest(self.name, "delete_partition", partition)
        query = (f"@{self._layout.partition}:{{{partition}}}", "NOCONTENT", "LIMIT", 0, _DELETE_ROWS, "DIALECT", 2)
        while True:
            reply = await self._client.write(index, "FT.SEARCH", index, *query)
            keys = [key for key, _ in _rows(reply, with_fields=False)]
            # What has expired is found still, and deleted already.
            if not await self._delete_keys(keys):
                return

    async def clear(self) -> None:
        """Drop the index with its hashes, and create it again."""
        index, _ = self._prepared("clear")
        await self._client.write(index, "FT.DROPINDEX", index, "DD")
        await self.prepare(self._dimensions)

    async def check(self) -> None:
        """Return if the index is there."""
        await self._facts("check")

    async def stats(self) -> IndexStats:
        """What the server counts."""
        count = (await self._facts("stats")).get("num_docs")
        if not isinstance(count, bytes | int | float):
            raise _odd("stats", count)
        return IndexStats(points=int(float(count)))

    # What they do.

    def _names(self, dimensions: int) -> tuple[str, str]:
        """The index, and what the names of its hashes begin with."""
        collection, embedder = self._settings.collection, self._embedder
        return f"{collection}:idx:{embedder}:{dimensions}", f"{collection}:l2:{embedder}:{dimensions}:"

    def _prepared(self, operation: str) -> tuple[str, str]:
        if not self._dimensions:
            raise unprepared(self.name, operation)
        return self._names(self._dimensions)

    def _suffix(self, point: Point) -> str:
        return point.id if self._layout.is_ours else f"{point.partition}:{point.id}"

    def _query(self, index: str, partition: str, vector: Vector, top_k: int) -> list[str | int | bytes]:
        layout, count = self._layout, top_k + _SPARE_ROWS
        where = f"@{layout.partition}:{{{partition}}}"
        if layout.is_ours:
            where += f" @{layout.expires_s}:[({self._clock():.3f} +inf]"
        nearest = f"({where})=>[KNN {count} @{_VECTOR} $vector EF_RUNTIME {self._settings.ef_runtime} AS {_DISTANCE}]"
        fields = (_DISTANCE, *layout.fields)
        search: list[str | int | bytes] = [
            "FT.SEARCH",
            index,
            nearest,
            "PARAMS",
            2,
            "vector",
            vector.astype("<f4").tobytes(),
        ]
        return [*search, "SORTBY", _DISTANCE, "RETURN", len(fields), *fields, "LIMIT", 0, count, "DIALECT", 2]

    def _match(self, row: tuple[str, Mapping[str, object]], partition: str) -> Match | None:
        key, fields = row
        texts = {name: value.decode("utf-8", "replace") for name, value in fields.items() if isinstance(value, bytes)}
        _, prefix = self._names(self._dimensions)
        try:
            distance = float(texts[_DISTANCE])
        except (KeyError, ValueError):
            return None
        point_id = key.removeprefix(prefix)
        return self._layout.match(point_id, texts, scores.distance(distance), partition=partition, now_s=self._clock())

    async def _delete_keys(self, keys: Sequence[str]) -> int:
        counts = await asyncio.gather(*(self._client.write(key, "DEL", key) for key in keys))
        return sum(count for count in counts if isinstance(count, int))

    async def _facts(self, operation: str) -> dict[str, object]:
        index, _ = self._prepared(operation)
        return _named(await self._client.write(index, "FT.INFO", index))

    async def _check_schema(self, index: str, dimensions: int) -> None:
        facts = _named(await self._client.write(index, "FT.INFO", index))
        attributes = facts.get("attributes")
        fields = [_named(attribute) for attribute in attributes] if isinstance(attributes, list) else []
        field = next((each for each in fields if each.get("attribute") == _VECTOR.encode()), {})
        found = field.get("dim"), field.get("distance_metric")
        if found[0] is None:
            raise BackendRejected(self.name, "prepare", f"the index {index} has no vector field {_VECTOR}")
        metric = found[1].decode("utf-8", "replace") if isinstance(found[1], bytes) else str(found[1])
        held = int(cast("int | bytes", found[0]))
        if held != dimensions or metric.upper() != "COSINE":
            reason = f"the index {index} holds {held} dimensions by {metric}, not {dimensions} by COSINE; drop it"
            raise BackendRejected(self.name, "prepare", reason)


def _text(value: str | float) -> str:
    if isinstance(value, str):
        return value
    return str(NEVER_S) if value >= NEVER_S else repr(value)


def _rows(reply: object, *, with_fields: bool = True) -> Iterator[tuple[str, Mapping[str, object]]]:
    """The keys of a search and their fields: a map in RESP3, in RESP2 the count, then each key and what it holds."""
    if isinstance(reply, dict):
        for row in reply.get(b"results") or ():
            if isinstance(row, dict) and isinstance(row.get(b"id"), bytes):
                yield row[b"id"].decode("utf-8", "replace"), _named(row.get(b"extra_attributes"))
        return
    if not isinstance(reply, list) or not reply:
        raise _odd("search", reply)
    step = 2 if with_fields else 1
    for at in range(1, len(reply), step):
        key = reply[at]
        if isinstance(key, bytes):
            yield key.decode("utf-8", "replace"), _named(reply[at + 1]) if with_fields and at + 1 < len(reply) else {}


def _named(pairs: object) -> dict[str, object]:
    """A map, or a list of names and values in turn, by name; empty for anything else."""
    if isinstance(pairs, list):
        pairs = dict(zip(pairs[0::2], pairs[1::2], strict=False))
    if not isinstance(pairs, dict):
        return {}
    return {name.decode("utf-8", "replace"): value for name, value in pairs.items() if isinstance(name, bytes)}


def _odd(operation: str, reply: object) -> BackendRejected:
    return BackendRejected("redisearch", operation, f"an odd reply ({type(reply).__name__})")
