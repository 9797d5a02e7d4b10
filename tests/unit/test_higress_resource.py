"""A WasmPlugin resource: which of its configurations is for which request, as Higress chooses."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ai_cache_extproc.config.load import Loaded, load
from ai_cache_extproc.config.model import Match, RedisStore, SqliteStore
from ai_cache_extproc.config.rules import Rule
from ai_cache_extproc.config.snapshot import Snapshot
from ai_cache_extproc.model import RequestHead

REDIS: dict[str, object] = {"redis": {"serviceName": "my-redis.dns", "timeout": 9}}
VECTOR: dict[str, object] = {
    "vector": {"type": "dashvector", "serviceName": "v.dns", "serviceHost": "v.test", "apiKey": "k", "collectionID": "c", "threshold": 0.1}
}  # fmt: skip


def read(folder: Path, spec: object, **beside: object) -> Loaded:
    """A resource in a file, loaded."""
    path = folder / "plugin.yaml"
    path.write_text(yaml.safe_dump({"kind": "WasmPlugin", "spec": spec, **beside}))
    return load(path, environ={})


def rules_of(folder: Path, spec: object, **beside: object) -> tuple[Rule, ...]:
    """The rules that a resource comes to."""
    return read(folder, spec, **beside).config.rules


def said(folder: Path, spec: object) -> list[str]:
    """What is said of a resource, without file and line."""
    return [f"{note.path}: {note.text}".removeprefix(": ") for note in read(folder, spec).notes]


MATCHES = {
    "ingress": ({"ingress": ["default/a", "b"]}, Match(routes=("default/a", "b"))),
    "one ingress": ({"ingress": "default/a"}, Match(routes=("default/a",))),
    "domain": ({"domain": ["a.test", "*.b.test"]}, Match(hosts=("a.test", "*.b.test"))),
    "service": ({"service": ["a.dns"]}, Match(clusters=("*|*|*|a.dns",))),
    "service with a port": ({"service": ["a.dns:80"]}, Match(clusters=("*|80|*|a.dns",))),
    "service with no port": ({"service": ["a.dns:http"]}, Match(clusters=("*|*|*|a.dns:http",))),
    "ingress and service": (
        {"ingress": ["a"], "service": ["a.dns"]},
        Match(routes=("a",), clusters=("*|*|*|a.dns",)),
    ),
    "ingress before domain": ({"ingress": ["a"], "domain": ["a.test"]}, Match(routes=("a",))),
    "domain before service": ({"domain": ["a.test"], "service": ["a.dns"]}, Match(hosts=("a.test",))),
}


@pytest.mark.parametrize(("given", "match"), MATCHES.values(), ids=MATCHES)
def test_a_rule_is_for_what_higress_would_choose(tmp_path: Path, given: dict[str, object], match: Match) -> None:
    """Ingress, with the service where both are given, else domain, else service."""
    (rule,) = rules_of(tmp_path, {"matchRules": [{**given, "config": REDIS}]})
    assert match == rule.match


def test_lists_that_are_not_looked_at_are_said(tmp_path: Path) -> None:
    """Whoever wrote them believes that they narrow the rule."""
    both = {"ingress": ["a"], "domain": ["a.test"], "config": REDIS}
    other = {"domain": ["a.test"], "service": ["a.dns"], "config": REDIS}
    assert [
        "spec.matchRules[0].domain: is not looked at beside the others, as in Higress",
        "spec.matchRules[1].service: is not looked at beside the others, as in Higress",
    ] == said(tmp_path, {"matchRules": [both, other]})


def test_a_cluster_of_higress_meets_its_service(tmp_path: Path) -> None:
    """`outbound|PORT|SUBSET|NAME` by name, and by port where one is given."""
    spec = {"matchRules": [{"service": ["llm.dns:443"], "config": REDIS}, {"service": ["llm.dns"], "config": REDIS}]}
    first, second = rules_of(tmp_path, spec)
    snapshot = Snapshot(read(tmp_path, spec).config)

    def asked(cluster: str) -> Rule | None:
        return snapshot.rule_for(RequestHead("POST", "/", "a.test", {}, "route", cluster))

    assert first == asked("outbound|443||llm.dns")
    assert second == asked("outbound|80|v1|llm.dns")
    assert asked("outbound|443||other.dns") is None


NAMES = {
    "ingress": ({"ingress": ["default/LLM Route"]}, "default-llm-route"),
    "domain": ({"domain": ["*.Example.com"]}, "example.com"),
    "service": ({"service": ["llm.dns:443"]}, "llm.dns-443"),
    "nothing to take": ({"domain": ["*"]}, "rule"),
    "another alphabet": ({"ingress": ["智能"]}, "rule"),
    "like the last rule": ({"ingress": ["default"]}, "default-2"),
    "long": ({"ingress": ["x" * 80]}, "x" * 56),
}


@pytest.mark.parametrize(("given", "name"), NAMES.values(), ids=NAMES)
def test_a_rule_is_named_after_what_it_is_for(tmp_path: Path, given: dict[str, object], name: str) -> None:
    """The first ingress, domain or service, in the letters that a name may have."""
    spec = {"matchRules": [{**given, "config": REDIS}], "defaultConfig": REDIS}
    assert [name, "default"] == [rule.name for rule in rules_of(tmp_path, spec)]


def test_no_two_rules_have_the_same_name(tmp_path: Path) -> None:
    """Rules for the same ingress are counted."""
    spec = {"matchRules": [{"ingress": ["a"], "config": REDIS} for _ in range(3)]}
    assert ["a", "a-2", "a-3"] == [rule.name for rule in rules_of(tmp_path, spec)]


def test_two_rules_keep_their_own_keys(tmp_path: Path) -> None:
    """Prefix, lifetime, paths and scope belong to one rule; the plugin shares some of them by accident."""
    spec = {
        "matchRules": [
            {"ingress": ["a"], "config": {**REDIS, "cacheKeyPrefix": "a:", "cacheTTL": 5, "scope": "credential"}},
            {"ingress": ["b"], "config": {**REDIS, "cacheKeyFrom": "prompt"}},
        ]
    }
    first, second = rules_of(tmp_path, spec)
    assert first.higress is not None
    assert second.higress is not None
    assert second.template is not None
    assert ("a:", "credential", 5) == (first.higress.key_prefix, first.higress.share, first.ttl_s)
    assert ("higress-ai-cache:", "everyone", None) == (second.higress.key_prefix, second.higress.share, second.ttl_s)
    assert "prompt" == second.template.question_path


def test_a_rule_that_is_turned_off_is_as_if_it_were_not_there(tmp_path: Path) -> None:
    """Its requests go on to the rules behind it, as in Higress; even a broken one does not stand in the way."""
    off = {"ingress": ["a"], "configDisable": True, "config": {"cache": {"type": "file"}}}
    spec = {"matchRules": [off, {"ingress": ["b"], "config": REDIS}], "defaultConfig": REDIS}
    assert ["b", "default"] == [rule.name for rule in rules_of(tmp_path, spec)]
    assert [
        (
            "spec.matchRules[0].configDisable: turns the rule off; its requests go to the rules after it and to "
            "`defaultConfig`, as in Higress"
        )
    ] == said(tmp_path, spec)


@pytest.mark.parametrize(
    "spec",
    [
        {"defaultConfigDisable": True, "defaultConfig": {"cache": {"type": "file"}}},
        {"defaultConfigDisable": "true", "matchRules": []},
        {"defaultConfigDisable": True, "matchRules": [{"ingress": ["a"], "configDisable": True}]},
    ],
    ids=["broken default", "no default", "every rule off"],
)
def test_a_resource_that_is_turned_off_has_no_rule(tmp_path: Path, spec: object) -> None:
    """Every request is bypassed, and `check` says that there is no rule."""
    assert () == rules_of(tmp_path, spec)
    assert "spec.defaultConfigDisable: leaves requests that no rule is for without a cache" in said(tmp_path, spec)


@pytest.mark.parametrize("default", [None, {}], ids=["null", "empty"])
def test_an_empty_default_beside_rules_is_none(tmp_path: Path, default: object) -> None:
    """The console writes `defaultConfig: {}` where only routes are configured."""
    spec = {"defaultConfig": default, "matchRules": [{"ingress": ["a"], "config": REDIS}]}
    assert ["a"] == [rule.name for rule in rules_of(tmp_path, spec)]
    assert [] == said(tmp_path, spec)


def test_the_gateways_own_configuration_wins(tmp_path: Path) -> None:
    """`pluginConfig` goes to the plugin as it is; what stands beside it is not read, and that is said."""
    spec = {
        "pluginConfig": {**REDIS, "cacheTTL": 5},
        "defaultConfig": {"cache": {"type": "file"}},
        "matchRules": [{"ingress": ["a"], "config": REDIS}],
    }
    (rule,) = rules_of(tmp_path, spec)
    assert ("default", 5) == (rule.name, rule.ttl_s)
    assert [
        "spec.defaultConfig: is not read beside `pluginConfig`, as in Higress",
        "spec.matchRules: is not read beside `pluginConfig`, as in Higress",
    ] == said(tmp_path, spec)


def test_the_scope_of_the_resource_holds_where_a_rule_says_nothing(tmp_path: Path) -> None:
    """A configuration's own scope wins over the one beside `spec`."""
    spec = {"matchRules": [{"ingress": ["a"], "config": {**REDIS, "scope": "everyone"}}], "defaultConfig": REDIS}
    rules = rules_of(tmp_path, spec, scope="credential")
    assert ["everyone", "credential"] == [rule.higress.share for rule in rules if rule.higress is not None]


def test_only_what_the_plugin_reads_is_checked_for_unknown_keys(tmp_path: Path) -> None:
    """The rest of the resource belongs to Kubernetes; a rule and its configuration do not."""
    spec = {
        "url": "oci://registry.test/ai-cache",
        "matchRules": [{"ingress": ["a"], "routeType": "GRPC", "config": {**REDIS, "cacheTTl": 5}}],
    }
    assert [
        "spec.matchRules[0].config.cacheTTl: is a key that the plugin ignores, and so do we",
        "spec.matchRules[0].routeType: is a key that the plugin ignores, and so do we",
    ] == said(tmp_path, spec)


def test_the_shortest_timeout_of_all_rules_holds(tmp_path: Path) -> None:
    """There is one store, which nobody has to wait for longer than they said."""
    spec = {
        "matchRules": [{"ingress": ["a"], "config": {"redis": {"serviceName": "my-redis.dns", "timeout": 30}}}],
        "defaultConfig": {"cache": {"type": "redis", "serviceName": "my-redis.dns", "timeout": 20}},
    }
    store = read(tmp_path, spec).config.store
    assert isinstance(store, RedisStore)
    assert 20 == store.timeout_ms


def test_one_server_under_two_names_is_one_store(tmp_path: Path) -> None:
    """What counts is where it is."""
    path = tmp_path / "plugin.yaml"
    spec = {
        "matchRules": [{"ingress": ["a"], "config": {"redis": {"serviceName": "a.static"}}}],
        "defaultConfig": {"redis": {"serviceName": "b.static"}},
    }
    path.write_text(yaml.safe_dump({"kind": "WasmPlugin", "spec": spec}))
    store = load(path, environ={"AICACHE_HOSTS": "a.static=r:1,b.static=r:1"}).config.store
    assert isinstance(store, RedisStore)
    assert ("redis://r:1",) == store.url


def test_a_disabled_rule_names_no_store(tmp_path: Path) -> None:
    """Its Redis may be another one, or nowhere."""
    spec = {
        "matchRules": [
            {"ingress": ["a"], "config": {"cacheKeyStrategy": "disabled", "redis": {"serviceName": "other.static"}}}
        ],
        "defaultConfig": REDIS,
    }
    store = read(tmp_path, spec).config.store
    assert isinstance(store, RedisStore)
    assert ("redis://my-redis:6379",) == store.url


def test_a_rule_without_redis_beside_one_with_it_is_said(tmp_path: Path) -> None:
    """There is one store for all of them; where none names a Redis it is ours."""
    spec = {"matchRules": [{"ingress": ["a"], "config": VECTOR}], "defaultConfig": REDIS}
    assert (
        "spec.matchRules[0].config: names no Redis; its answers are kept in that of spec.defaultConfig.redis all the same"
    ) in said(tmp_path, spec)
    del spec["defaultConfig"]
    assert SqliteStore() == read(tmp_path, spec).config.store
