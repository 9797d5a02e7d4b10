"""The semantic settings of a Higress document: defaults of each provider, thresholds, and when search is on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr

from ai_cache_extproc.config.addresses import TcpAddress
from ai_cache_extproc.config.higress_semantic import Endpoint, HigressEmbedder, HigressIndex, HigressSemantic
from ai_cache_extproc.config.load import load

# Parsed YAML: what a key holds depends on the other keys.
Values = dict[str, Any]

KEY = {"apiKey": "k"}
REDIS: Values = {"redis": {"serviceName": "my-redis.dns", "timeout": 9}}
EMBEDDING: Values = {"embedding": {"type": "ollama", "serviceName": "o.dns"}}
VECTOR: Values = {
    "vector": {"type": "chroma", "serviceName": "c.dns", "collectionID": "questions", "threshold": 0.1}
}  # fmt: skip
ONLY_CHECKED = "vector: is checked and nothing more: semantic search is not part of this version"


def read(folder: Path, values: Values, *hosts: str) -> tuple[HigressSemantic | None, list[str]]:
    """The semantic settings that a document comes to, and what is said of it without file and line."""
    path = folder / "ai-cache.yaml"
    path.write_text(yaml.safe_dump(values))
    loaded = load(path, environ={}, flags={"hosts": hosts})
    assert loaded.translation is not None
    found = [each for each in loaded.translation.semantic if isinstance(each, HigressSemantic)]
    said = [f"{note.path}: {note.text}" + (f"; {note.fix}" if note.fix else "") for note in loaded.notes]
    return (found[0] if found else None), said


def embedder_of(folder: Path, embedding: Values, *hosts: str) -> HigressEmbedder:
    """The embedder of a document with this `embedding`."""
    semantic, _ = read(folder, {"embedding": {"serviceName": "e.dns", **embedding}, **VECTOR}, *hosts)
    assert semantic is not None
    assert semantic.embedder is not None
    return semantic.embedder


def index_of(folder: Path, vector: Values, *hosts: str) -> tuple[HigressIndex, list[str]]:
    """The index of a document with this `vector`, and what is said of `vector` beyond that it is only checked."""
    full = {"serviceName": "v.dns", "collectionID": "questions", **vector}
    semantic, said = read(folder, {"vector": full, **EMBEDDING, **REDIS}, *hosts)
    assert semantic is not None
    assert semantic.index is not None
    return semantic.index, [line for line in said if line != ONLY_CHECKED]


def at(host: str, port: int, *, service: str = "e.dns", timeout_ms: int = 10_000) -> Endpoint:
    """An endpoint at its own host."""
    return Endpoint(service, host, TcpAddress(host, port), timeout_ms)


EMBEDDERS = {
    "dashscope": (KEY, at("dashscope.aliyuncs.com", 443), "text-embedding-v2"),
    "openai": (KEY, at("api.openai.com", 443), "text-embedding-3-small"),
    "cohere": (KEY, at("api.cohere.com", 443), "embed-english-v2.0"),
    "ollama": ({}, at("localhost", 11434), "llama3.2"),
    "huggingface": (KEY, at("api-inference.huggingface.co", 443), "sentence-transformers/all-MiniLM-L6-v2"),
}


@pytest.mark.parametrize(("given", "endpoint", "model"), EMBEDDERS.values(), ids=EMBEDDERS)
def test_each_embedding_service_has_its_defaults(
    tmp_path: Path, request: pytest.FixtureRequest, given: Values, endpoint: Endpoint, model: str
) -> None:
    """Host, port, model and timeout where the document names none."""
    kind = request.node.callspec.id
    key = SecretStr("k") if given else None
    assert HigressEmbedder(kind, endpoint, model, key) == embedder_of(tmp_path, {"type": kind, **given})


def test_an_embedding_service_may_name_everything(tmp_path: Path) -> None:
    """What is given wins; 0 means the default."""
    given = {
        "type": "openai",
        "apiKey": "k",
        "serviceHost": "llm.test",
        "servicePort": 8443,
        "timeout": 7,
        "model": "m",
    }
    assert HigressEmbedder("openai", at("llm.test", 8443, timeout_ms=7), "m", SecretStr("k")) == embedder_of(
        tmp_path, given
    )
    zero = {"type": "cohere", "apiKey": "k", "servicePort": 0, "timeout": 0, "model": ""}
    assert at("api.cohere.com", 443) == embedder_of(tmp_path, zero).endpoint


def test_azure_is_asked_at_its_own_host(tmp_path: Path) -> None:
    """It has no default host; without one the name of the service is tried."""
    given = {"type": "azure", "apiKey": "k", "apiVersion": "2024-10-21"}
    embedder = embedder_of(tmp_path, {**given, "serviceHost": "x.openai.azure.com"})
    assert ("2024-10-21", "text-embedding-ada-002", at("x.openai.azure.com", 443)) == (
        embedder.api_version,
        embedder.model,
        embedder.endpoint,
    )
    assert Endpoint("e.dns", "", TcpAddress("e", 443), 10_000) == embedder_of(tmp_path, given).endpoint


def test_textin_and_xfyun_have_names_of_their_own(tmp_path: Path) -> None:
    """Application, its secret and the size of the vector."""
    textin = embedder_of(
        tmp_path, {"type": "textin", "textinAppId": "a", "textinSecretCode": "s", "textinMatryoshkaDim": 1024}
    )
    assert ("a", SecretStr("s"), 1024, "", at("api.textin.com", 443)) == (
        textin.app_id,
        textin.app_secret,
        textin.dimensions,
        textin.model,
        textin.endpoint,
    )
    xfyun = embedder_of(tmp_path, {"type": "xfyun", "apiKey": "k", "appId": "a", "apiSecret": "s"})
    assert ("a", SecretStr("s"), SecretStr("k"), at("emb-cn-huabei-1.xf-yun.com", 443)) == (
        xfyun.app_id,
        xfyun.app_secret,
        xfyun.api_key,
        xfyun.endpoint,
    )


def test_a_told_service_is_reached_where_it_was_told(tmp_path: Path) -> None:
    """It is still asked for by its own host name."""
    embedder = embedder_of(tmp_path, {"type": "dashscope", "apiKey": "k"}, "e.dns=10.0.0.7:9")
    assert Endpoint("e.dns", "dashscope.aliyuncs.com", TcpAddress("10.0.0.7", 9), 10_000) == embedder.endpoint


def test_a_vector_store_has_its_defaults(tmp_path: Path) -> None:
    """Port 443 whatever the kind, one neighbour, ten seconds."""
    index, said = index_of(tmp_path, {"type": "chroma", "threshold": 0.2})
    assert (
        HigressIndex("chroma", Endpoint("v.dns", "", TcpAddress("v", 443), 10_000), "questions", 1, 0.2, "lt") == index
    )
    assert [] == said


def test_a_vector_store_may_name_everything(tmp_path: Path) -> None:
    """What is given wins."""
    given = {
        "type": "elasticsearch",
        "serviceHost": "es.test",
        "servicePort": 9200,
        "apiKey": "k",
        "topK": 3,
        "timeout": 5,
        "collectionID": "c",
        "threshold": 0.95,
        "thresholdRelation": "gte",
        "esUsername": "u",
        "esPassword": "p",
    }
    endpoint = at("es.test", 9200, service="v.dns", timeout_ms=5)
    expected = HigressIndex(
        "elasticsearch", endpoint, "c", 3, 0.95, "gte", api_key=SecretStr("k"), username="u", password=SecretStr("p")
    )
    assert (expected, []) == index_of(tmp_path, given)


def test_pinecone_needs_no_collection(tmp_path: Path) -> None:
    """There it is a namespace, and may be the default one."""
    given = {"type": "pinecone", "serviceHost": "p.test", "apiKey": "k", "threshold": 0.9, "thresholdRelation": "gt"}
    index, _ = index_of(tmp_path, {**given, "collectionID": ""})
    assert "" == index.collection


def test_the_older_name_of_the_host_is_taken(tmp_path: Path) -> None:
    """`serviceDomain`, as one of the plugin's two READMEs still writes it."""
    given = {"type": "dashvector", "apiKey": "k", "threshold": 0.1, "serviceDomain": "v.test"}
    index, said = index_of(tmp_path, given)
    assert (at("v.test", 443, service="v.dns"), []) == (index.endpoint, said)
    index, said = index_of(tmp_path, {**given, "serviceHost": "w.test"})
    assert ("w.test", ["vector.serviceDomain: is not used beside `serviceHost`"]) == (index.endpoint.host, said)


DISTANCE = "write `thresholdRelation: lt` and, as in `threshold: 0.1`, a distance"
SIMILARITY = "write `thresholdRelation: gt` and, as in `threshold: 0.9`, a similarity"
OWN = "the embedder's own threshold will be used"
THRESHOLDS = {
    "a distance": ("dashvector", {"threshold": 0.12}, 0.12, []),
    "at most a distance": ("weaviate", {"threshold": 0.12, "thresholdRelation": "lte"}, 0.12, []),
    "a similarity": ("qdrant", {"threshold": 0.9, "thresholdRelation": "gt"}, 0.9, []),
    "at least a similarity": ("milvus", {"threshold": 1, "thresholdRelation": "gte"}, 1, []),
    "none": (
        "chroma",
        {},
        None,
        [f"vector.threshold: `lt 1000` (the plugin's default) takes any question for a neighbour; {OWN}; {DISTANCE}"],
    ),
    "zero": (
        "chroma",
        {"threshold": 0},
        None,
        [f"vector.threshold: `lt 1000` (the plugin's default) takes any question for a neighbour; {OWN}; {DISTANCE}"],
    ),
    "a distance beyond all": (
        "dashvector",
        {"threshold": 2},
        None,
        [f"vector.threshold: `lt 2` takes any question for a neighbour; {OWN}; {DISTANCE}"],
    ),
    "a distance below all": (
        "weaviate",
        {"threshold": -0.1},
        None,
        [f"vector.threshold: `lt -0.1` lets no neighbour through; {OWN}; {DISTANCE}"],
    ),
    "no similarity": (
        "elasticsearch",
        {"thresholdRelation": "gt"},
        None,
        [f"vector.threshold: `gt 1000` (the plugin's default) lets no neighbour through; {OWN}; {SIMILARITY}"],
    ),
    "a similarity below all": (
        "milvus",
        {"threshold": -1, "thresholdRelation": "gte"},
        None,
        [f"vector.threshold: `gte -1` takes any question for a neighbour; {OWN}; {SIMILARITY}"],
    ),
    "a similarity from below": (
        "qdrant",
        {"threshold": 0.9},
        None,
        [
            (
                "vector.thresholdRelation: `lt 0.9` is the wrong way round for qdrant, whose score is greater for the closer "
                f"(cosine); {OWN}; {SIMILARITY}"
            )
        ],
    ),
    "a distance from above": (
        "dashvector",
        {"threshold": 0.1, "thresholdRelation": "gt"},
        None,
        [
            (
                "vector.thresholdRelation: `gt 0.1` is the wrong way round for dashvector, whose score is smaller for the "
                f"closer; {OWN}; {DISTANCE}"
            )
        ],
    ),
}


@pytest.mark.parametrize(("kind", "given", "threshold", "expected"), THRESHOLDS.values(), ids=THRESHOLDS)
def test_a_threshold_that_tells_nothing_apart_is_not_used(
    tmp_path: Path, kind: str, given: Values, threshold: float | None, expected: list[str]
) -> None:
    """It is named, with the reason and with the lines that would be used."""
    index, said = index_of(tmp_path, {"type": kind, "serviceHost": "v.test", "apiKey": "k", **given})
    assert (threshold, expected) == (index.threshold, said)


ENABLED = {
    "vector and embedding": ({**VECTOR, **EMBEDDING}, True),
    "with a store": ({**VECTOR, **EMBEDDING, **REDIS}, True),
    "said so": ({**VECTOR, **EMBEDDING, **REDIS, "enableSemanticCache": True}, True),
    "said off": ({**VECTOR, **EMBEDDING, **REDIS, "enableSemanticCache": False}, False),
    "said off without a store": ({**VECTOR, **EMBEDDING, "enableSemanticCache": False}, True),
    "disabled": ({**VECTOR, **EMBEDDING, "cacheKeyStrategy": "disabled"}, False),
    "no vector": ({**EMBEDDING, **REDIS}, False),
}


@pytest.mark.parametrize(("values", "enabled"), ENABLED.values(), ids=ENABLED)
def test_search_is_on_where_a_vector_store_is_named(tmp_path: Path, values: Values, enabled: bool) -> None:
    """As the plugin's README has it, and as the plugin itself, which is off beside a store, has not."""
    semantic, _ = read(tmp_path, values)
    assert semantic is not None
    assert enabled == semantic.enabled


def test_no_settings_are_none(tmp_path: Path) -> None:
    """Redis alone, and services without a type."""
    assert (None, []) == read(tmp_path, REDIS)
    assert (None, []) == read(tmp_path, {**REDIS, "vector": {"serviceName": "v.dns"}, "embedding": {"model": "m"}})


def test_half_of_the_settings_is_said_to_be_half(tmp_path: Path) -> None:
    """Neither half finds anything alone."""
    _, said = read(tmp_path, {**REDIS, **VECTOR})
    assert [ONLY_CHECKED, "vector: finds nothing without vectors of questions; give `embedding`"] == said
    _, said = read(tmp_path, {**REDIS, **EMBEDDING})
    checked = "embedding: is checked and nothing more: semantic search is not part of this version"
    assert [checked, "embedding: has nothing to search in; give `vector`"] == said


def test_a_service_that_cannot_be_found_is_said(tmp_path: Path) -> None:
    """It is no fault before it is needed."""
    index, said = index_of(tmp_path, {"type": "chroma", "serviceName": "v.static", "threshold": 0.1})
    assert Endpoint("v.static", "", None, 10_000) == index.endpoint
    assert [
        (
            'vector.serviceName: "v.static" is known to the gateway alone; say where it is: `--host v.static=HOST:PORT`, or '
            "AICACHE_HOSTS"
        )
    ] == said
    index, said = index_of(tmp_path, {"type": "chroma", "serviceName": "v.static", "threshold": 0.1}, "v.static=h:1")
    assert (TcpAddress("h", 1), []) == (index.endpoint.address, said)


DASH: Values = {
    "Dash": {
        "dashScopeKey": "s",
        "dashScopeServiceName": "qwen",
        "dashVectorCollection": "questions",
        "dashVectorEnd": "https://v.test/",
        "dashVectorKey": "v",
        "dashVectorServiceName": "DashVector.dns",
        "sessionID": "1",
    }
}


def test_the_demos_block_is_dashscope_and_dashvector(tmp_path: Path) -> None:
    """A neighbour below 0.1 counts, and its answer stands in Redis under its question."""
    semantic, said = read(tmp_path, {**DASH, **REDIS})
    scope = at("dashscope.aliyuncs.com", 443, service="qwen")
    vector = at("v.test", 443, service="DashVector.dns")
    expected = HigressSemantic(
        "default",
        enabled=True,
        embedder=HigressEmbedder("dashscope", scope, "text-embedding-v1", SecretStr("s")),
        index=HigressIndex("dashvector", vector, "questions", 1, 0.1, "lt", api_key=SecretStr("v")),
        answers="store",
    )
    assert expected == semantic
    assert ["Dash: is checked and nothing more: semantic search is not part of this version"] == said


def test_the_demos_block_gives_way(tmp_path: Path) -> None:
    """Beside `vector` and `embedding` it is not used."""
    semantic, said = read(tmp_path, {**DASH, **REDIS, **VECTOR, **EMBEDDING})
    assert semantic is not None
    assert "index" == semantic.answers
    assert "Dash: is not used beside `vector` and `embedding`; leave one of the two out" in said


def test_the_demos_services_may_be_told(tmp_path: Path) -> None:
    """Their names are services of the document as any other."""
    semantic, said = read(tmp_path, {**DASH, **REDIS}, "qwen=10.0.0.7:1", "DashVector.dns=10.0.0.7:2")
    assert semantic is not None
    assert semantic.embedder is not None
    assert semantic.index is not None
    assert TcpAddress("10.0.0.7", 1) == semantic.embedder.endpoint.address
    assert TcpAddress("10.0.0.7", 2) == semantic.index.endpoint.address
    assert 1 == len(said)
