"""The semantic layer of an APISIX document as native values: who embeds, where is searched, what counts as near."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import SecretStr

from ai_cache_extproc.config.apisix_document import AzureEmbedding, MessageMatch, OpenAIEmbedding, Semantic
from ai_cache_extproc.config.higress_notes import Note
from ai_cache_extproc.config.indexes import COLLECTION_PATTERN
from ai_cache_extproc.config.section import Location
from ai_cache_extproc.config.semantic import MESSAGES_MAX

TIMEOUT_MS_MAX = 2000
"""For the embedder; with the index's, behind the wait for a flight, it is what Envoy allows as it is shipped."""
SEARCH_MS_MAX = 1000
TOP_K_MIN, TOP_K_MAX = 4, 64
DIALECTS = ("openai_chat",)
"""The plugin compares no other API."""

Values = dict[str, object]

_AZURE_PATH = re.compile(r"/openai/deployments/([^/]+)/embeddings")
_AZURE_FORM = "write https://RESOURCE.openai.azure.com/openai/deployments/DEPLOYMENT/embeddings?api-version=VERSION"


class NotTaken(ValueError):
    """A value that has no form here. where: in `semantic`."""

    def __init__(self, where: Location, reason: str) -> None:
        self.where = where
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Search:
    """embedder, index: of the document; semantic: of the rule. All native values."""

    embedder: Values
    index: Values
    semantic: Values


def search_of(
    given: Semantic, key: SecretStr, store: Mapping[str, object], *, is_theirs: bool, timeout_ms: int
) -> Search:
    """key: of the embedding service. store: the Redis, as native values. timeout_ms: the document's for Redis.

    is_theirs: answers are kept under the plugin's keys, so points hold them as the plugin's do. Raises NotTaken.
    """
    semantic: Values = {
        "similarity_threshold": given.similarity_threshold,
        "top_k": min(max(given.top_k, TOP_K_MIN), TOP_K_MAX),
        "message_countback": min(given.match.message_countback, MESSAGES_MAX),
        "roles": list(_roles(given.match)),
        "ttl_s": given.ttl,
        "dialects": list(DIALECTS),
    }
    return Search(_embedder(given, key), _index(given, store, is_theirs=is_theirs, timeout_ms=timeout_ms), semantic)


def _roles(match: MessageMatch) -> Iterator[str]:
    """What a tool returned makes a question unfit, whatever the document says of it."""
    # `developer` is no system prompt there.
    yield from ("user", "developer")
    if not match.ignore_system_prompts:
        yield "system"
    if not match.ignore_assistant_prompts:
        yield "assistant"


def _embedder(given: Semantic, key: SecretStr) -> Values:
    service = given.embedding.openai or given.embedding.azure_openai
    assert service is not None
    if isinstance(service, OpenAIEmbedding):
        parts = urlsplit(service.endpoint)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        values: Values = {"type": "openai", "url": f"{parts.scheme}://{parts.netloc}", "path": path}
        values["model"] = service.model
        kind = "openai"
    else:
        values, kind = _azure(service), "azure_openai"
    if service.dimensions == 1:
        raise NotTaken(("embedding", kind, "dimensions"), "must be at least 2: with one number all questions are alike")
    if service.dimensions is not None:
        values["dimensions"] = service.dimensions
    if not service.ssl_verify:
        values["tls"] = {"verify": False}
    return values | {"api_key": key, "timeout_ms": min(service.timeout, TIMEOUT_MS_MAX)}


def _azure(service: AzureEmbedding) -> Values:
    parts = urlsplit(service.endpoint)
    deployment, query = _AZURE_PATH.fullmatch(parts.path), parse_qs(parts.query)
    if deployment is None or query.keys() != {"api-version"}:
        raise NotTaken(("embedding", "azure_openai", "endpoint"), f"is no deployment's address; {_AZURE_FORM}")
    return {
        "type": "azure_openai",
        "url": f"{parts.scheme}://{parts.netloc}",
        "model": unquote(deployment[1]),
        "api_version": query["api-version"][0],
    }


def _index(given: Semantic, store: Mapping[str, object], *, is_theirs: bool, timeout_ms: int) -> Values:
    name = given.vector_search.redis.index
    if re.fullmatch(COLLECTION_PATTERN, name) is None:
        reason = "may hold letters, digits and . _ : - only, up to 255; name another"
        raise NotTaken(("vector_search", "redis", "index"), reason)
    values = {key: value for key, value in store.items() if key != "type"}
    return values | {
        "type": "redisearch",
        "layout": "apisix" if is_theirs else "native",
        "collection": name,
        "timeout_ms": min(timeout_ms, SEARCH_MS_MAX),
    }


def said_of_search(given: Semantic, *, database: int) -> Iterator[Note]:
    """Locations are within `semantic`."""
    service = given.embedding.openai or given.embedding.azure_openai
    assert service is not None
    at: Location = ("embedding", "azure_openai" if given.embedding.openai is None else "openai")
    if service.endpoint.startswith("http://"):
        yield Note((*at, "endpoint"), "sends questions and the key in clear", "write https://")
    if service.timeout > TIMEOUT_MS_MAX:
        default = "" if "timeout" in service.model_fields_set else " (the plugin's default)"
        text = f"{service.timeout} ms{default} is longer than Envoy waits; {TIMEOUT_MS_MAX} ms hold, then the request goes upstream"
        yield Note((*at, "timeout"), text)
    if given.match.message_countback > MESSAGES_MAX:
        text = f"{given.match.message_countback} is more than are compared here; {MESSAGES_MAX} are, and all before them have to be the same"
        yield Note(("match", "message_countback"), text)
    if not given.match.ignore_tool_prompts:
        text = "false changes nothing: questions with tools in play are matched exactly only"
        yield Note(("match", "ignore_tool_prompts"), text)
    if database:
        text = f"is in database {database}, where Redis makes no index: nothing is found by its meaning"
        yield Note(("vector_search", "redis"), text, "use `redis_database: 0`")
    yield Note(
        (),
        "finds neighbours, of which the guards (`strict`) let those through that ask the same; points of the plugin itself "
        "are in partitions that it computes otherwise, and are not found",
        "`aicache convert` prints a document of ours, where `semantic: {guards: balanced}` loosens them",
    )
