"""Whole documents of Higress' ai-cache as people have them: what each comes to, and what each mistake is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from ai_cache_extproc.config.load import Loaded, load
from ai_cache_extproc.config.model import Envoy, HigressValues, Lookup, Match, RedisStore, Rule, SqliteStore, Template
from ai_cache_extproc.errors import ConfigError, ConfigFaults

FOLDER = Path(__file__).parent / "higress_documents"
DOCUMENTS = sorted(path.name for path in FOLDER.glob("*.*"))
MISTAKES = sorted(path.name for path in (FOLDER / "faults").glob("*.yaml"))
LIMIT = (
    "longer than a lookup may take; 50 ms hold, then the request goes upstream; AICACHE__LOOKUP__DEADLINE_MS with "
    "AICACHE__STORE__TIMEOUT_MS allow more"
)
SEARCH = (
    "finds neighbours, of which the guards (`strict`) let those through that ask the same; `aicache convert` prints a "
    "document of ours, where `semantic: {guards: balanced}` loosens them"
)
WAIT = "10000 ms (the plugin's default) is longer than Envoy waits; 2000 ms hold, then the request goes upstream"


def loaded(name: str) -> Loaded:
    """A document of the folder, with the one service told that cannot be looked up."""
    return load(FOLDER / name, environ={}, flags={"hosts": ("redis.static=10.0.0.7:6379",)})


def plain(name: str) -> Loaded:
    """A document of the folder as it is."""
    return load(FOLDER / name, environ={})


def notes_of(read: Loaded) -> list[str]:
    """What is said of the document, without the folder."""
    return [str(note).removeprefix(f"{FOLDER}/") for note in read.notes]


def test_the_smallest_document_is_one_rule_for_every_request() -> None:
    """Redis and nothing else: the plugin's key space, its paths and templates, for ever; the shipped Envoy."""
    read = plain("redis.yaml")
    config = read.config
    assert ("higress", False) == (read.dialect, read.embedded)
    assert RedisStore(type="redis", url=("redis://my-redis:6379",), timeout_ms=50) == config.store
    assert Envoy(message_timeout_ms=500, max_message_timeout_ms=10_000) == config.envoy
    assert Lookup(flight_wait_ms=5000) == config.lookup
    (rule,) = config.rules
    assert (Match(), True, None, 0, 0, 0) == (
        rule.match,
        rule.enabled,
        rule.ttl_s,
        rule.ttl_jitter,
        rule.early_refresh,
        rule.stale_if_error_s,
    )
    assert ("shared", (), ()) == (rule.anonymous, rule.scope.credentials, rule.scope.parameters)
    assert not rule.ignore_upstream_cache_control
    assert Template() == rule.template
    assert HigressValues(key_prefix="higress-ai-cache:", share="everyone") == rule.higress
    assert [f"redis.yaml:3: redis.timeout: 2000 ms is {LIMIT}"] == notes_of(read)


def test_the_older_generation_is_read_whole() -> None:
    """Mappings around the paths, templates under their older names, prefix and lifetime at the top."""
    read = plain("legacy.yaml")
    (rule,) = read.config.rules
    assert (
        RedisStore(
            type="redis",
            url=("redis://redis.my-ns.svc.cluster.local:6380",),
            username="cache",
            password=SecretStr("canary"),
            timeout_ms=20,
        )
        == read.config.store
    )
    assert rule.template is not None
    assert ("last", 'messages.@reverse.#(role=="user").content', "output.text", "output.piece") == (
        rule.template.question,
        rule.template.question_path,
        rule.template.answer_path,
        rule.template.stream_path,
    )
    assert '"choices":[%s],"model":"gpt-4o"' in rule.template.response
    assert rule.template.stream_response.endswith("}\n\ndata:[DONE]\n\n")
    assert (86_401, HigressValues(key_prefix="llm:")) == (rule.ttl_s, rule.higress)
    assert [
        (
            "legacy.yaml:7: cacheKeyPrefix: holds here, as its documentation says; today's plugin reads it inside `redis` or "
            "`cache` only, and writes under higress-ai-cache:; leave it out to find what that wrote"
        )
    ] == notes_of(read)


def test_the_current_generation_is_read_whole() -> None:
    """Every field of `cache`, a number for a password and text for a port included, and the choice of all questions."""
    read = plain("current.yaml")
    (rule,) = read.config.rules
    assert (
        RedisStore(
            type="redis",
            url=("redis://redis.example.com:6380/3",),
            username="cache",
            password=SecretStr("31337"),
            timeout_ms=50,
        )
        == read.config.store
    )
    template = Template(
        question="all",
        answer_path="output.text",
        stream_path="output.piece",
        tool_calls_path="output.calls",
        response='{"text": %s, "cached": true}',
        stream_response='data:{"text": %s}\n\ndata:[DONE]\n\n',
    )
    assert (template, 3600, HigressValues(key_prefix="")) == (rule.template, rule.ttl_s, rule.higress)
    assert [
        f"current.yaml:15: cache.timeout: 100 ms is {LIMIT}",
        f"current.yaml:19: embedding.timeout: {WAIT}",
        f"current.yaml:23: vector.timeout: {WAIT}",
        f"current.yaml:23: vector: {SEARCH}",
    ] == notes_of(read)


def test_a_document_without_redis_is_kept_in_our_own_store() -> None:
    """DashVector and DashScope alone: loads, and exact questions are kept where ours are."""
    read = plain("dashvector.yaml")
    assert SqliteStore() == read.config.store
    assert HigressValues() == read.config.rules[0].higress
    assert [
        (
            "dashvector.yaml: names no Redis: the plugin would match exact questions nowhere; here the default store (SQLite) "
            "keeps them; `redis: {serviceName: my-redis.dns}` shares them"
        ),
        f"dashvector.yaml:9: embedding.timeout: {WAIT}",
        f"dashvector.yaml:1: vector.timeout: {WAIT}",
        f"dashvector.yaml:1: vector: {SEARCH}",
    ] == notes_of(read)


def test_the_challenges_demo_loads_with_its_redis_told() -> None:
    """The `Dash` block beside `redis`; the static name is given an address on the command line."""
    read = loaded("demo.yaml")
    assert isinstance(read.config.store, RedisStore)
    assert ("redis://10.0.0.7:6379",) == read.config.store.url
    assert [f"demo.yaml:11: redis.timeout: 2000 ms is {LIMIT}", f"demo.yaml:1: Dash: {SEARCH}"] == notes_of(read)


@pytest.mark.parametrize("suffix", ["yaml", "json"])
def test_a_whole_resource_is_a_rule_for_each_part(suffix: str) -> None:
    """Ingress, domain and service in the order of the document, `defaultConfig` last; scope beside `spec` and inside."""
    read = plain(f"wasmplugin.{suffix}")
    routes, hosts, clusters, rest = read.config.rules
    assert ("default-llm", "example.com", "llm.internal.dns", "default") == tuple(
        rule.name for rule in read.config.rules
    )
    assert Match(routes=("default/llm", "chat")) == routes.match
    assert Match(hosts=("*.example.com", "llm.test")) == hosts.match
    assert Match(clusters=("*|*|*|llm.internal.dns", "*|443|*|qwen.dns")) == clusters.match
    assert Match() == rest.match
    assert (True, False, True, True) == tuple(rule.enabled for rule in read.config.rules)
    assert (600, None) == (routes.ttl_s, rest.ttl_s)
    assert HigressValues(key_prefix="chat:", share="credential") == routes.higress
    assert HigressValues(share="everyone") == clusters.higress
    assert ("bypass", Rule().scope) == (rest.anonymous, rest.scope)
    assert isinstance(read.config.store, RedisStore)
    assert (("redis://my-redis:6379",), 30) == (read.config.store.url, read.config.store.timeout_ms)


def test_yaml_and_json_of_a_resource_are_the_same() -> None:
    """What is read does not depend on how it is written."""
    by_yaml, by_json = plain("wasmplugin.yaml"), plain("wasmplugin.json")
    assert by_yaml.config == by_json.config
    assert [(note.location, note.text) for note in by_yaml.notes] == [
        (note.location, note.text) for note in by_json.notes
    ]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_no_secret_of_a_document_can_be_seen(name: str) -> None:
    """Neither in what is said of it nor in the representation of what was made of it."""
    shown = repr(loaded(name)).replace("vrs-cn-canary", "")
    assert "canary" not in shown
    assert "31337" not in shown


@pytest.mark.parametrize("name", MISTAKES)
def test_each_mistake_is_named_with_its_line_and_the_way_out(name: str) -> None:
    """A mistake gives exactly the errors that the first lines of its file announce (`# error: LINE: TEXT`)."""
    path = FOLDER / "faults" / name
    announced = [
        line.removeprefix("# error: ") for line in path.read_text().splitlines() if line.startswith("# error: ")
    ]
    with pytest.raises((ConfigError, ConfigFaults)) as caught:
        load(path, environ={})
    assert isinstance(caught.value, ConfigError | ConfigFaults)
    told = [str(fault) for fault in caught.value.faults]
    assert [f"{path}:{text}" if text[0].isdigit() else f"{path}: {text}" for text in announced] == told
    assert "canary" not in "\n".join(told)
