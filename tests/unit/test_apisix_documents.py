"""Documents of APISIX's ai-cache as people have them: the plugin alone, in a route, as the Admin API answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from ai_cache_extproc.config.load import Loaded, load
from ai_cache_extproc.config.model import IdentityPart, Match, RedisStore
from ai_cache_extproc.errors import ConfigError, ConfigFaults

FOLDER = Path(__file__).parent / "apisix_documents"
MINIMAL: dict[str, Any] = {"redis_host": "127.0.0.1", "redis_timeout": 50}


def read(folder: Path, values: object, **environ: str) -> Loaded:
    """A document in a file, loaded."""
    path = folder / "ai-cache.yaml"
    path.write_text(yaml.safe_dump(values))
    return load(path, environ=environ)


def said(loaded: Loaded) -> list[str]:
    """What is said of a document, without file and line."""
    return [f"{note.path}: {note.text}" for note in loaded.notes]


def test_the_whole_configuration_becomes_one_rule() -> None:
    """Every field of the exact layer has its place in a rule, in the store, or both."""
    loaded = load(FOLDER / "plugin.yaml", environ={"REDIS_PASSWORD": "s3cret"})
    (rule,) = loaded.config.rules
    store = loaded.config.store
    assert isinstance(store, RedisStore)
    assert ("apisix", "default", True, 600) == (loaded.dialect, rule.name, rule.enabled, rule.ttl_s)
    assert (0, 0, False, 65536) == (rule.ttl_jitter, rule.early_refresh, rule.replay.cross_mode, rule.answer_bytes_max)
    assert [("x-cache-bypass", "1")] == [(each.header, each.equals) for each in rule.bypass_on]
    assert (
        IdentityPart(header="x-consumer-username", required=False),
        IdentityPart(header="x-tenant", required=False),
        IdentityPart(parameter="version", required=False),
    ) == rule.scope.identity
    assert (("rediss://redis.example.com:6380/2",), "cache", 40, 40) == (
        store.url,
        store.username,
        store.timeout_ms,
        store.write_timeout_ms,
    )
    assert store.password is not None
    assert "s3cret" == store.password.get_secret_value()
    assert store.tls.verify


def test_what_is_not_said_is_the_plugins_default() -> None:
    """The smallest document that the plugin takes."""
    loaded = load(FOLDER / "minimal.json", environ={})
    (rule,) = loaded.config.rules
    store = loaded.config.store
    assert isinstance(store, RedisStore)
    assert (3600, 1_048_576, (), ("exact",)) == (rule.ttl_s, rule.answer_bytes_max, rule.bypass_on, rule.layers)
    assert (("redis://127.0.0.1:6379",), 50, 1000, 1000, None, None) == (
        store.url,
        store.timeout_ms,
        store.write_timeout_ms,
        store.connect_timeout_ms,
        store.username,
        store.password,
    )
    assert "x-ai-cache-status" == loaded.config.labels.status
    assert () == rule.scope.identity
    assert (True, True) == (rule.scope.route, rule.scope.authority)


def test_a_route_says_which_requests_are_meant() -> None:
    """Path and host of the route are those of the rule, its id the rule's name."""
    loaded = load(FOLDER / "route.json", environ={})
    (rule,) = loaded.config.rules
    assert Match(paths=("/v1/chat/completions",), hosts=("llm.example.com",)) == rule.match
    assert "ai-cache-route" == rule.name
    assert any(line.startswith("plugins.ai-proxy: is not run here") for line in said(loaded))


def test_a_route_may_have_many_paths_and_hosts() -> None:
    """Wildcards stay, and a parameter in a path stands for anything."""
    (rule,) = load(FOLDER / "semantic.yaml", environ={}).config.rules
    assert ("/v1/*", "/llm/*/chat/completions") == rule.match.paths
    assert ("*.example.com", "llm.test") == rule.match.hosts


@pytest.mark.parametrize("wrapped", [False, True], ids=["route", "admin answer"])
def test_a_route_is_read_alone_and_from_the_admin_api(tmp_path: Path, wrapped: bool) -> None:
    """The Admin API puts the route into `value`; faults are told with the whole place."""
    route = json.loads((FOLDER / "route.json").read_text())
    values = {"key": "/apisix/routes/1", "value": route} if wrapped else route
    assert "ai-cache-route" == read(tmp_path, values).config.rules[0].name
    route["plugins"]["ai-cache"]["redis_port"] = 0
    with pytest.raises(ConfigError) as raised:
        read(tmp_path, values)
    prefix = "value." if wrapped else ""
    assert f"{prefix}plugins.ai-cache.redis_port" == raised.value.path
    assert "ai-cache.yaml:" in str(raised.value.source)


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"status": 0}, "status: turns the route off; its requests are bypassed (rule_disabled)"),
        ({"methods": ["GET"]}, "methods: leaves out POST, the method of every LLM call"),
        (
            {"vars": [["arg_a", "==", "b"]]},
            "vars: is not looked at: Envoy's own routes decide which requests come here",
        ),
        (
            {"remote_addr": "10.0.0.0/8"},
            "remote_addr: is not looked at: Envoy's own routes decide which requests come here",
        ),
    ],
    ids=["status", "methods", "vars", "remote_addr"],
)
def test_what_else_a_route_says_is_told(tmp_path: Path, changes: dict[str, object], note: str) -> None:
    """Nothing of a route that has no effect here goes unsaid."""
    loaded = read(tmp_path, {"uri": "/v1/*", "plugins": {"ai-cache": MINIMAL}} | changes)
    assert note in said(loaded)
    assert ("status" not in changes) == loaded.config.rules[0].enabled


@pytest.mark.parametrize(
    ("values", "path", "reason"),
    [
        ({"plugins": {"ai-proxy": {}}}, "plugins", "does not name ai-cache, so there is nothing to run"),
        ({"plugins": []}, "plugins", "must be a mapping of plugins and their configuration"),
        ({"plugins": {"ai-cache": 3}}, "plugins.ai-cache", "must be a mapping"),
        ({"plugins": {"ai-cache": MINIMAL}, "uri": "v1"}, "uri", "matches no path; begin it with /"),
        ({"plugins": {"ai-cache": MINIMAL}, "uris": ["/a", "b"]}, "uris[1]", "matches no path; begin it with /"),
        ({"plugins": {"ai-cache": MINIMAL}, "uri": "/a?b"}, "uri", "has a query, which no path has; leave it out"),
        ({"plugins": {"ai-cache": MINIMAL}, "hosts": [""]}, "hosts[0]", "must not be empty"),
        (MINIMAL | {"cache_key": {"include_vars": ["http_a"] * 16}}, "cache_key.include_vars", "names 16 variables"),
        ({"plugins": {"ai-cache": MINIMAL}, "redis_host": "a.b"}, "redis_host", "stands beside `plugins`; put it"),
        (MINIMAL | {"listen": "127.0.0.1:1"}, "listen", "is a setting of ours in a document of APISIX"),
        (MINIMAL | {"_meta": {"filter": [["a", "==", "b"]]}}, "_meta.filter", "cannot be said here"),
        (MINIMAL | {"_meta": {"disable": "yes"}}, "_meta.disable", "must be true or false"),
    ],
    ids=[
        "other plugin",
        "list",
        "no mapping",
        "uri",
        "uris",
        "query",
        "host",
        "many",
        "beside",
        "ours",
        "filter",
        "disable",
    ],
)
def test_a_document_that_cannot_be_meant_is_refused(
    tmp_path: Path, values: dict[str, object], path: str, reason: str
) -> None:
    """Each with the place and the way out."""
    with pytest.raises(ConfigError) as raised:
        read(tmp_path, values)
    assert path == raised.value.path
    assert raised.value.reason.startswith(reason)


def test_a_disabled_plugin_bypasses(tmp_path: Path) -> None:
    """`_meta.disable` turns the plugin off, as on every plugin of APISIX; what else stands in `_meta` is its own."""
    (rule,) = read(tmp_path, MINIMAL | {"_meta": {"disable": True, "priority": 7}}).config.rules
    assert not rule.enabled


@pytest.mark.parametrize("key", ["layers", "semantic", "bypass_on"])
def test_a_lost_key_of_ours_is_not_taken_for_a_document_of_apisix(tmp_path: Path, key: str) -> None:
    """Keys that a rule of ours has too do not tell: such a document is ours, and the key in the wrong place."""
    with pytest.raises((ConfigError, ConfigFaults), match="unknown key"):
        read(tmp_path, {key: ["exact"]})


def test_several_faults_are_told_together(tmp_path: Path) -> None:
    """With the line of each."""
    with pytest.raises(ConfigFaults) as raised:
        read(tmp_path, {"redis_host": "x", "exact": {"ttl": 0}, "redis_port": "6379"})
    assert ["exact.ttl", "redis_host", "redis_port"] == sorted(fault.path for fault in raised.value.faults)
    assert all(str(fault.source).startswith(str(tmp_path)) for fault in raised.value.faults)
