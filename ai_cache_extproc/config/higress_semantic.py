"""What a Higress document says of semantic search: checked, completed with the plugin's defaults, and kept.

Nothing searches yet. A threshold that cannot tell neighbours from strangers is not taken over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import SecretStr

from ai_cache_extproc.config.addresses import TcpAddress
from ai_cache_extproc.config.higress_document import DashBlock, EmbeddingService, HigressConfig, VectorService
from ai_cache_extproc.config.higress_notes import Note
from ai_cache_extproc.config.higress_services import Hosts, address_of
from ai_cache_extproc.config.section import Location

TIMEOUT_MS = 10_000
THRESHOLD = 1000.0
VECTOR_PORT = 443
DASH_THRESHOLD = 0.1
DASHSCOPE_HOST = "dashscope.aliyuncs.com"

_EMBEDDERS: Mapping[str, tuple[str, int, str]] = {
    "dashscope": (DASHSCOPE_HOST, 443, "text-embedding-v2"),
    "openai": ("api.openai.com", 443, "text-embedding-3-small"),
    "azure": ("", 443, "text-embedding-ada-002"),
    "cohere": ("api.cohere.com", 443, "embed-english-v2.0"),
    "ollama": ("localhost", 11434, "llama3.2"),
    "huggingface": ("api-inference.huggingface.co", 443, "sentence-transformers/all-MiniLM-L6-v2"),
    "textin": ("api.textin.com", 443, ""),
    "xfyun": ("emb-cn-huabei-1.xf-yun.com", 443, ""),
}
"""Host, port and model where the document names none."""
_DISTANCES = frozenset({"dashvector", "chroma", "weaviate"})
"""Kinds whose score is a distance: closer is smaller. Of all others it is a similarity."""
_STRANGERS_APART = 2.0
"""The greatest cosine distance there is, and the squared Euclidean one of unit vectors that have nothing in common."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a service answers. address: None where only the gateway knows it. host: what it is asked as, may be empty."""

    service: str
    host: str
    address: TcpAddress | None
    timeout_ms: int


@dataclass(frozen=True, slots=True)
class HigressEmbedder:
    """How questions become vectors. model: empty where the API takes none. dimensions: 0 where it is not asked for."""

    type: str
    endpoint: Endpoint
    model: str
    api_key: SecretStr | None
    api_version: str = ""
    app_id: str = ""
    app_secret: SecretStr | None = None
    dimensions: int = 0


@dataclass(frozen=True, slots=True)
class HigressIndex:
    """Where vectors are searched. threshold: of the store's own score, None where the document's is not used."""

    type: str
    endpoint: Endpoint
    collection: str
    top_k: int
    threshold: float | None
    relation: Literal["lt", "lte", "gt", "gte"]
    api_key: SecretStr | None = None
    username: str = ""
    password: SecretStr | None = None


@dataclass(frozen=True, slots=True)
class HigressSemantic:
    """The semantic settings of one rule. answers: whether a neighbour brings its answer, or names a question in the store."""

    rule: str
    enabled: bool
    embedder: HigressEmbedder | None
    index: HigressIndex | None
    answers: Literal["index", "store"] = "index"


@dataclass(frozen=True, slots=True)
class _Reading:
    """Where the configuration stands in the document, and what was told of services."""

    location: Location
    hosts: Hosts
    notes: list[Note]

    def note(self, *location: str, text: str, fix: str = "") -> None:
        self.notes.append(Note((*self.location, *location), text, fix))


def semantic_of(
    config: HigressConfig, *, rule: str, location: Location, hosts: Hosts
) -> tuple[HigressSemantic | None, tuple[Note, ...]]:
    """The semantic settings of a rule, None where it has none; and what is to be said of them."""
    reading = _Reading(location, hosts, [])
    semantic = _semantic(config, rule, reading)
    if semantic is None and config.enableSemanticCache:
        reading.note("enableSemanticCache", text="has nothing to search in", fix="give `vector` and `embedding`")
    return semantic, tuple(reading.notes)


def service_names(config: HigressConfig) -> Iterator[str]:
    """The names of all services of this configuration."""
    services = (config.store[1] if config.store else None, config.embedded_by, config.searched)
    yield from (service.serviceName for service in services if service is not None)
    if config.Dash is not None:
        yield from filter(None, (config.Dash.dashScopeServiceName, config.Dash.dashVectorServiceName))


def _semantic(config: HigressConfig, rule: str, reading: _Reading) -> HigressSemantic | None:
    embedding, vector = config.embedded_by, config.searched
    first = next((name for name in ("vector", "embedding", "Dash") if getattr(config, name) is not None), None)
    if first is None or (embedding is None and vector is None and config.Dash is None):
        return None
    reading.note(first, text="is checked and nothing more: semantic search is not part of this version")
    if embedding is None and vector is None:
        assert config.Dash is not None
        return _dash(config.Dash, rule, reading, enabled=config.cacheKeyStrategy != "disabled")
    if config.Dash is not None:
        reading.note("Dash", text="is not used beside `vector` and `embedding`", fix="leave one of the two out")
    if embedding is None:
        reading.note("vector", text="finds nothing without vectors of questions", fix="give `embedding`")
    if vector is None:
        reading.note("embedding", text="has nothing to search in", fix="give `vector`")
    # Off only where it says so and a store can answer alone; the plugin means the same, and forgets it (its issue 3880).
    exact_alone = config.enableSemanticCache is False and config.store is not None
    enabled = vector is not None and not exact_alone and config.cacheKeyStrategy != "disabled"
    return HigressSemantic(
        rule,
        enabled,
        None if embedding is None else _embedder(embedding, reading),
        None if vector is None else _index(vector, reading),
    )


def _embedder(service: EmbeddingService, reading: _Reading) -> HigressEmbedder:
    assert service.type is not None
    host, port, model = _EMBEDDERS[service.type]
    host = service.serviceHost or host
    address = _address(("embedding", "serviceName"), service.serviceName, host, service.servicePort or port, reading)
    return HigressEmbedder(
        service.type,
        Endpoint(service.serviceName, host, address, service.timeout or TIMEOUT_MS),
        service.model or model,
        _secret(service.apiKey),
        api_version=service.apiVersion,
        app_id=service.textinAppId or service.appId,
        app_secret=_secret(service.textinSecretCode) or _secret(service.apiSecret),
        dimensions=service.textinMatryoshkaDim,
    )


def _index(service: VectorService, reading: _Reading) -> HigressIndex:
    assert service.type is not None
    if service.serviceDomain and service.serviceHost:
        reading.note("vector", "serviceDomain", text="is not used beside `serviceHost`")
    name, host, port = service.serviceName, service.serviceHost or service.serviceDomain, service.servicePort
    address = _address(("vector", "serviceName"), name, host, port or VECTOR_PORT, reading)
    usable = _is_usable(service, reading)
    return HigressIndex(
        service.type,
        Endpoint(name, host, address, service.timeout or TIMEOUT_MS),
        service.collectionID,
        service.topK or 1,
        (service.threshold or THRESHOLD) if usable else None,
        service.thresholdRelation,
        api_key=_secret(service.apiKey),
        username=service.esUsername,
        password=_secret(service.esPassword),
    )


def _is_usable(service: VectorService, reading: _Reading) -> bool:
    """Whether the threshold tells neighbours from strangers; where not, a note says so."""
    threshold, relation = service.threshold or THRESHOLD, service.thresholdRelation
    shown = f"`{relation} {threshold:g}`"
    instead = "the embedder's own threshold will be used"
    smaller = service.type in _DISTANCES
    fix = (
        "write `thresholdRelation: lt` and, as in `threshold: 0.1`, a distance"
        if smaller
        else ("write `thresholdRelation: gt` and, as in `threshold: 0.9`, a similarity")
    )
    if relation.startswith("l") != smaller:
        score = "smaller for the closer" if smaller else "greater for the closer (cosine)"
        text = f"{shown} is the wrong way round for {service.type}, whose score is {score}; {instead}"
        reading.note("vector", "thresholdRelation", text=text, fix=fix)
        return False
    given = "" if service.threshold else " (the plugin's default)"
    if (smaller and threshold >= _STRANGERS_APART) or (not smaller and threshold <= 0):
        reading.note(
            "vector", "threshold", text=f"{shown}{given} takes any question for a neighbour; {instead}", fix=fix
        )
        return False
    if (smaller and threshold < 0) or (not smaller and threshold > 1):
        reading.note("vector", "threshold", text=f"{shown}{given} lets no neighbour through; {instead}", fix=fix)
        return False
    return True


def _dash(block: DashBlock, rule: str, reading: _Reading, *, enabled: bool) -> HigressSemantic:
    """As the demo has it: a neighbour's question, then the answer that stands under it."""
    name, end = block.dashScopeServiceName, block.dashVectorEnd.removeprefix("https://").rstrip("/")
    address = _address(("Dash", "dashScopeServiceName"), name, DASHSCOPE_HOST, VECTOR_PORT, reading)
    scope = Endpoint(name, DASHSCOPE_HOST, address, TIMEOUT_MS)
    address = _address(("Dash", "dashVectorEnd"), block.dashVectorServiceName, end, VECTOR_PORT, reading)
    vector = Endpoint(block.dashVectorServiceName, end, address, TIMEOUT_MS)
    return HigressSemantic(
        rule,
        enabled,
        HigressEmbedder("dashscope", scope, "text-embedding-v1", _secret(block.dashScopeKey)),
        HigressIndex(
            "dashvector",
            vector,
            block.dashVectorCollection,
            1,
            DASH_THRESHOLD,
            "lt",
            api_key=_secret(block.dashVectorKey),
        ),
        answers="store",
    )


def _address(where: tuple[str, str], name: str, host: str, port: int, reading: _Reading) -> TcpAddress | None:
    try:
        return address_of(name, host, port, reading.hosts)
    except ValueError as error:
        reading.note(*where, text=str(error))
        return None


def _secret(value: SecretStr) -> SecretStr | None:
    return value if value.get_secret_value() else None
