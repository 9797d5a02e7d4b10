"""What a Higress document says of matching by meaning, as native values: its vendors, its scores, its own points.

A score becomes a cosine here. A threshold that cannot tell neighbours from strangers is not taken over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydantic import SecretStr

from ai_cache_extproc.config.document import Document
from ai_cache_extproc.config.fields import dotted
from ai_cache_extproc.config.higress_document import DashBlock, EmbeddingService, HigressConfig, VectorService
from ai_cache_extproc.config.higress_notes import Note
from ai_cache_extproc.config.higress_scores import CHROMA_IS_SQUARED, Unusable, cosine_of
from ai_cache_extproc.config.higress_services import Hosts, address_of, on_one_line
from ai_cache_extproc.config.indexes import COLLECTION_PATTERN
from ai_cache_extproc.config.section import Location
from ai_cache_extproc.config.thresholds import threshold_for
from ai_cache_extproc.errors import ConfigError

TIMEOUT_MS = 10_000
"""What the plugin waits for either service where the document says nothing."""
TIMEOUT_MS_MAX = 2000
"""Twice this, behind the wait for a flight, is what Envoy allows as it is shipped."""
HTTPS_PORT = 443
TOP_K_MIN, TOP_K_MAX = 4, 64
DASH_THRESHOLD = 0.1
DASHSCOPE_HOST = "dashscope.aliyuncs.com"
HUGGINGFACE_HOST = "router.huggingface.co"
HUGGINGFACE_OLD_HOST = "api-inference.huggingface.co"
PINECONE_DEFAULT = "__default__"

_EMBEDDERS: Mapping[str, tuple[str, int, str]] = {
    "dashscope": (DASHSCOPE_HOST, HTTPS_PORT, "text-embedding-v2"),
    "openai": ("api.openai.com", HTTPS_PORT, "text-embedding-3-small"),
    "azure": ("", HTTPS_PORT, "text-embedding-ada-002"),
    "cohere": ("api.cohere.com", HTTPS_PORT, "embed-english-v2.0"),
    "ollama": ("localhost", 11434, "llama3.2"),
    "huggingface": (HUGGINGFACE_HOST, HTTPS_PORT, "sentence-transformers/all-MiniLM-L6-v2"),
    "textin": ("api.textin.com", HTTPS_PORT, ""),
    "xfyun": ("emb-cn-huabei-1.xf-yun.com", HTTPS_PORT, ""),
}
"""Host, port and model where the document names none."""
_SHARED = ("timeout_ms",)
"""Settings in which two rules may differ all the same."""

Values = dict[str, object]


@dataclass(frozen=True, slots=True)
class Search:
    """What one rule is searched with, as native values. embedder, index: of the document; semantic: of the rule.

    embedding, vector: where in the document the two services stand.
    """

    embedder: Values
    index: Values
    semantic: Values
    embedding: Location
    vector: Location


@dataclass(frozen=True, slots=True)
class _Reading:
    """Where the configuration stands in the document, and what was told of services."""

    document: Document
    location: Location
    hosts: Hosts
    notes: list[Note]

    def note(self, *location: str, text: str, fix: str = "") -> None:
        self.notes.append(Note((*self.location, *location), text, fix))

    def refused(self, *location: str, reason: str) -> ConfigError:
        where = (*self.location, *location)
        return ConfigError(dotted(where), reason, source=self.document.source_of(where))

    def timeout_ms(self, section: str, asked: int) -> int:
        """At most as long as a lookup by meaning may take."""
        asked_ms = asked or TIMEOUT_MS
        if asked_ms > TIMEOUT_MS_MAX:
            default = "" if asked else " (the plugin's default)"
            text = f"{asked_ms} ms{default} is longer than Envoy waits; {TIMEOUT_MS_MAX} ms hold, then the request goes upstream"
            self.note(section, "timeout", text=text)
        return min(asked_ms, TIMEOUT_MS_MAX)

    def url(self, where: tuple[str, str], name: str, host: str, port: int) -> str:
        """Where a service is asked: as told, else at its own host."""
        try:
            address = address_of(name, host, port, self.hosts)
        except ValueError as error:
            raise self.refused(*where, reason=str(error)) from None
        if address.port == HTTPS_PORT:
            return f"https://{str(address).removesuffix(f':{HTTPS_PORT}')}"
        return f"http://{address}"


def semantic_of(
    config: HigressConfig, document: Document, *, location: Location, hosts: Hosts, scope: str
) -> tuple[Search | None, tuple[Note, ...]]:
    """What a rule is searched with, None where it is not; and what is to be said of it. Raises ConfigError."""
    reading = _Reading(document, location, hosts, [])
    search = _search(config, reading)
    if search is None and config.enableSemanticCache and config.searched is None and config.Dash is None:
        reading.note("enableSemanticCache", text="has nothing to search in", fix="give `vector` and `embedding`")
    if config.partition is None:
        return search, tuple(reading.notes)
    if search is None:
        reading.note("partition", text="changes nothing where nothing is searched")
    elif scope != "everyone":
        reason = "`none` mixes callers, whom `scope: credential` keeps apart; leave one of the two out"
        raise reading.refused("partition", reason=reason)
    else:
        search.index["partitioned"] = False
    return search, tuple(reading.notes)


def together(searches: Sequence[Search], document: Document) -> Values:
    """The embedder and the index of all rules; nothing where none is searched.

    Raises ConfigError for a second one of either.
    """
    if not searches:
        return {}
    first = searches[0]
    for other in searches[1:]:
        for name, ours, theirs, here, there in (
            ("embedder", other.embedder, first.embedder, other.embedding, first.embedding),
            ("index", other.index, first.index, other.vector, first.vector),
        ):
            if _lasting(ours) != _lasting(theirs):
                reason = (
                    f"is not what {dotted(there)} is; one sidecar has one {name}, so run a second sidecar for this one"
                )
                raise ConfigError(dotted(here), reason, source=document.source_of(here))
    embedder, index = dict(first.embedder), dict(first.index)
    embedder["timeout_ms"] = min(_ms(each.embedder) for each in searches)
    index["timeout_ms"] = min(_ms(each.index) for each in searches)
    return {"embedder": embedder, "index": index}


def _lasting(values: Values) -> Values:
    return {name: value for name, value in values.items() if name not in _SHARED}


def _ms(values: Values) -> int:
    found = values["timeout_ms"]
    assert isinstance(found, int)
    return found


def service_names(config: HigressConfig) -> Iterator[str]:
    """The names of all services of this configuration."""
    services = (config.store[1] if config.store else None, config.embedded_by, config.searched)
    yield from (service.serviceName for service in services if service is not None)
    if config.Dash is not None:
        yield from filter(None, (config.Dash.dashScopeServiceName, config.Dash.dashVectorServiceName))


def _search(config: HigressConfig, reading: _Reading) -> Search | None:
    embedding, vector, is_on = config.embedded_by, config.searched, config.cacheKeyStrategy != "disabled"
    if embedding is None and vector is None:
        return None if config.Dash is None or not is_on else _dash(config.Dash, reading)
    if config.Dash is not None:
        reading.note("Dash", text="is not used beside `vector` and `embedding`", fix="leave one of the two out")
    if embedding is None:
        reading.note("vector", text="finds nothing without vectors of questions", fix="give `embedding`")
    if vector is None:
        reading.note("embedding", text="has nothing to search in", fix="give `vector`")
    if embedding is None or vector is None or not is_on:
        return None
    # Off only where it says so and a store can answer alone; the plugin means the same, and forgets it (its issue 3880).
    if config.enableSemanticCache is False and config.store is not None:
        reading.note("vector", text="is not searched: `enableSemanticCache` is false")
        return None
    embedder, index = _embedder(embedding, reading), _index(vector, reading)
    return _found(embedder, index, _semantic(vector, embedder, reading), reading, places=("embedding", "vector"))


def _found(embedder: Values, index: Values, semantic: Values, reading: _Reading, *, places: tuple[str, str]) -> Search:
    embedding, vector = places
    reading.note(
        vector,
        text="finds neighbours, of which the guards (`strict`) let those through that ask the same",
        fix="`aicache convert` prints a document of ours, where `semantic: {guards: balanced}` loosens them",
    )
    return Search(embedder, index, semantic, (*reading.location, embedding), (*reading.location, vector))


def _semantic(vector: VectorService, embedder: Values, reading: _Reading) -> Values:
    """The settings of the rule. Raises ConfigError where nobody knows how close is close enough."""
    semantic: Values = {"top_k": min(max(vector.topK, TOP_K_MIN), TOP_K_MAX)}
    threshold = cosine_of(vector)
    if not isinstance(threshold, Unusable):
        if vector.type == "chroma":
            reading.note("vector", "threshold", text=CHROMA_IS_SQUARED)
        return semantic | {"similarity_threshold": threshold}
    model = str(embedder.get("model", ""))
    if threshold_for(model).value is None:
        named = f'"{on_one_line(model)}"' if model else f"the model of {embedder['type']}"
        reason = f"{threshold.text}, and nobody has an idea of one for {named}; {threshold.fix}"
        raise reading.refused("vector", threshold.key, reason=reason)
    text = f"{threshold.text}; the embedder's own threshold is used"
    reading.note("vector", threshold.key, text=text, fix=threshold.fix)
    return semantic


def _embedder(service: EmbeddingService, reading: _Reading) -> Values:
    assert service.type is not None
    host, port, model = _EMBEDDERS[service.type]
    if service.type == "huggingface" and service.serviceHost == HUGGINGFACE_OLD_HOST:
        reading.note("embedding", "serviceHost", text=f"is no more; {HUGGINGFACE_HOST} is asked")
        own_host = ""
    else:
        own_host = service.serviceHost
    url = reading.url(("embedding", "serviceName"), service.serviceName, own_host or host, service.servicePort or port)
    values: Values = {"type": service.type, "url": url}
    values["timeout_ms"] = reading.timeout_ms("embedding", service.timeout)
    model = service.model or model
    if model:
        values["model"] = model
    if service.apiKey.get_secret_value() and service.type != "textin":
        values["api_key"] = service.apiKey
    match service.type:
        case "openai":
            values["path"] = "/v1/embeddings"
        case "azure":
            values |= {"type": "azure_openai", "api_version": service.apiVersion}
        case "huggingface" if own_host:
            values["path"] = "/pipeline/feature-extraction/{model}"
        case "huggingface":
            values["url"] = f"{url}/hf-inference"
        case "textin":
            values |= {
                "app_id": service.textinAppId,
                "app_secret": service.textinSecretCode,
                "dimensions": service.textinMatryoshkaDim,
            }
        case "xfyun":
            values |= {"app_id": service.appId, "api_secret": service.apiSecret}
        case _:
            pass
    if service.type in {"textin", "xfyun"}:
        values.pop("model", None)
    return values


def _index(service: VectorService, reading: _Reading) -> Values:
    assert service.type is not None
    if service.serviceDomain and service.serviceHost:
        reading.note("vector", "serviceDomain", text="is not used beside `serviceHost`")
    host = service.serviceHost or service.serviceDomain
    url = reading.url(("vector", "serviceName"), service.serviceName, host, service.servicePort or HTTPS_PORT)
    collection = service.collectionID or PINECONE_DEFAULT
    values = _index_at(url, service.type, _collection(collection, reading, "vector", "collectionID"), service.apiKey)
    values["timeout_ms"] = reading.timeout_ms("vector", service.timeout)
    if service.type == "elasticsearch" and "api_key" not in values and service.esUsername:
        values |= {"username": service.esUsername, "password": service.esPassword}
    return values


def _index_at(url: str, kind: str, collection: str, key: SecretStr) -> Values:
    values: Values = {"type": kind, "url": url, "collection": collection, "layout": "higress"}
    return values | ({"api_key": key} if key.get_secret_value() else {})


def _collection(name: str, reading: _Reading, *where: str) -> str:
    if re.fullmatch(COLLECTION_PATTERN, name) is None:
        raise reading.refused(
            *where, reason="may hold letters, digits and . _ : - only, up to 255; name another collection"
        )
    return name


def _dash(block: DashBlock, reading: _Reading) -> Search:
    """As the demo has it: a neighbour's question, then the answer that stands under it."""
    end = block.dashVectorEnd.removeprefix("https://").rstrip("/")
    scope = reading.url(("Dash", "dashScopeServiceName"), block.dashScopeServiceName, DASHSCOPE_HOST, HTTPS_PORT)
    vector = reading.url(("Dash", "dashVectorEnd"), block.dashVectorServiceName, end, HTTPS_PORT)
    embedder: Values = {"type": "dashscope", "url": scope, "model": "text-embedding-v1", "api_key": block.dashScopeKey}
    collection = _collection(block.dashVectorCollection, reading, "Dash", "dashVectorCollection")
    index = _index_at(vector, "dashvector", collection, block.dashVectorKey)
    embedder["timeout_ms"] = index["timeout_ms"] = TIMEOUT_MS_MAX
    semantic: Values = {"top_k": TOP_K_MIN, "similarity_threshold": 1 - DASH_THRESHOLD}
    return _found(embedder, index, semantic, reading, places=("Dash", "Dash"))
