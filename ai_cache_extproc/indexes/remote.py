"""What all indexes share that are asked over HTTP. A vendor's file holds its words: requests, filters, scores.

Whatever a server returns, a row of another partition or past its lifetime is dropped here.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import importlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import structlog
from pydantic import SecretStr

from ai_cache_extproc.clients.http import HttpClient, HttpRejected
from ai_cache_extproc.config.indexes import Remote, RemoteIndex
from ai_cache_extproc.errors import BackendError, BackendRejected, BackendUnavailable
from ai_cache_extproc.indexes.base import IndexStats, Point, Vector, check_digest, check_vector, unprepared
from ai_cache_extproc.indexes.layout import NATIVE, Layout, higress_layout
from ai_cache_extproc.indexes.scores import ToCosine
from ai_cache_extproc.model import BreakerState, Match

log = structlog.get_logger()

_BATCH_POINTS = 100
_SPARE_ROWS = 8
"""Asked for beyond what is wanted where the server cannot leave out what has expired."""
_SWEEP_S = 600.0

Relation = Literal["is", "above", "at most"]
Condition = Any
"""A filter in the vendor's own words."""


@dataclass(frozen=True, slots=True)
class Found:
    """A row of an answer: facts as they are stored, similarity as a cosine."""

    id: str
    similarity: float
    facts: Mapping[str, object]


class RemoteDriver(ABC):
    """An Index and Tended. A vendor's driver fills in what is not implemented here."""

    name: str
    metrics: ClassVar[Mapping[str, ToCosine]]
    """How a score becomes a cosine, by the vendor's name of the metric."""
    cosine: ClassVar[str]
    """The metric of the collections that are made here."""

    def __init__(
        self,
        client: HttpClient,
        settings: Any,  # noqa: ANN401
        *,
        embedder: str,
        clock: Callable[[], float],
    ) -> None:
        """settings: the section of this vendor. embedder: a short digest of its identity."""
        self.client = client
        self.settings = settings
        self.layout = layout_of(settings, self.name)
        self.dimensions = 0
        self.to_cosine = self.metrics[self.cosine]
        self._embedder = embedder
        self._clock = clock

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        settings: RemoteIndex,
        *,
        identity: str,
        clock: Callable[[], float],
        breaker_watch: Callable[[str, str, BreakerState | None], None],
    ) -> AsyncIterator[RemoteDriver]:
        """identity: of the embedder; with our own layout each has a collection of its own."""
        opening = HttpClient.open(
            cls.name, settings, authorize=lambda: cls.authorization(settings), breaker_watch=breaker_watch
        )
        embedder = hashlib.sha256(identity.encode()).hexdigest()[:16]
        async with opening as client:
            yield cls(client, settings, embedder=embedder, clock=clock)

    # The index.

    async def prepare(self, dimensions: int) -> None:
        """Create the collection, or check the one that is there."""
        with self.reading("prepare"):
            await self.ensure(dimensions)
        self.dimensions = dimensions

    async def add(self, points: Sequence[Point]) -> None:
        """In batches; a collection that has gone is made anew."""
        self._need("add")
        for point in points:
            check_vector(self.name, "add", point.vector, self.dimensions)
            check_digest(self.name, "add", point.id, point.partition)
        for start in range(0, len(points), _BATCH_POINTS):
            batch = points[start : start + _BATCH_POINTS]
            with self.reading("add"):
                try:
                    await self.put(batch)
                except BackendRejected:
                    await self.ensure(self.dimensions)
                    await self.put(batch)

    async def search(self, partition: str, vector: Vector, *, top_k: int) -> list[Match]:
        """The nearest, checked again here."""
        self._need("search")
        check_vector(self.name, "search", vector, self.dimensions)
        check_digest(self.name, "search", partition)
        now_s, where, limit = self._clock(), None, top_k + _SPARE_ROWS
        if self.layout.partition is not None:
            where = self.all_of(
                self.condition(self.layout.partition, "is", partition),
                self.condition(self.layout.expires_s, "above", now_s),
            )
            limit = top_k
        with self.reading("search"):
            rows = await self.nearest(vector, where, limit)
        matches = [
            match
            for row in rows
            if (match := self.layout.match(row.id, row.facts, row.similarity, partition=partition, now_s=now_s))
        ]
        return sorted(matches, key=lambda match: -match.similarity)[:top_k]

    async def delete(self, ids: Sequence[str]) -> int:
        """Nobody counts what was there."""
        self._need("delete")
        if self.layout.is_ours:
            check_digest(self.name, "delete", *ids)
        if ids:
            with self.reading("delete"):
                await self.remove(ids)
        return len(ids)

    async def delete_partition(self, partition: str) -> None:
        """By the partition's field."""
        self._need("delete_partition")
        check_digest(self.name, "delete_partition", partition)
        if self.layout.partition is None:
            reason = "points of all partitions stand together here (`partitioned: false`)"
            raise BackendRejected(self.name, "delete_partition", reason)
        with self.reading("delete_partition"):
            await self.remove_where(self.condition(self.layout.partition, "is", partition))

    async def clear(self) -> None:
        """Every point of the collection."""
        self._need("clear")
        with self.reading("clear"):
            await self.remove_all()

    async def check(self) -> None:
        """Return if the collection is as it was when it was prepared."""
        self._need("check")
        with self.reading("check"):
            await self.ensure(self.dimensions)

    async def stats(self) -> IndexStats:
        """What the server counts, which may be some seconds behind."""
        self._need("stats")
        with self.reading("stats"):
            return IndexStats(points=int(await self.count()))

    async def tend(self) -> None:
        """Remove what has expired, now and then: these servers keep it for ever."""
        while True:
            await asyncio.sleep(_SWEEP_S)
            if not self.dimensions:
                continue
            try:
                await self.sweep()
            except BackendError as error:
                log.warning("index_not_swept", index=self.name, reason=str(error))

    async def sweep(self) -> None:
        """Remove what has expired; what others wrote into a shared collection has no end and stays."""
        with self.reading("sweep"):
            await self.remove_where(self.condition(self.layout.expires_s, "at most", self._clock()))

    # A vendor's words.

    @classmethod
    @abstractmethod
    def authorization(cls, settings: Any) -> Mapping[str, str]:  # noqa: ANN401
        """The headers that carry the key."""
        ...

    @abstractmethod
    async def ensure(self, dimensions: int) -> None:
        """Create the collection, or raise BackendRejected if the one that is there does not fit."""
        ...

    @abstractmethod
    async def put(self, points: Sequence[Point]) -> None:
        """Insert or replace at most a hundred points."""
        ...

    @abstractmethod
    async def nearest(self, vector: Vector, where: Condition | None, limit: int) -> list[Found]:
        """Rows that `where` lets through."""
        ...

    @abstractmethod
    async def remove(self, ids: Sequence[str]) -> None:
        """Remove points by id."""
        ...

    @abstractmethod
    async def remove_where(self, where: Condition) -> None:
        """Remove the points that a condition describes."""
        ...

    @abstractmethod
    async def remove_all(self) -> None:
        """Remove every point."""
        ...

    @abstractmethod
    async def count(self) -> int:
        """How many points there are."""
        ...

    @abstractmethod
    def condition(self, field: str, relation: Relation, value: str | float) -> Condition:
        """A filter on one field."""
        ...

    @abstractmethod
    def all_of(self, *conditions: Condition) -> Condition:
        """A filter that wants all of these."""
        ...

    # What they share.

    def collection(self, dimensions: int | None = None) -> str:
        """The collection's name: with our layout one for each embedder, so that vectors of two never meet."""
        name: str = self.settings.collection
        if not self.layout.is_ours:
            return name
        return f"{name}_{self._embedder}_{dimensions or self.dimensions}"

    def refuse(self, operation: str, reason: str) -> BackendRejected:
        """An error about the collection."""
        return BackendRejected(self.name, operation, reason)

    def check_fit(self, collection: str, dimensions: int, *, held: object, metric: object) -> None:
        """Raise BackendRejected unless a collection holds vectors of this length, by a metric that gives their cosine."""
        known = self.metrics if not self.layout.is_ours else (self.cosine,)
        if held == dimensions and isinstance(metric, str) and metric in known:
            self.to_cosine = self.metrics[metric]
            return
        reason = (
            f"the collection {collection} holds {held} dimensions by {metric}, but the embedder has {dimensions}, "
            f"compared by {self.cosine}; drop the collection, or name another in `index.collection`"
        )
        raise self.refuse("prepare", reason)

    async def ask(
        self,
        operation: str,
        method: str,
        path: str,
        *,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        read: Callable[[Any], Any] | None = None,
    ) -> Any:  # noqa: ANN401
        """The answer, as `HttpClient.ask` gives it."""
        if read is None:
            return await self.client.ask(operation, method, path, body=body, headers=headers)
        return await self.client.ask(operation, method, path, body=body, headers=headers, read=read)

    async def ask_or_none(self, operation: str, method: str, path: str) -> Any:  # noqa: ANN401
        """The answer, or None where there is no such thing."""
        try:
            return await self.client.ask(operation, method, path)
        except HttpRejected as error:
            if error.status == 404:
                return None
            raise

    @contextmanager
    def reading(self, operation: str) -> Iterator[None]:
        """Turn what is missing or of another kind in an answer into BackendRejected."""
        try:
            yield
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            reason = f"an answer of another shape than documented ({type(error).__name__})"
            raise BackendRejected(self.name, operation, reason) from error

    def _need(self, operation: str) -> None:
        if not self.dimensions:
            raise unprepared(self.name, operation)


def layout_of(settings: RemoteIndex, vendor: str) -> Layout:
    """The names of the fields that these settings ask for."""
    if settings.layout == "native":
        return NATIVE
    return higress_layout(vendor, partitioned=settings.partitioned)


def secret_of(backend: str, value: SecretStr | None, file: Path | None) -> str | None:
    """A key, from the document or its file. Raises BackendUnavailable for a file that cannot be read."""
    if file is None:
        return None if value is None else value.get_secret_value()
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BackendUnavailable(backend, "open", f"key file {file}: {error}") from error


def bearer(backend: str, settings: RemoteIndex) -> Mapping[str, str]:
    """The key as most services want it; no header without a key."""
    key = secret_of(backend, settings.api_key, settings.api_key_file)
    return {"authorization": f"Bearer {key}"} if key else {}


def key_header(backend: str, settings: RemoteIndex, header: str) -> Mapping[str, str]:
    """The key in a header of its own."""
    key = secret_of(backend, settings.api_key, settings.api_key_file)
    return {header: key} if key else {}


def basic(username: str, password: str) -> Mapping[str, str]:
    """A login (RFC 7617)."""
    return {"authorization": f"Basic {base64.b64encode(f'{username}:{password}'.encode()).decode()}"}


def driver_of(settings: Remote) -> type[RemoteDriver]:
    """The driver of a vendor, imported when it is asked for."""
    module = importlib.import_module(f"ai_cache_extproc.indexes.{settings.type}")
    return cast("type[RemoteDriver]", module.Driver)
