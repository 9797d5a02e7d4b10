"""The semantic layer of an APISIX document, and the secrets of all its parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from ai_cache_extproc.config.load import Loaded, load
from ai_cache_extproc.config.model import RedisStore
from ai_cache_extproc.errors import ConfigError
from tests.support.sections import clear

Values = dict[str, Any]

REDIS: Values = {"redis_host": "127.0.0.1", "redis_timeout": 50}
OPENAI: Values = {"openai": {"model": "text-embedding-3-small", "api_key": "k-1"}}
AZURE: Values = {
    "azure_openai": {
        "endpoint": "https://my.openai.azure.com/openai/deployments/my%20e/embeddings?api-version=2024-10-21",
        "api_key": "k-2",
    }
}
SEMANTIC: Values = {"embedding": OPENAI, "vector_search": {"redis": {}}}
BOTH: Values = {"layers": ["exact", "semantic"]}


def read(folder: Path, values: Values, **environ: str) -> Loaded:
    """A document in a file, loaded."""
    path = folder / "ai-cache.yaml"
    path.write_text(yaml.safe_dump(REDIS | values))
    return load(path, environ=environ)


def said(loaded: Loaded) -> list[str]:
    """What is said of a document, without file, line and fix."""
    return [f"{note.path}: {note.text}" if note.path else note.text for note in loaded.notes]


def semantic(**changes: Any) -> Values:
    """A document with both layers."""
    return BOTH | {"semantic": SEMANTIC | changes}


# The semantic layer.


def test_a_semantic_layer_has_its_defaults(tmp_path: Path) -> None:
    """Everything that the document leaves out, as the plugin completes it; waits as long as Envoy does."""
    config = read(tmp_path, semantic()).config
    assert {
        "type": "openai",
        "url": "https://api.openai.com",
        "path": "/v1/embeddings",
        "model": "text-embedding-3-small",
        "api_key": "k-1",
        "timeout_ms": 2000,
    } == clear(config.embedder)
    found = config.rules[0].semantic
    assert (0.95, 4, 1, ("user", "developer"), 86_400, ("openai_chat",)) == (
        found.similarity_threshold,
        found.top_k,
        found.message_countback,
        found.roles,
        found.ttl_s,
        found.dialects,
    )
    index = clear(config.index)
    assert ("redisearch", "native", "ai-cache", ("redis://127.0.0.1:6379",), 50) == tuple(
        index[name] for name in ("type", "layout", "collection", "url", "timeout_ms")
    )
    assert ("exact", "semantic") == config.rules[0].layers


def test_a_semantic_layer_may_say_everything() -> None:
    """Each word of a whole document."""
    config = load(Path(__file__).parent / "apisix_documents" / "semantic.yaml", environ={}).config
    found, embedder = config.rules[0].semantic, clear(config.embedder)
    assert (0.9, 4, 7200, 2, ("user", "developer", "assistant"), "questions") == (
        found.similarity_threshold,
        found.top_k,
        found.ttl_s,
        found.message_countback,
        found.roles,
        clear(config.index)["collection"],
    )
    assert ("https://embed.example.com", "/v1/embeddings", 64) == tuple(
        embedder[name] for name in ("url", "path", "dimensions")
    )


def test_points_are_the_plugin_s_where_the_keys_are(tmp_path: Path) -> None:
    """With `apisix` beside the document; without, points lead to entries of ours. The login is the store's."""
    values = semantic() | {"apisix": {"route_id": "1"}, "redis_password": "p", "redis_timeout": 5000}
    index = clear(read(tmp_path, values).config.index)
    assert ("apisix", "p", 1000) == (index["layout"], index["password"], index["timeout_ms"])


def test_azure_names_its_model_by_the_endpoint(tmp_path: Path) -> None:
    """There is no `model` beside it."""
    given = {"azure_openai": AZURE["azure_openai"] | {"ssl_verify": False, "timeout": 9, "dimensions": 8}}
    embedder = clear(read(tmp_path, semantic(embedding=given)).config.embedder)
    assert embedder.pop("tls").verify is False
    assert {
        "type": "azure_openai",
        "url": "https://my.openai.azure.com",
        "model": "my e",
        "api_version": "2024-10-21",
        "api_key": "k-2",
        "timeout_ms": 9,
        "dimensions": 8,
    } == embedder


@pytest.mark.parametrize(
    ("changes", "path", "reason"),
    [
        (
            {"embedding": {"azure_openai": {"endpoint": "https://my.test/v1/embeddings", "api_key": "k"}}},
            "semantic.embedding.azure_openai.endpoint",
            "is no deployment's address; write https://RESOURCE.openai.azure.com/openai/deployments/",
        ),
        (
            {"embedding": {"openai": OPENAI["openai"] | {"dimensions": 1}}},
            "semantic.embedding.openai.dimensions",
            "must be at least 2",
        ),
        ({"vector_search": {"redis": {"index": "a b"}}}, "semantic.vector_search.redis.index", "name another"),
    ],
    ids=["no deployment", "one dimension", "no index"],
)
def test_what_has_no_form_here_is_refused(tmp_path: Path, changes: Values, path: str, reason: str) -> None:
    """At its place, with the way out."""
    with pytest.raises(ConfigError, match=reason) as raised:
        read(tmp_path, semantic(**changes))
    assert path == raised.value.path


def test_what_holds_otherwise_is_said(tmp_path: Path) -> None:
    """Each at its place."""
    match = {"message_countback": 99, "ignore_tool_prompts": False, "ignore_system_prompts": False}
    loaded = read(tmp_path, semantic(match=match) | {"redis_database": 1})
    told = said(loaded)
    for start in (
        "semantic.embedding.openai.timeout: 5000 ms (the plugin's default) is longer than Envoy waits; 2000 ms hold",
        "semantic.match.message_countback: 99 is more than are compared here; 32 are",
        "semantic.match.ignore_tool_prompts: false changes nothing",
        "semantic.vector_search.redis: is in database 1, where Redis makes no index",
        "semantic: finds neighbours, of which the guards (`strict`) let those through that ask the same",
    ):
        assert any(line.startswith(start) for line in told), start
    found = loaded.config.rules[0].semantic
    assert (32, ("user", "developer", "system")) == (found.message_countback, found.roles)


def test_a_semantic_object_without_its_layer_is_inactive(tmp_path: Path) -> None:
    """It is accepted with a warning, as there."""
    loaded = read(tmp_path, {"semantic": SEMANTIC})
    assert 'semantic: is not used: `layers` does not name "semantic"' in said(loaded)
    assert (None, ("exact",)) == (loaded.config.embedder, loaded.config.rules[0].layers)


def test_an_endpoint_in_clear_is_warned_of(tmp_path: Path) -> None:
    """Questions and the key would be read on the way."""
    given = {"openai": OPENAI["openai"] | {"endpoint": "http://embed.test/v1"}}
    told = "semantic.embedding.openai.endpoint: sends questions and the key in clear"
    assert told in said(read(tmp_path, semantic(embedding=given)))


# Secrets.

FROM_ENVIRONMENT: dict[str, tuple[str, dict[str, str]]] = {
    "in the document": ("s3cret", {}),
    "by reference": ("$ENV://PASS", {"PASS": "s3cret"}),
    "by reference in lower case": ("$env://PASS", {"PASS": "s3cret"}),
    "by a member of a reference": ("$ENV://PASS/redis", {"PASS": '{"redis": "s3cret"}'}),
    "beside the document": ("", {"AICACHE_APISIX_REDIS_PASSWORD": "s3cret"}),
    "beside a reference": ("$secret://vault/1/redis/password", {"AICACHE_APISIX_REDIS_PASSWORD": "s3cret"}),
}


@pytest.mark.parametrize(("password", "environ"), FROM_ENVIRONMENT.values(), ids=FROM_ENVIRONMENT)
def test_a_password_may_come_from_anywhere(tmp_path: Path, password: str, environ: dict[str, str]) -> None:
    """From the document, from the variable that it names, or from ours, which wins."""
    store = read(tmp_path, {"redis_password": password, "redis_username": "me"}, **environ).config.store
    assert isinstance(store, RedisStore)
    assert store.password is not None
    assert ("s3cret", "me") == (store.password.get_secret_value(), store.username)


def test_a_password_file_is_read_at_every_connection(tmp_path: Path) -> None:
    """So that a rotated password is picked up; what the document says is not used beside it."""
    values = {"redis_password": "old"}
    store = read(tmp_path, values, AICACHE_APISIX_REDIS_PASSWORD_FILE="/run/secrets/redis").config.store
    assert isinstance(store, RedisStore)
    assert (Path("/run/secrets/redis"), None) == (store.password_file, store.password)


def test_an_embedding_key_may_come_from_a_file(tmp_path: Path) -> None:
    """Or from a variable, or by reference; blanks and line ends around it are no part of it."""
    given = semantic(embedding={"openai": {"model": "m"}})
    (tmp_path / "key").write_text("k-9\n")
    from_file = read(tmp_path, given, AICACHE_APISIX_EMBEDDING_API_KEY_FILE=str(tmp_path / "key"))
    from_variable = read(tmp_path, given, AICACHE_APISIX_EMBEDDING_API_KEY="k-9")
    referred = semantic(embedding={"openai": {"model": "m", "api_key": "$ENV://EMBED"}})
    keys = [
        clear(loaded.config.embedder)["api_key"]
        for loaded in (from_file, from_variable, read(tmp_path, referred, EMBED="k-9"))
    ]
    assert ["k-9"] * 3 == keys


@pytest.mark.parametrize(
    ("password", "environ", "reason"),
    [
        ("$ENV://PASS", {}, "redis_password: names the variable PASS, which is not set"),
        ("$ENV://PASS/a", {"PASS": "canary"}, "redis_password: names a member a that the variable PASS does not hold"),
        ("$ENV://PASS/a", {"PASS": '{"b": "canary"}'}, "redis_password: names a member a that the variable PASS"),
        ("$secret://vault/1/canary", {}, "redis_password: names a secret manager of APISIX; give the secret in"),
        (
            "",
            {"AICACHE_APISIX_REDIS_PASSWORD": "canary", "AICACHE_APISIX_REDIS_PASSWORD_FILE": "f"},
            "stands beside AICACHE_APISIX_REDIS_PASSWORD_FILE; leave one of them out",
        ),
        ("", {"AICACHE_APISIX_REDIS_PASWORD": "canary"}, "is no variable that is read; there are AICACHE_APISIX_"),
        ("", {"AICACHE_APISIX_SCOPE": "everyone"}, '"everyone" is no scope; say credential or document'),
    ],
    ids=["not set", "no JSON", "no member", "manager", "both", "misspelled", "scope"],
)
def test_a_secret_that_is_not_there_is_told_without_showing_others(
    tmp_path: Path, password: str, environ: dict[str, str], reason: str
) -> None:
    """Which variable, and what to do; no value of any."""
    with pytest.raises(ConfigError) as raised:
        read(tmp_path, {"redis_password": password}, **environ)
    assert reason in str(raised.value)
    assert "canary" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "cannot be read"), (b"\xff", "is not text"), (b" \n", "is empty")],
    ids=["missing", "bytes", "empty"],
)
def test_a_key_file_that_is_of_no_use_is_refused(tmp_path: Path, content: bytes | None, reason: str) -> None:
    """At start, with the name of the variable."""
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=reason) as raised:
        read(tmp_path, semantic(), AICACHE_APISIX_EMBEDDING_API_KEY_FILE=str(file))
    assert "AICACHE_APISIX_EMBEDDING_API_KEY_FILE" == raised.value.source


def test_a_bad_reference_in_a_key_is_told_at_its_place(tmp_path: Path) -> None:
    """As for the password."""
    given = semantic(embedding={"openai": {"model": "m", "api_key": "$ENV://NOWHERE"}})
    with pytest.raises(ConfigError, match="names the variable NOWHERE") as raised:
        read(tmp_path, given)
    assert "semantic.embedding.openai.api_key" == raised.value.path
