"""Each field of an APISIX document: its default, what the plugin's schema refuses, and what is said of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from ai_cache_extproc.config.load import Loaded, load
from ai_cache_extproc.config.model import Labels, RedisStore, Rule
from ai_cache_extproc.errors import ConfigError, ConfigFaults

Values = dict[str, Any]

REDIS: Values = {"redis_host": "127.0.0.1", "redis_timeout": 50}
OPENAI: Values = {"openai": {"model": "text-embedding-3-small", "api_key": "k-1"}}
AZURE: Values = {"azure_openai": {"endpoint": "https://my.openai.azure.com/e?api-version=1", "api_key": "k-2"}}
SEMANTIC: Values = {"embedding": OPENAI, "vector_search": {"redis": {}}}
BOTH: Values = {"layers": ["exact", "semantic"]}


def read(folder: Path, values: Values, **environ: str) -> Loaded:
    """A document in a file, loaded."""
    path = folder / "ai-cache.yaml"
    path.write_text(yaml.safe_dump(REDIS | values))
    return load(path, environ=environ)


def rule_of(folder: Path, values: Values, **environ: str) -> Rule:
    """The only rule that the document comes to."""
    (rule,) = read(folder, values, **environ).config.rules
    return rule


def said(loaded: Loaded) -> list[str]:
    """What is said of a document, without file, line and fix."""
    return [f"{note.path}: {note.text}" if note.path else note.text for note in loaded.notes]


def semantic(**changes: Any) -> Values:
    """A document with both layers."""
    return BOTH | {"semantic": SEMANTIC | changes}


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"policy": "redis", "layers": ["exact"], "cache_headers": True, "fail_mode": "skip"},
        {"exact": {}, "cache_key": {}, "max_cache_body_size": 1048576},
        {"exact": {"ttl": 3600}, "cache_key": {"include_vars": [], "include_consumer": False}},
        {"redis_port": 6379, "redis_database": 0, "redis_ssl": False, "redis_ssl_verify": False, "redis_password": ""},
    ],
    ids=["nothing", "words", "empty parts", "parts", "redis"],
)
def test_defaults_may_be_written_out(tmp_path: Path, values: Values) -> None:
    """Absent, empty or spelled out: the same rule and the same store."""
    plain, spelled = read(tmp_path, {}), read(tmp_path, values)
    assert plain.config == spelled.config


REFUSED: dict[str, tuple[Values, str, str]] = {
    "no redis_host": ({"redis_host": None}, "redis_host", "must be text"),
    "redis_host of one letter": ({"redis_host": "r"}, "redis_host", "must not be empty"),
    "redis_host with a scheme": ({"redis_host": "redis://r"}, "redis_host", "is no host name"),
    "redis_port 0": ({"redis_port": 0}, "redis_port", "must be at least 1"),
    "redis_port as text": ({"redis_port": "6379"}, "redis_port", "must be a whole number"),
    "redis_port too large": ({"redis_port": 65536}, "redis_port", "must be at most 65535"),
    "redis_database below 0": ({"redis_database": -1}, "redis_database", "must be at least 0"),
    "redis_timeout 0": ({"redis_timeout": 0}, "redis_timeout", "must be at least 1"),
    "redis_username empty": ({"redis_username": ""}, "redis_username", "must not be empty"),
    "redis_password a number": ({"redis_password": 7}, "redis_password", "must be text"),
    "redis_ssl as text": ({"redis_ssl": "yes"}, "redis_ssl", "must be true or false"),
    "redis_keepalive_timeout": ({"redis_keepalive_timeout": 999}, "redis_keepalive_timeout", "must be at least 1000"),
    "redis_keepalive_pool": ({"redis_keepalive_pool": 0}, "redis_keepalive_pool", "must be at least 1"),
    "policy redis-cluster": ({"policy": "redis-cluster"}, "policy", "must be 'redis'"),
    "exact.ttl 0": ({"exact": {"ttl": 0}}, "exact.ttl", "must be at least 1"),
    "exact.ttl a fraction": ({"exact": {"ttl": 1.5}}, "exact.ttl", "must be a whole number"),
    "max_cache_body_size below 0": ({"max_cache_body_size": -1}, "max_cache_body_size", "must be at least 0"),
    "cache_headers as text": ({"cache_headers": "off"}, "cache_headers", "must be true or false"),
    "fail_mode": ({"fail_mode": "open"}, "fail_mode", "must be 'skip', 'warn' or 'error'"),
    "bypass_on empty": ({"bypass_on": []}, "bypass_on", "needs at least 1"),
    "bypass_on without header": ({"bypass_on": [{"equals": "1"}]}, "bypass_on[0].header", "is missing"),
    "bypass_on without equals": ({"bypass_on": [{"header": "a"}]}, "bypass_on[0].equals", "is missing"),
    "bypass_on with an empty header": ({"bypass_on": [{"header": "", "equals": ""}]}, "bypass_on[0].header", '"" is'),
    "include_vars with a number": ({"cache_key": {"include_vars": [1]}}, "cache_key.include_vars[0]", "must be text"),
    "layers empty": ({"layers": []}, "layers", "needs at least 1"),
    "layers without exact": ({"layers": ["semantic"], "semantic": SEMANTIC}, "layers", 'must contain "exact"'),
    "layers twice": ({"layers": ["exact", "exact"]}, "layers", 'names "exact" twice'),
    "layers unknown": ({"layers": ["exact", "fuzzy"]}, "layers[1]", "must be 'exact' or 'semantic'"),
    "layers without semantic": (BOTH, "semantic", 'is missing, and `layers` names "semantic"'),
    "threshold above 1": (semantic(similarity_threshold=1.5), "semantic.similarity_threshold", "must be at most 1"),
    "threshold below 0": (semantic(similarity_threshold=-0.1), "semantic.similarity_threshold", "must be at least 0"),
    "threshold as text": (semantic(similarity_threshold="1"), "semantic.similarity_threshold", "must be a number"),
    "top_k 0": (semantic(top_k=0), "semantic.top_k", "must be at least 1"),
    "distance_metric": (semantic(distance_metric="euclidean"), "semantic.distance_metric", "must be 'cosine'"),
    "semantic.ttl 0": (semantic(ttl=0), "semantic.ttl", "must be at least 1"),
    "message_countback 0": (
        semantic(match={"message_countback": 0}),
        "semantic.match.message_countback",
        "must be at least 1",
    ),
    "embedding of nobody": (semantic(embedding={}), "semantic.embedding", "must have exactly one of"),
    "embedding of two": (semantic(embedding=OPENAI | AZURE), "semantic.embedding", "must have exactly one of"),
    "openai without a model": (
        semantic(embedding={"openai": {"api_key": "k"}}),
        "semantic.embedding.openai.model",
        "is missing",
    ),
    "openai without a key": (
        semantic(embedding={"openai": {"model": "m"}}),
        "semantic.embedding.openai.api_key",
        "is missing; give it here, or in AICACHE_APISIX_EMBEDDING_API_KEY",
    ),
    "azure without an endpoint": (
        semantic(embedding={"azure_openai": {"api_key": "k"}}),
        "semantic.embedding.azure_openai.endpoint",
        "is missing",
    ),
    "endpoint that is none": (
        semantic(embedding={"openai": OPENAI["openai"] | {"endpoint": "embed.test"}}),
        "semantic.embedding.openai.endpoint",
        '"embed.test" is no address',
    ),
    "endpoint with a login": (
        semantic(embedding={"openai": OPENAI["openai"] | {"endpoint": "https://u:p@embed.test"}}),
        "semantic.embedding.openai.endpoint",
        '"https://u:p@embed.test" holds a login',
    ),
    "endpoint with a bad port": (
        semantic(embedding={"openai": OPENAI["openai"] | {"endpoint": "https://embed.test:x"}}),
        "semantic.embedding.openai.endpoint",
        '"https://embed.test:x" is no address',
    ),
    "dimensions 0": (
        semantic(embedding={"openai": OPENAI["openai"] | {"dimensions": 0}}),
        "semantic.embedding.openai.dimensions",
        "must be at least 1",
    ),
    "no vector_search": (BOTH | {"semantic": {"embedding": OPENAI}}, "semantic.vector_search", "is missing"),
    "vector_search of nobody": (semantic(vector_search={}), "semantic.vector_search.redis", "is missing"),
    "unknown key": ({"redis_hots": "r"}, "redis_hots", 'unknown key; did you mean "redis_host"?'),
    "unknown key inside": ({"cache_key": {"include_var": []}}, "cache_key.include_var", "unknown key; did you mean"),
}


@pytest.mark.parametrize(("values", "path", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_the_schema_refuses_is_refused(tmp_path: Path, values: Values, path: str, reason: str) -> None:
    """With the place, the value where it is no secret, and the way out."""
    with pytest.raises((ConfigError, ConfigFaults)) as raised:
        read(tmp_path, values)
    assert isinstance(raised.value, ConfigError | ConfigFaults)
    (fault,) = raised.value.faults
    assert path == fault.path
    assert fault.reason.startswith(reason)


def test_redis_must_be_named(tmp_path: Path) -> None:
    """The one field without a default."""
    path = tmp_path / "ai-cache.yaml"
    path.write_text("exact: {ttl: 60}\n")
    with pytest.raises(ConfigError, match="redis_host: is missing"):
        load(path, environ={})


def test_a_secret_in_the_wrong_shape_is_not_shown(tmp_path: Path) -> None:
    """A refused value may be a password."""
    with pytest.raises(ConfigError) as raised:
        read(tmp_path, {"redis_password": ["hunter2-canary"]})
    assert "hunter2-canary" not in str(raised.value)


# What fields come to.


def test_a_size_of_zero_keeps_nothing(tmp_path: Path) -> None:
    """`max_cache_body_size: 0` is a limit like any other."""
    assert 0 == rule_of(tmp_path, {"max_cache_body_size": 0}).answer_bytes_max


def test_headers_can_be_turned_off(tmp_path: Path) -> None:
    """`cache_headers: false` leaves out all of ours and the standard's; without it they have the plugin's names."""
    off = read(tmp_path, {"cache_headers": False}).config.labels
    assert [None] * 5 == [off.status, off.age, off.similarity, off.key, off.reason]
    assert not off.standard_age
    assert not off.standard_cache_status
    on = read(tmp_path, {}).config.labels
    assert Labels() == on
    assert ("x-ai-cache-status", "x-ai-cache-age", "x-ai-cache-similarity", False) == (
        on.status,
        on.age,
        on.similarity,
        on.layer_words,
    )


@pytest.mark.parametrize("mode", ["skip", "warn", "error"])
def test_no_fail_mode_makes_a_request_fail(tmp_path: Path, mode: str) -> None:
    """`error` is treated as `warn`, and that is said."""
    loaded = read(tmp_path, {"fail_mode": mode})
    told = "fail_mode: `error` is treated as `warn`: a cache never makes a request fail"
    assert (mode == "error") == (told in said(loaded))
    assert loaded.config.rules[0].enabled


def test_a_long_life_is_a_day_under_keys_of_ours(tmp_path: Path) -> None:
    """An answer older than a day is not served, unless it stands under a key of the plugin."""
    week = {"exact": {"ttl": 604_800}}
    loaded = read(tmp_path, week)
    assert 86_400 == loaded.config.rules[0].ttl_s
    assert "exact.ttl: 604800 s is more than answers live here; 86400 s hold" in said(loaded)
    assert 604_800 == rule_of(tmp_path, week | {"apisix": {"route_id": "1"}}).ttl_s


@pytest.mark.parametrize(
    ("values", "note"),
    [
        ({"redis_keepalive_pool": 5}, "redis_keepalive_pool: is not needed: one connection carries all requests"),
        ({"redis_keepalive_timeout": 2000}, "redis_keepalive_timeout: is not needed: one connection carries"),
        ({"redis_timeout": 200}, "redis_timeout: 200 ms is longer than a lookup may take; 50 ms hold"),
        ({"redis_ssl": True}, "redis_ssl_verify: false (the plugin's default) takes any certificate"),
        ({"redis_ssl": True, "redis_ssl_verify": False}, "redis_ssl_verify: false takes any certificate"),
        ({"redis_ssl_verify": True}, "redis_ssl_verify: verifies nothing without TLS"),
        ({"redis_username": "me"}, "redis_username: is not used without a password"),
    ],
    ids=["pool", "keepalive", "timeout", "verify default", "verify false", "verify alone", "username"],
)
def test_what_holds_otherwise_than_it_reads_is_said(tmp_path: Path, values: Values, note: str) -> None:
    """In `check`, at start and on top of what `convert` prints."""
    assert any(line.startswith(note) for line in said(read(tmp_path, values)))


def test_tls_without_verification_is_what_the_document_says(tmp_path: Path) -> None:
    """`redis_ssl` alone takes any certificate, as there."""
    store = read(tmp_path, {"redis_ssl": True}).config.store
    assert isinstance(store, RedisStore)
    assert (("rediss://127.0.0.1:6379",), False) == (store.url, store.tls.verify)
