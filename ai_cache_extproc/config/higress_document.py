"""The configuration of Higress' ai-cache as people have it: both generations, alone or inside a WasmPlugin resource.

Values are taken as that plugin takes them: keys that it does not know are let through, a number may stand for text and
text for a number, an empty text means the default. The fields are named as the document spells them.
"""
# ruff: noqa: N815

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from ai_cache_extproc.config.section import Fault, FieldFaults, Section
from ai_cache_extproc.config.stores import DATABASES_MAX
from ai_cache_extproc.paths import PathError, compile_path
from ai_cache_extproc.paths.template import compile_template

PORT_MAX = 65_535
TIMEOUT_MS_MAX = 2**32 - 1
TTL_S_MAX = 2**31 - 1
PREFIX_CHARS_MAX = 256

EMBEDDING_NEEDS: Mapping[str, tuple[str, ...]] = {
    "dashscope": ("apiKey",),
    "openai": ("apiKey",),
    "azure": ("apiKey", "apiVersion"),
    "cohere": ("apiKey",),
    "ollama": (),
    "huggingface": ("apiKey",),
    "textin": ("textinAppId", "textinSecretCode", "textinMatryoshkaDim"),
    "xfyun": ("apiKey", "appId", "apiSecret"),
}
"""What each kind of `embedding` must have besides `serviceName`."""
VECTOR_NEEDS: Mapping[str, tuple[str, ...]] = {
    "dashvector": ("serviceHost", "apiKey", "collectionID"),
    "chroma": ("collectionID",),
    "elasticsearch": ("collectionID",),
    "weaviate": ("collectionID",),
    "pinecone": ("serviceHost", "apiKey"),
    "qdrant": ("collectionID",),
    "milvus": ("collectionID",),
}
"""The same for `vector`."""


class Part(Section):
    """A part of the document. foreign: what else stands in it is Kubernetes' or the gateway's business."""

    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True)
    foreign: ClassVar[bool] = False


def _or(default: object) -> BeforeValidator:
    """An empty text means the default."""
    return BeforeValidator(lambda value: default if value == "" else value)


def _path(text: str) -> str:
    if text:
        compile_path(text)
    return text


def _extractor(value: object) -> object:
    """A path may stand without a mapping around it."""
    if isinstance(value, str):
        return Extractor.model_construct(requestBody=_path(value))
    if not isinstance(value, Mapping):
        raise ValueError("must be a path, or a mapping that holds one in `requestBody` or `responseBody`")  # noqa: TRY004 - pydantic takes no other
    return value


def _template(text: str) -> str:
    if text:
        compile_template(text, is_stream=False)
    return text


def _stream_template(text: str) -> str:
    try:
        if text:
            compile_template(text, is_stream=True)
    except PathError as error:
        if "\\n" in text:
            raise ValueError(f"{error}; in YAML \\n ends a line between double quotes only") from None
        raise
    return text


def _several(value: object) -> object:
    """One name may stand without a list."""
    return (value,) if isinstance(value, str) else value


JsonPath = Annotated[str, AfterValidator(_path)]
Template = Annotated[str, AfterValidator(_template)]
StreamTemplate = Annotated[str, AfterValidator(_stream_template)]
Names = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(_several)]
Timeout = Annotated[int, Field(ge=0, le=TIMEOUT_MS_MAX)]
Lifetime = Annotated[int, Field(ge=0, le=TTL_S_MAX)]
Prefix = Annotated[str, Field(max_length=PREFIX_CHARS_MAX)]


class Extractor(Part):
    """Where something stands, as the older generation writes it."""

    requestBody: JsonPath = ""
    responseBody: JsonPath = ""

    @property
    def path(self) -> str:
        """The plugin reads `requestBody` for every one of them, its documentation says `responseBody` for answers."""
        return self.requestBody or self.responseBody


Extracted = Annotated[Extractor | None, BeforeValidator(_extractor)]


class CacheService(Part):
    """`cache`, or `redis` in the older generation, where `type` is not needed. cacheTTL 0: for ever."""

    type: Annotated[Literal["redis"] | None, _or(None)] = None
    serviceName: str = ""
    servicePort: int | None = Field(None, ge=1, le=PORT_MAX)
    serviceHost: str = ""
    username: str = ""
    password: SecretStr = SecretStr("")
    timeout: Timeout = 10_000
    cacheTTL: Lifetime | None = None
    cacheKeyPrefix: Prefix | None = None
    database: int = Field(0, ge=0, lt=DATABASES_MAX)


class EmbeddingService(Part):
    """`embedding`. Port and timeout 0: the default."""

    type: Annotated[
        Literal["dashscope", "openai", "azure", "cohere", "ollama", "huggingface", "textin", "xfyun"] | None, _or(None)
    ] = None
    serviceName: str = ""
    serviceHost: str = ""
    servicePort: int = Field(0, ge=0, le=PORT_MAX)
    timeout: Timeout = 0
    model: str = ""
    apiKey: SecretStr = SecretStr("")
    apiVersion: str = ""
    textinAppId: str = ""
    textinSecretCode: SecretStr = SecretStr("")
    textinMatryoshkaDim: int = Field(0, ge=0)
    appId: str = ""
    apiSecret: SecretStr = SecretStr("")

    @model_validator(mode="after")
    def _complete(self) -> EmbeddingService:
        _refuse_lacking(self, self.type, EMBEDDING_NEEDS)
        return self


class VectorService(Part):
    """`vector`. Port, timeout, topK and threshold 0: the default. serviceDomain: what `serviceHost` was called once."""

    type: Annotated[
        Literal["dashvector", "chroma", "elasticsearch", "weaviate", "pinecone", "qdrant", "milvus"] | None, _or(None)
    ] = None
    serviceName: str = ""
    serviceHost: str = ""
    serviceDomain: str = ""
    servicePort: int = Field(0, ge=0, le=PORT_MAX)
    apiKey: SecretStr = SecretStr("")
    topK: int = Field(0, ge=0)
    timeout: Timeout = 0
    collectionID: str = ""
    threshold: float = 0
    thresholdRelation: Annotated[Literal["lt", "lte", "gt", "gte"], _or("lt")] = "lt"
    esUsername: str = ""
    esPassword: SecretStr = SecretStr("")

    @model_validator(mode="after")
    def _complete(self) -> VectorService:
        given = self if self.serviceHost else self.model_copy(update={"serviceHost": self.serviceDomain})
        _refuse_lacking(given, self.type, VECTOR_NEEDS)
        return self


class DashBlock(Part):
    """The block of the public challenge's demo: DashScope for vectors, DashVector for neighbours, answers in Redis."""

    dashScopeKey: SecretStr = SecretStr("")
    dashScopeServiceName: str = ""
    dashVectorCollection: str = ""
    dashVectorEnd: str = ""
    dashVectorKey: SecretStr = SecretStr("")
    dashVectorServiceName: str = ""
    sessionID: str = ""

    @model_validator(mode="after")
    def _complete(self) -> DashBlock:
        needed = ("dashScopeKey", "dashVectorKey", "dashVectorEnd", "dashVectorCollection")
        if faults := tuple(_lacking(self, needed, "`Dash`")):
            raise FieldFaults(faults)
        return self


class HigressConfig(Part):
    """The configuration of the plugin. scope, partition: ours, beside it."""

    cacheKeyStrategy: Annotated[Literal["lastQuestion", "allQuestions", "disabled"], _or("lastQuestion")] = (
        "lastQuestion"
    )
    enableSemanticCache: bool | None = None
    cacheKeyFrom: Extracted = None
    cacheValueFrom: Extracted = None
    cacheStreamValueFrom: Extracted = None
    cacheToolCallsFrom: JsonPath = ""
    responseTemplate: Template = ""
    streamResponseTemplate: StreamTemplate = ""
    returnResponseTemplate: Template = ""
    returnStreamResponseTemplate: StreamTemplate = ""
    cacheTTL: Lifetime | None = None
    cacheKeyPrefix: Prefix = ""
    cache: CacheService | None = None
    redis: CacheService | None = None
    embedding: EmbeddingService | None = None
    vector: VectorService | None = None
    Dash: DashBlock | None = None
    scope: Literal["everyone", "credential"] | None = None
    partition: Literal["none"] | None = None

    @model_validator(mode="after")
    def _usable(self) -> HigressConfig:
        if faults := tuple(_faults_of(self)):
            raise FieldFaults(faults)
        return self

    @property
    def store(self) -> tuple[str, CacheService] | None:
        """Where answers are kept, and under which key that stands. As in the plugin, `redis` wins over `cache`."""
        if self.redis is not None:
            return "redis", self.redis
        if self.cache is not None and self.cache.type is not None:
            return "cache", self.cache
        return None

    @property
    def searched(self) -> VectorService | None:
        """The vector store, where one is named by its type."""
        return None if self.vector is None or self.vector.type is None else self.vector

    @property
    def embedded_by(self) -> EmbeddingService | None:
        """The embedding service, where one is named by its type."""
        return None if self.embedding is None or self.embedding.type is None else self.embedding


class MatchRule(Part):
    """A configuration for some ingresses, domains or services."""

    ingress: Names = ()
    domain: Names = ()
    service: Names = ()
    config: HigressConfig | None = None
    configDisable: bool = False

    @model_validator(mode="after")
    def _complete(self) -> MatchRule:
        faults: list[Fault] = []
        if not self.configDisable and self.config is None:
            faults.append((("config",), "is missing"))
        if not self.configDisable and not (self.ingress or self.domain or self.service):
            faults.append(((), "is for no request; give `ingress`, `domain` or `service`"))
        if faults:
            raise FieldFaults(tuple(faults))
        return self


class Spec(Part):
    """The part of the resource that says what applies where."""

    foreign: ClassVar[bool] = True

    pluginConfig: HigressConfig | None = None
    defaultConfig: HigressConfig | None = None
    defaultConfigDisable: bool = False
    matchRules: tuple[MatchRule, ...] = ()


class WasmPlugin(Part):
    """The resource, as the gateway's console writes it. scope, partition: ours, beside `spec`."""

    foreign: ClassVar[bool] = True

    spec: Spec
    scope: Literal["everyone", "credential"] | None = None
    partition: Literal["none"] | None = None


def _faults_of(config: HigressConfig) -> Iterator[Fault]:
    if config.store is None and config.embedded_by is None and config.searched is None and config.Dash is None:
        untyped = [name for name in ("cache", "vector", "embedding") if getattr(config, name) is not None]
        for name in untyped:
            yield (name, "type"), f"is missing, and without it nothing of `{name}` is read"
        if not untyped:
            yield (), "names no service: give `redis`, or `cache`, `vector` or `embedding` with a `type`"
    if config.store is not None and not config.store[1].serviceName:
        name, _ = config.store
        yield (name, "serviceName"), "is missing; name the service of Redis, as in `serviceName: my-redis.dns`"


def _refuse_lacking(part: Part, kind: str | None, needs: Mapping[str, tuple[str, ...]]) -> None:
    if kind is None:
        return
    if faults := tuple(_lacking(part, ("serviceName", *needs[kind]), f"`type: {kind}`")):
        raise FieldFaults(faults)


def _lacking(part: Part, needed: tuple[str, ...], by: str) -> Iterator[Fault]:
    for name in needed:
        value = getattr(part, name)
        if not (value.get_secret_value() if isinstance(value, SecretStr) else value):
            yield (name,), f"is missing, and {by} needs it"
