"""The configuration of APISIX's ai-cache plugin, with the defaults and the rules of its schema, and a route around it.

Where that schema lets an unknown key through, this one refuses it: a misspelled limit would be no limit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, ConfigDict, Field, SecretStr, StrictBool, StrictInt, model_validator

from ai_cache_extproc.config.apisix_values import ApisixOverride
from ai_cache_extproc.config.apisix_variables import Variable
from ai_cache_extproc.config.scope import IDENTITY_PARTS_MAX, HeaderName, IdentityPart
from ai_cache_extproc.config.section import Fault, FieldFaults, Section
from ai_cache_extproc.config.stores import DATABASES_MAX

PORT_MAX = 65_535
TTL_S_MAX = 2**31 - 1
OPENAI_ENDPOINT = "https://api.openai.com/v1/embeddings"

_NO_ENDPOINT = "is no address of an embedding service; write https://HOST/PATH"
_T = TypeVar("_T")


def _endpoint(text: str) -> str:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError(_NO_ENDPOINT) from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise ValueError(_NO_ENDPOINT)
    if parts.username is not None:
        raise ValueError("holds a login; put it into `api_key`")
    return text


def _unique(words: tuple[str, ...]) -> tuple[str, ...]:
    for word in words:
        if words.count(word) > 1:
            raise ValueError(f'names "{word}" twice; name it once')
    return words


def _some(items: tuple[_T, ...]) -> tuple[_T, ...]:
    if not items:
        raise ValueError("needs at least 1")
    return items


def _few(names: tuple[str, ...]) -> tuple[str, ...]:
    # One part more may be the consumer.
    if len(names) >= IDENTITY_PARTS_MAX:
        raise ValueError(f"names {len(names)} variables, at most {IDENTITY_PARTS_MAX - 1} make a scope")
    return names


def _with_exact(layers: tuple[str, ...]) -> tuple[str, ...]:
    if "exact" not in layers:
        raise ValueError('must contain "exact", which answers before the semantic layer is asked')
    return layers


Count = Annotated[StrictInt, Field(ge=1)]
Lifetime = Annotated[StrictInt, Field(ge=1, le=TTL_S_MAX)]
Endpoint = Annotated[str, AfterValidator(_endpoint)]
Layer = Literal["exact", "semantic"]
Layers = Annotated[tuple[Layer, ...], AfterValidator(_some), AfterValidator(_unique), AfterValidator(_with_exact)]


class Exact(Section):
    """`exact`."""

    ttl: Lifetime = 3600


class CacheKey(Section):
    """`cache_key`: who shares."""

    share_across_routes: StrictBool = False
    include_consumer: StrictBool = False
    include_vars: Annotated[tuple[Variable, ...], AfterValidator(_few)] = ()


class BypassRule(Section):
    """One of `bypass_on`."""

    header: HeaderName
    equals: str


class MessageMatch(Section):
    """`semantic.match`: which messages are compared by their meaning."""

    message_countback: Count = 1
    ignore_system_prompts: StrictBool = True
    ignore_assistant_prompts: StrictBool = True
    ignore_tool_prompts: StrictBool = True


class OpenAIEmbedding(Section):
    """`semantic.embedding.openai`. The key may come from the environment."""

    endpoint: Endpoint = OPENAI_ENDPOINT
    model: str
    api_key: SecretStr = SecretStr("")
    dimensions: Count | None = None
    ssl_verify: StrictBool = True
    timeout: Count = 5000


class AzureEmbedding(Section):
    """`semantic.embedding.azure_openai`: the model is that of the deployment in the endpoint."""

    endpoint: Endpoint
    api_key: SecretStr = SecretStr("")
    dimensions: Count | None = None
    ssl_verify: StrictBool = True
    timeout: Count = 5000


class Embedding(Section):
    """`semantic.embedding`: one of the two."""

    openai: OpenAIEmbedding | None = None
    azure_openai: AzureEmbedding | None = None

    @model_validator(mode="after")
    def _one(self) -> Embedding:
        if (self.openai is None) == (self.azure_openai is None):
            raise ValueError("must have exactly one of `openai` and `azure_openai`")
        return self


class RedisIndex(Section):
    """`semantic.vector_search.redis`."""

    index: str = "ai-cache"


class VectorSearch(Section):
    """`semantic.vector_search`."""

    redis: RedisIndex


class Semantic(Section):
    """`semantic`."""

    similarity_threshold: Annotated[float, Field(ge=0, le=1, strict=True)] = 0.95
    top_k: Count = 1
    distance_metric: Literal["cosine"] = "cosine"
    ttl: Lifetime = 86_400
    match: MessageMatch = MessageMatch()
    embedding: Embedding
    vector_search: VectorSearch


class AiCache(Section):
    """The whole configuration of the plugin."""

    exact: Exact = Exact()
    cache_key: CacheKey = CacheKey()
    max_cache_body_size: Annotated[StrictInt, Field(ge=0)] = 1_048_576
    cache_headers: StrictBool = True
    fail_mode: Literal["skip", "warn", "error"] = "skip"
    bypass_on: Annotated[tuple[BypassRule, ...], AfterValidator(_some)] | None = None
    policy: Literal["redis"] = "redis"
    layers: Layers = ("exact",)
    semantic: Semantic | None = None
    redis_host: Annotated[str, Field(min_length=2)]
    redis_port: Annotated[StrictInt, Field(ge=1, le=PORT_MAX)] = 6379
    redis_username: Annotated[str, Field(min_length=1)] | None = None
    redis_password: SecretStr = SecretStr("")
    redis_database: Annotated[StrictInt, Field(ge=0, lt=DATABASES_MAX)] = 0
    redis_timeout: Count = 1000
    redis_ssl: StrictBool = False
    redis_ssl_verify: StrictBool = False
    redis_keepalive_timeout: Annotated[StrictInt, Field(ge=1000)] = 10_000
    redis_keepalive_pool: Count = 100

    @model_validator(mode="after")
    def _whole(self) -> AiCache:
        if "semantic" in self.layers and self.semantic is None:
            raise FieldFaults(((("semantic",), 'is missing, and `layers` names "semantic"'),))
        return self


class Beside(Section):
    """`apisix`, ours, beside the document: what the keys of the plugin hold and the document does not say."""

    route_id: Annotated[str, Field(min_length=1)] | None = None
    provider: Annotated[str, Field(min_length=1)] = "openai"
    model: Annotated[str, Field(min_length=1)] | None = None
    options: dict[str, object] | None = None
    override: ApisixOverride | None = None
    consumer: IdentityPart | None = None

    @model_validator(mode="after")
    def _one_model(self) -> Beside:
        if self.model is not None and self.options is not None and self.options.get("model", self.model) != self.model:
            raise FieldFaults(((("model",), "is not that of `options`; leave one of the two out"),))
        return self

    @property
    def all_options(self) -> dict[str, object] | None:
        """`options` with the model among them."""
        return self.options if self.model is None else {**(self.options or {}), "model": self.model}


class PluginMeta(Section):
    """`_meta` of a plugin's configuration."""

    model_config = ConfigDict(extra="ignore")

    disable: StrictBool = False


class Route(Section):
    """What of a route says which requests are meant."""

    model_config = ConfigDict(extra="ignore")

    id: str | StrictInt | None = None
    name: str = ""
    uri: str | None = None
    uris: tuple[str, ...] = ()
    host: str | None = None
    hosts: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    methods: tuple[str, ...] = ()
    status: Annotated[StrictInt, Field(ge=0, le=1)] = 1

    @model_validator(mode="after")
    def _plain(self) -> Route:
        if faults := tuple(_path_faults(self)):
            raise FieldFaults(faults)
        return self

    @property
    def paths(self) -> tuple[str, ...]:
        """What stands in `uri` or `uris`, parameters (`:name`) as any run of characters."""
        given = self.uris or ((self.uri,) if self.uri else ())
        return tuple("/".join("*" if step.startswith(":") else step for step in path.split("/")) for path in given)

    @property
    def authorities(self) -> tuple[str, ...]:
        """What stands in `host` or `hosts`."""
        return self.hosts or ((self.host,) if self.host else ())


def _path_faults(route: Route) -> Iterator[Fault]:
    given = [(("uri",), route.uri)] if route.uri is not None else []
    for where, path in (*given, *((("uris", index), path) for index, path in enumerate(route.uris))):
        if not path.startswith("/"):
            yield where, "matches no path; begin it with /"
        elif "?" in path:
            yield where, "has a query, which no path has; leave it out"
