"""What a Higress document comes to for matching by meaning: vendors, addresses, thresholds, and when it is on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from ai_cache_extproc.config.load import Loaded, load
from ai_cache_extproc.config.model import Config
from ai_cache_extproc.errors import ConfigError
from tests.support.sections import clear

# Parsed YAML: what a key holds depends on the other keys.
Values = dict[str, Any]

KEY = {"apiKey": "k"}
REDIS: Values = {"redis": {"serviceName": "my-redis.dns", "timeout": 9}}
EMBEDDING: Values = {"embedding": {"type": "openai", "serviceName": "o.dns", "timeout": 2000, **KEY}}
VECTOR: Values = {"vector": {"type": "qdrant", "serviceName": "q.dns", "collectionID": "questions", "timeout": 2000,
                             "threshold": 0.9, "thresholdRelation": "gt"}}  # fmt: skip
GUARDED = (
    "finds neighbours, of which the guards (`strict`) let those through that ask the same; `aicache convert` prints a "
    "document of ours, where `semantic: {guards: balanced}` loosens them"
)


def read(folder: Path, values: Values, *hosts: str) -> Loaded:
    """A document in a file, loaded."""
    path = folder / "ai-cache.yaml"
    path.write_text(yaml.safe_dump(values))
    return load(path, environ={}, flags={"hosts": hosts})


def said(loaded: Loaded) -> list[str]:
    """What is said of a document without file and line, but for what is always said of one that searches."""
    lines = [f"{note.path}: {note.text}" + (f"; {note.fix}" if note.fix else "") for note in loaded.notes]
    return [line for line in lines if not line.endswith(GUARDED)]


def embedder_of(folder: Path, embedding: Values, *hosts: str) -> Values:
    """The embedder of a document with this `embedding`."""
    values = {"embedding": {"serviceName": "e.dns", "timeout": 5, **embedding}, **VECTOR, **REDIS}
    return clear(read(folder, values, *hosts).config.embedder)


def index_of(folder: Path, vector: Values, *hosts: str) -> tuple[Values, list[str]]:
    """The index of a document with this `vector`, and what is said of it."""
    full = {"serviceName": "v.dns", "collectionID": "questions", "timeout": 5, **vector}
    loaded = read(folder, {"vector": full, **EMBEDDING, **REDIS}, *hosts)
    return clear(loaded.config.index), said(loaded)


EMBEDDERS: dict[str, tuple[Values, Values]] = {
    "dashscope": (KEY | {"model": "text-embedding-v3"}, {"type": "dashscope", "url": "https://dashscope.aliyuncs.com", "model": "text-embedding-v3", "api_key": "k"}),
    "openai": (KEY, {"type": "openai", "url": "https://api.openai.com", "path": "/v1/embeddings", "model": "text-embedding-3-small", "api_key": "k"}),
    "azure": (
        KEY | {"apiVersion": "2024-10-21", "serviceHost": "x.openai.azure.com"},
        {"type": "azure_openai", "url": "https://x.openai.azure.com", "model": "text-embedding-ada-002", "api_version": "2024-10-21", "api_key": "k"},
    ),
    "cohere": (KEY, {"type": "cohere", "url": "https://api.cohere.com", "model": "embed-english-v2.0", "api_key": "k"}),
    "ollama": ({}, {"type": "ollama", "url": "http://localhost:11434", "model": "llama3.2"}),
    "huggingface": (
        KEY, {"type": "huggingface", "url": "https://router.huggingface.co/hf-inference", "model": "sentence-transformers/all-MiniLM-L6-v2", "api_key": "k"},
    ),
    "textin": (
        {"textinAppId": "a", "textinSecretCode": "s", "textinMatryoshkaDim": 1024},
        {"type": "textin", "url": "https://api.textin.com", "app_id": "a", "app_secret": "s", "dimensions": 1024},
    ),
    "xfyun": (
        KEY | {"appId": "a", "apiSecret": "s"},
        {"type": "xfyun", "url": "https://emb-cn-huabei-1.xf-yun.com", "app_id": "a", "api_key": "k", "api_secret": "s"},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("given", "expected"), EMBEDDERS.values(), ids=EMBEDDERS)
def test_each_embedding_service_is_one_of_ours(
    tmp_path: Path, request: pytest.FixtureRequest, given: Values, expected: Values
) -> None:
    """All eight, with the host, the path and the model of the plugin where the document names none."""
    kind = request.node.callspec.id.partition("-")[0]
    assert expected | {"timeout_ms": 5} == embedder_of(tmp_path, {"type": kind, **given})


def test_an_embedding_service_may_name_everything(tmp_path: Path) -> None:
    """What is given wins; 0 means the default. Port 443 speaks TLS, any other does not."""
    given = {"type": "openai", "apiKey": "k", "serviceHost": "llm.test", "servicePort": 8443, "model": "m"}
    assert ("http://llm.test:8443", "m") == tuple(embedder_of(tmp_path, given)[name] for name in ("url", "model"))
    zero = {"type": "cohere", "apiKey": "k", "servicePort": 0, "model": ""}
    assert "https://api.cohere.com" == embedder_of(tmp_path, zero)["url"]


def test_a_told_service_is_asked_where_it_was_told(tmp_path: Path) -> None:
    """Whatever its own host is."""
    dashscope = {"type": "dashscope", "apiKey": "k", "serviceHost": "far.test"}
    assert "http://10.0.0.7:9" == embedder_of(tmp_path, dashscope, "e.dns=10.0.0.7:9")["url"]
    assert "https://[::1]" == embedder_of(tmp_path, dashscope, "e.dns=[::1]:443")["url"]


def test_the_host_that_hugging_face_gave_up_is_not_asked(tmp_path: Path) -> None:
    """Its successor is; a host of one's own has the path that the plugin asks for."""
    values = {"embedding": {"type": "huggingface", "serviceName": "e.dns", "timeout": 5, **KEY}, **VECTOR, **REDIS}
    values["embedding"]["serviceHost"] = "api-inference.huggingface.co"
    loaded = read(tmp_path, values)
    assert ["embedding.serviceHost: is no more; router.huggingface.co is asked"] == said(loaded)
    assert "https://router.huggingface.co/hf-inference" == clear(loaded.config.embedder)["url"]
    own = embedder_of(tmp_path, {"type": "huggingface", "serviceHost": "tei.test", **KEY})
    assert ("https://tei.test", "/pipeline/feature-extraction/{model}") == (own["url"], own["path"])


SIMILAR = {"threshold": 0.9, "thresholdRelation": "gt"}
INDEXES: dict[str, tuple[Values, Values]] = {
    "dashvector": (KEY | {"serviceHost": "v.test", "threshold": 0.1}, {"url": "https://v.test", "api_key": "k"}),
    "chroma": ({"threshold": 0.1}, {"url": "https://v"}),
    "elasticsearch": (SIMILAR | {"serviceHost": "es.test", "servicePort": 9200, "esUsername": "u", "esPassword": "p"}, {"url": "http://es.test:9200", "username": "u", "password": "p"}),
    "weaviate": (KEY | {"threshold": 0.1}, {"url": "https://v", "api_key": "k"}),
    "pinecone": (SIMILAR | KEY | {"serviceHost": "p.test", "collectionID": ""}, {"url": "https://p.test", "api_key": "k", "collection": "__default__"}),
    "qdrant": (SIMILAR, {"url": "https://v"}),
    "milvus": (SIMILAR | {"servicePort": 19530}, {"url": "http://v:19530"}),
}  # fmt: skip


@pytest.mark.parametrize(("given", "expected"), INDEXES.values(), ids=INDEXES)
def test_each_vector_store_is_one_of_ours(
    tmp_path: Path, request: pytest.FixtureRequest, given: Values, expected: Values
) -> None:
    """All seven, in the plugin's layout, in the collection of that very name; port 443 whatever the kind."""
    kind = request.node.callspec.id.partition("-")[0]
    common = {"type": kind, "collection": "questions", "layout": "higress", "timeout_ms": 5}
    assert common | expected == index_of(tmp_path, {"type": kind, **given})[0]


def test_a_key_goes_before_a_login(tmp_path: Path) -> None:
    """As in the plugin, where both are given."""
    given = {"type": "elasticsearch", "esUsername": "u", "esPassword": "p", **KEY, **SIMILAR}
    assert not {"username", "password"} & index_of(tmp_path, given)[0].keys()


def test_the_older_name_of_the_host_is_taken(tmp_path: Path) -> None:
    """`serviceDomain`, as one of the plugin's two READMEs still writes it."""
    given = {"type": "dashvector", "apiKey": "k", "threshold": 0.1, "serviceDomain": "v.test"}
    index, notes = index_of(tmp_path, given)
    assert ("https://v.test", []) == (index["url"], notes)
    index, notes = index_of(tmp_path, {**given, "serviceHost": "w.test"})
    assert ("https://w.test", ["vector.serviceDomain: is not used beside `serviceHost`"]) == (index["url"], notes)


DISTANCE = "write `thresholdRelation: lt` and, as in `threshold: 0.1`, a distance"
SIMILARITY = "write `thresholdRelation: gt` and, as in `threshold: 0.9`, a similarity"
OWN = "the embedder's own threshold is used"
SQUARED = (
    "vector.threshold: is read as a squared Euclidean distance, which Chroma's collections measure unless they were made "
    "otherwise"
)
ANY = f"vector.threshold: `lt 1000` (the plugin's default) takes any question for a neighbour; {OWN}; {DISTANCE}"
THRESHOLDS: dict[str, tuple[str, Values, float | None, list[str]]] = {
    "dashvector": ("dashvector", {"threshold": 0.12}, 0.88, []),
    "weaviate": ("weaviate", {"threshold": 0.12, "thresholdRelation": "lte"}, 0.88, []),
    "chroma": ("chroma", {"threshold": 0.2}, 0.9, [SQUARED]),
    "qdrant": ("qdrant", {"threshold": 0.9, "thresholdRelation": "gt"}, 0.9, []),
    "milvus": ("milvus", {"threshold": 1, "thresholdRelation": "gte"}, 1, []),
    "pinecone": ("pinecone", {"threshold": 0.93, "thresholdRelation": "gte"}, 0.93, []),
    "elasticsearch": ("elasticsearch", {"threshold": 0.95, "thresholdRelation": "gte"}, 0.9, []),
    "none": ("chroma", {}, None, [ANY]),
    "zero": ("chroma", {"threshold": 0}, None, [ANY]),
    "a distance beyond all": (
        "dashvector",
        {"threshold": 1},
        None,
        [f"vector.threshold: `lt 1` takes any question for a neighbour; {OWN}; {DISTANCE}"],
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
    "a score of strangers": (
        "elasticsearch",
        {"threshold": 0.5, "thresholdRelation": "gte"},
        None,
        [f"vector.threshold: `gte 0.5` takes any question for a neighbour; {OWN}; {SIMILARITY}"],
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
def test_a_threshold_becomes_a_cosine(
    tmp_path: Path, kind: str, given: Values, threshold: float | None, expected: list[str]
) -> None:
    """By the score of its store; one that tells nothing apart is named, with the lines to write, and not used."""
    full = {"type": kind, "serviceName": "v.dns", "serviceHost": "v.test", "collectionID": "c", "timeout": 5, **KEY}
    loaded = read(tmp_path, {"vector": full | given, **EMBEDDING, **REDIS})
    assert (threshold, expected) == (loaded.config.rules[0].semantic.similarity_threshold, said(loaded))


@pytest.mark.parametrize(
    ("embedding", "named"),
    [
        ({"type": "dashscope", **KEY}, '"text-embedding-v2"'),
        ({"type": "textin", "textinAppId": "a", "textinSecretCode": "s", "textinMatryoshkaDim": 64}, "the model of textin"),
    ],
    ids=["an old model", "no model"],
)  # fmt: skip
def test_no_idea_of_a_threshold_is_refused(tmp_path: Path, embedding: Values, named: str) -> None:
    """Neither the document nor anybody else says how close is close enough."""
    values = {"embedding": {"serviceName": "e.dns", **embedding}, **REDIS}
    with pytest.raises(ConfigError) as raised:
        read(tmp_path, values | {"vector": {"type": "chroma", "serviceName": "c.dns", "collectionID": "c"}})
    assert "vector.threshold" == raised.value.path
    reason = "`lt 1000` (the plugin's default) takes any question for a neighbour, and nobody has an idea of one for "
    assert f"{reason}{named}; {DISTANCE}" == raised.value.reason


def test_a_neighbour_has_company(tmp_path: Path) -> None:
    """At least four are looked at, since the guards may refuse the first; at most what an index gives."""
    for given, expected in ((0, 4), (1, 4), (9, 9), (500, 64)):
        vector = VECTOR["vector"] | {"topK": given}
        assert expected == read(tmp_path, {"vector": vector, **EMBEDDING, **REDIS}).config.rules[0].semantic.top_k


def test_a_wait_that_envoy_cuts_off_is_cut_before(tmp_path: Path) -> None:
    """The plugin's 10 seconds and more, with a note; what is shorter holds."""
    values: Values = {name: dict(part[name]) for name, part in (("vector", VECTOR), ("embedding", EMBEDDING))}
    values["embedding"]["timeout"], values["vector"]["timeout"] = 3000, 0
    loaded = read(tmp_path, values | REDIS)
    assert [
        "embedding.timeout: 3000 ms is longer than Envoy waits; 2000 ms hold, then the request goes upstream",
        "vector.timeout: 10000 ms (the plugin's default) is longer than Envoy waits; 2000 ms hold, then the request goes upstream",
    ] == said(loaded)  # fmt: skip
    assert 4000 == loaded.config.semantic_deadline_ms(loaded.config.rules[0])


ENABLED = {
    "vector and embedding": ({**VECTOR, **EMBEDDING}, True),
    "with a store": ({**VECTOR, **EMBEDDING, **REDIS}, True),
    "said so": ({**VECTOR, **EMBEDDING, **REDIS, "enableSemanticCache": True}, True),
    "said off": ({**VECTOR, **EMBEDDING, **REDIS, "enableSemanticCache": False}, False),
    "said off without a store": ({**VECTOR, **EMBEDDING, "enableSemanticCache": False}, True),
    "disabled": ({**VECTOR, **EMBEDDING, "cacheKeyStrategy": "disabled"}, False),
    "no vector": ({**EMBEDDING, **REDIS}, False),
    "no embedding": ({**VECTOR, **REDIS}, False),
}


@pytest.mark.parametrize(("values", "enabled"), ENABLED.values(), ids=ENABLED)
def test_search_is_on_where_a_vector_store_is_named(tmp_path: Path, values: Values, enabled: bool) -> None:
    """As the plugin's README has it, and as the plugin itself, which is off beside a store, has not."""
    config = read(tmp_path, values).config
    assert (enabled, enabled) == (config.rules[0].is_semantic, config.embedder is not None)


def test_what_finds_nothing_is_said(tmp_path: Path) -> None:
    """Half of the settings, or none, or those that are turned off."""
    told = {
        "vector: finds nothing without vectors of questions; give `embedding`": {**REDIS, **VECTOR},
        "embedding: has nothing to search in; give `vector`": {**REDIS, **EMBEDDING},
        "vector: is not searched: `enableSemanticCache` is false": {**REDIS, **VECTOR, **EMBEDDING, "enableSemanticCache": False},
        "enableSemanticCache: has nothing to search in; give `vector` and `embedding`": {**REDIS, "enableSemanticCache": True},
        "partition: changes nothing where nothing is searched": {**REDIS, "partition": "none"},
    }  # fmt: skip
    for line, values in told.items():
        assert [line] == said(read(tmp_path, values))
    assert [] == said(read(tmp_path, {**REDIS, "vector": {"serviceName": "v.dns"}, "embedding": {"model": "m"}}))


def test_a_service_that_cannot_be_found_is_refused(tmp_path: Path) -> None:
    """With the flag that finds it; a collection that no store can have is, too."""
    with pytest.raises(ConfigError, match=r'"v.static" is known to the gateway alone') as raised:
        index_of(tmp_path, {"type": "qdrant", "serviceName": "v.static", **SIMILAR})
    assert "vector.serviceName" == raised.value.path
    assert "http://h:1" == index_of(tmp_path, {"type": "qdrant", "serviceName": "v.static", **SIMILAR}, "v.static=h:1")[0]["url"]  # fmt: skip
    with pytest.raises(ConfigError, match=r'"v\?w" is no host name; .*`--host v\?w=HOST:PORT`'):
        index_of(tmp_path, {"type": "qdrant", "serviceName": "v\nw", **SIMILAR})
    with pytest.raises(ConfigError, match="name another collection") as raised:
        index_of(tmp_path, {"type": "qdrant", "collectionID": "a/b", **SIMILAR})
    assert "vector.collectionID" == raised.value.path


def resource(*configs: Values, **beside: Any) -> Values:
    """A resource with a configuration for each of some domains."""
    rules = [{"domain": [f"{number}.test"], "config": config} for number, config in enumerate(configs)]
    return {"kind": "WasmPlugin", "spec": {"matchRules": rules}, **beside}


def test_two_rules_share_one_embedder_and_one_index(tmp_path: Path) -> None:
    """Each with its own threshold; the shorter wait holds. A second service is refused, with the way out."""
    both = {**EMBEDDING, **VECTOR, **REDIS}
    other = both | {"vector": VECTOR["vector"] | {"threshold": 0.95, "timeout": 7}}
    config = read(tmp_path, resource(both, other)).config
    assert [0.9, 0.95] == [rule.semantic.similarity_threshold for rule in config.rules]
    assert 7 == clear(config.index)["timeout_ms"]
    for name, changes in (("embedding", {"model": "text-embedding-3-large"}), ("vector", {"collectionID": "others"})):
        with pytest.raises(ConfigError, match="run a second sidecar for this one") as raised:
            read(tmp_path, resource(both, both | {name: both[name] | changes}))
        assert f"spec.matchRules[1].config.{name}" == raised.value.path


def partitioning(config: Config) -> tuple[bool, bool]:
    """What the index and the rule say."""
    values = config.rules[0].higress
    assert values is not None
    return clear(config.index).get("partitioned", True), values.partitioned


def test_partition_none_is_the_plugin_s_own_search(tmp_path: Path) -> None:
    """Beside the document or beside `spec`; never together with `scope: credential`."""
    both = {**EMBEDDING, **VECTOR, **REDIS}
    assert (True, True) == partitioning(read(tmp_path, both).config)
    assert (False, False) == partitioning(read(tmp_path, both | {"partition": "none"}).config)
    assert (False, False) == partitioning(read(tmp_path, resource(both, partition="none")).config)
    with pytest.raises(ConfigError, match="mixes callers") as raised:
        read(tmp_path, both | {"partition": "none", "scope": "credential"})
    assert "partition" == raised.value.path
    with pytest.raises(ConfigError, match="run a second sidecar"):
        read(tmp_path, resource(both, both | {"partition": "none"}))


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
    """A neighbour below 0.1 counts."""
    loaded = read(tmp_path, {**DASH, **REDIS})
    assert {
        "type": "dashscope",
        "url": "https://dashscope.aliyuncs.com",
        "model": "text-embedding-v1",
        "api_key": "s",
        "timeout_ms": 2000,
    } == clear(loaded.config.embedder)
    assert {
        "type": "dashvector",
        "url": "https://v.test",
        "collection": "questions",
        "layout": "higress",
        "api_key": "v",
        "timeout_ms": 2000,
    } == clear(loaded.config.index)
    assert (0.9, []) == (loaded.config.rules[0].semantic.similarity_threshold, said(loaded))


def test_the_demos_block_gives_way(tmp_path: Path) -> None:
    """Beside `vector` and `embedding` it is not used; nor where the rule is off."""
    loaded = read(tmp_path, {**DASH, **REDIS, **VECTOR, **EMBEDDING})
    assert "openai" == clear(loaded.config.embedder)["type"]
    assert ["Dash: is not used beside `vector` and `embedding`; leave one of the two out"] == said(loaded)
    assert read(tmp_path, {**DASH, **REDIS, "cacheKeyStrategy": "disabled"}).config.embedder is None


def test_the_demos_services_may_be_told(tmp_path: Path) -> None:
    """Their names are services of the document as any other."""
    loaded = read(tmp_path, {**DASH, **REDIS}, "qwen=10.0.0.7:1", "DashVector.dns=10.0.0.7:2")
    found = clear(loaded.config.embedder)["url"], clear(loaded.config.index)["url"]
    assert ("http://10.0.0.7:1", "http://10.0.0.7:2") == found
    assert [] == said(loaded)
