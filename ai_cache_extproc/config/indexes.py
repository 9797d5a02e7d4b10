"""The sections of the document that say where vectors are searched, one for each kind of index."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Discriminator, Field, SecretStr, Tag, model_validator

from ai_cache_extproc.config.http import HttpService, refuse_two
from ai_cache_extproc.config.section import Section
from ai_cache_extproc.config.stores import RedisService

COLLECTION_PATTERN = r"^[A-Za-z0-9_.:-]{1,255}$"
Collection = Annotated[str, Field(pattern=COLLECTION_PATTERN)]


class EmbeddedIndex(Section):
    """Vectors are compared in this process; kept in the store's file where the store is `sqlite`."""

    type: Literal["embedded"] = "embedded"
    rows_max: int = Field(50_000, ge=1, le=2_000_000)
    """So many points; the oldest make room. One takes four bytes for each dimension, in memory and in the file."""
    graph_rows_min: int = Field(20_000, ge=1)
    """In a partition with more points a graph (the extra `usearch`) proposes them; without the extra all are compared."""


class RediSearchIndex(RedisService):
    """Vectors in a Redis with the query engine (Redis 8, or the RediSearch module)."""

    type: Literal["redisearch"]
    collection: Collection = "aicache-index"
    """What the names of the index and of its keys begin with."""
    layout: Literal["native", "apisix"] = "native"
    """`apisix`: as the ai-cache plugin of APISIX keeps its points, answers included."""
    ef_runtime: int = Field(64, ge=1)
    """How many neighbours a search looks at. Redis' own 10 misses one point in 25."""
    m: int = Field(16, ge=2)
    """Neighbours of each point in the graph. Counts when the index is created."""
    ef_construction: int = Field(200, ge=1)
    """How many neighbours are looked at for a new point. Counts when the index is created."""


class RemoteIndex(HttpService):
    """What all indexes say that are asked over HTTP."""

    collection: Collection = "aicache"
    """With the layout `native`, what the collection's name begins with: the embedder's digest and dimensions follow."""
    layout: Literal["native", "higress"] = "native"
    """`higress`: points as the ai-cache plugin of Higress keeps them, answers included, in the collection of this very name."""
    partitioned: bool = True
    """false, with the layout `higress`: points of all callers, models and histories stand together, as in the plugin."""
    api_key: SecretStr | None = None
    api_key_file: Path | None = None
    """Read anew for every call, so that a rotated key is picked up."""

    @model_validator(mode="after")
    def _whole(self) -> RemoteIndex:
        refuse_two("api_key", self.api_key, self.api_key_file)
        if not self.partitioned and self.layout == "native":
            raise ValueError("has `partitioned: false`, which only `layout: higress` can have; leave it out")
        return self


class QdrantIndex(RemoteIndex):
    """Vectors in Qdrant 1.10 or later."""

    type: Literal["qdrant"]


class MilvusIndex(RemoteIndex):
    """Vectors in Milvus 2.4 or later, or Zilliz Cloud, over its RESTful API v2. The key is a token, or `USER:PASSWORD`."""

    type: Literal["milvus"]
    database: str = "default"


class ChromaIndex(RemoteIndex):
    """Vectors in Chroma 1.0 or later."""

    type: Literal["chroma"]
    tenant: str = "default_tenant"
    database: str = "default_database"


class WeaviateIndex(RemoteIndex):
    """Vectors in Weaviate 1.20 or later. The collection is a class, so its name begins with a capital letter."""

    type: Literal["weaviate"]


class PineconeIndex(RemoteIndex):
    """Vectors in Pinecone: `url` is the index's own host, `collection` the namespace. The index must be there."""

    type: Literal["pinecone"]


class ElasticsearchIndex(RemoteIndex):
    """Vectors in Elasticsearch 8.12 or later."""

    type: Literal["elasticsearch"]
    username: str | None = None
    """With `password`, in place of an API key."""
    password: SecretStr | None = None
    password_file: Path | None = None

    @model_validator(mode="after")
    def _one_login(self) -> ElasticsearchIndex:
        refuse_two("password", self.password, self.password_file)
        if (self.username is None) != (self.password is None and self.password_file is None):
            raise ValueError("has one of `username` and `password`; give both, or an `api_key`")
        return self


class DashVectorIndex(RemoteIndex):
    """Vectors in DashVector (Alibaba Cloud): `url` is the cluster's endpoint."""

    type: Literal["dashvector"]


Remote = QdrantIndex | MilvusIndex | ChromaIndex | WeaviateIndex | PineconeIndex | ElasticsearchIndex | DashVectorIndex
AnyIndex = EmbeddedIndex | RediSearchIndex | Remote


def _index_type(value: object) -> object:
    """The type may be left out for the default."""
    if isinstance(value, dict):
        return str(value.get("type", "embedded"))
    return getattr(value, "type", "embedded")


Index = Annotated[
    Annotated[EmbeddedIndex, Tag("embedded")]
    | Annotated[RediSearchIndex, Tag("redisearch")]
    | Annotated[QdrantIndex, Tag("qdrant")]
    | Annotated[MilvusIndex, Tag("milvus")]
    | Annotated[ChromaIndex, Tag("chroma")]
    | Annotated[WeaviateIndex, Tag("weaviate")]
    | Annotated[PineconeIndex, Tag("pinecone")]
    | Annotated[ElasticsearchIndex, Tag("elasticsearch")]
    | Annotated[DashVectorIndex, Tag("dashvector")],
    Discriminator(_index_type),
]
