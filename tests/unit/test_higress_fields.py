"""Each field of a Higress document: its default, its spellings, what wins over what, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ai_cache_extproc.config.load import Loaded, load
from ai_cache_extproc.config.model import HigressValues, RedisStore, Rule, Template
from ai_cache_extproc.config.rules import widenings
from ai_cache_extproc.config.snapshot import Snapshot
from ai_cache_extproc.errors import ConfigError, ConfigFaults
from ai_cache_extproc.model import RequestHead

REDIS = "redis: {serviceName: my-redis.dns, timeout: 50}\n"
CACHE = "cache: {type: redis, serviceName: my-redis.dns, timeout: 50}\n"
JSON = '\'{"a":"%s"}\''
OTHER_JSON = '\'{"b":"%s"}\''


def read(folder: Path, text: str, **environ: str) -> Loaded:
    """A document in a file, loaded."""
    path = folder / "ai-cache.yaml"
    path.write_text(text)
    return load(path, environ=environ)


def rule_of(folder: Path, text: str, **environ: str) -> Rule:
    """The only rule that the document comes to."""
    (rule,) = read(folder, text, **environ).config.rules
    return rule


@pytest.mark.parametrize(
    "keys",
    [
        "",
        "cacheKeyStrategy:\n",
        "cacheKeyStrategy: ''\n",
        "cacheKeyStrategy: lastQuestion\n",
        "cacheKeyFrom: ''\ncacheValueFrom: ''\ncacheStreamValueFrom: ''\ncacheToolCallsFrom: ''\n",
        "cacheKeyFrom: messages.@reverse.0.content\ncacheToolCallsFrom: choices.0.delta.content.tool_calls\n",
        "cacheKeyFrom: {requestBody: ''}\ncacheValueFrom: {responseBody: ''}\ncacheStreamValueFrom: {}\n",
        "responseTemplate: ''\nstreamResponseTemplate: ''\nreturnResponseTemplate: ''\nreturnStreamResponseTemplate:\n",
        "cacheTTL: 0\ncacheKeyPrefix: ''\nenableSemanticCache: false\n",
        "cache:\nembedding:\nvector:\nDash:\n",
    ],
    ids=["none", "null", "empty", "named", "paths", "defaults", "mappings", "templates", "rest", "services"],
)
def test_what_is_not_said_is_the_plugins_default(tmp_path: Path, keys: str) -> None:
    """Absent, null, empty, or spelled out: the same rule."""
    rule = rule_of(tmp_path, REDIS + keys)
    assert (True, None, Template(), HigressValues()) == (rule.enabled, rule.ttl_s, rule.template, rule.higress)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("cacheKeyStrategy: allQuestions", {"question": "all"}),
        ("cacheKeyFrom: prompt", {"question_path": "prompt"}),
        ("cacheKeyFrom: {requestBody: prompt}", {"question_path": "prompt"}),
        ("cacheValueFrom: text", {"answer_path": "text"}),
        ("cacheValueFrom: {responseBody: text}", {"answer_path": "text"}),
        ("cacheValueFrom: {requestBody: text}", {"answer_path": "text"}),
        ("cacheStreamValueFrom: piece", {"stream_path": "piece"}),
        ("cacheStreamValueFrom: {responseBody: piece}", {"stream_path": "piece"}),
        ("cacheStreamValueFrom: {requestBody: piece}", {"stream_path": "piece"}),
        ("cacheToolCallsFrom: calls", {"tool_calls_path": "calls"}),
        (f"responseTemplate: {JSON}", {"response": '{"a":"%s"}'}),
        (f"returnResponseTemplate: {JSON}", {"response": '{"a":"%s"}'}),
        ('streamResponseTemplate: "data:{\\"a\\":%s}\\n\\n"', {"stream_response": 'data:{"a":%s}\n\n'}),
        ('returnStreamResponseTemplate: "data:{\\"a\\":%s}\\n\\n"', {"stream_response": 'data:{"a":%s}\n\n'}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_spelling_of_a_path_or_template_is_taken(tmp_path: Path, keys: str, expected: dict[str, str]) -> None:
    """Both generations, and for answers both words inside the mapping."""
    assert Template.model_validate(expected) == rule_of(tmp_path, REDIS + keys).template


@pytest.mark.parametrize(
    "path",
    [
        "messages.@reverse.0.content",
        'messages.@reverse.#(role=="user").content',
        'messages.@reverse.#(role=="user")#.content',
        'messages.@reverse.#(role=="user")#.content|1',
    ],
)
def test_the_key_expressions_of_the_readme_are_taken_as_they_stand(tmp_path: Path, path: str) -> None:
    """The default and its three refinements: the last of the user, all of them, the one before the last."""
    for keys in (f"cacheKeyFrom: '{path}'", f"cacheKeyFrom: {{requestBody: '{path}'}}"):
        template = rule_of(tmp_path, REDIS + keys).template
        assert template is not None
        assert path == template.question_path


def test_a_path_in_the_other_language_is_taken_or_refused_where_it_stands(tmp_path: Path) -> None:
    """What begins with `$` is JSONPath, which can be refused; every text is GJSON."""
    template = rule_of(tmp_path, REDIS + "cacheKeyFrom: $.messages[-1:].content").template
    assert template is not None
    assert "$.messages[-1:].content" == template.question_path
    with pytest.raises(ConfigFaults) as caught:
        read(tmp_path, REDIS + "cacheKeyFrom: $.a[\ncacheValueFrom: {responseBody: '$.b['}\n")
    assert ["cacheKeyFrom", "cacheValueFrom.responseBody"] == [fault.path for fault in caught.value.faults]


def test_disabled_bypasses_everything(tmp_path: Path) -> None:
    """`cacheKeyStrategy: disabled` turns the rule off, and its Redis is not looked for."""
    text = "cacheKeyStrategy: disabled\nredis: {serviceName: my-redis.dns}\n"
    assert not rule_of(tmp_path, text).enabled


@pytest.mark.parametrize(
    ("text", "ttl_s"),
    [
        (REDIS, None),
        (REDIS + "cacheTTL: 0", None),
        (REDIS + "cacheTTL: 60", 60),
        (REDIS + "cacheTTL: '60'", 60),
        (REDIS + "cacheTTL: 31536000", 31_536_000),
        (CACHE + "cacheTTL: 60", 60),
        ("redis: {serviceName: a.dns, cacheTTL: 0}\ncacheTTL: 60", None),
        ("redis: {serviceName: a.dns, cacheTTL: 30}\ncacheTTL: 60", 30),
        ("cache: {type: redis, serviceName: a.dns, cacheTTL: 30}", 30),
    ],
    ids=["absent", "zero", "outer", "text", "a year", "beside cache", "inner zero", "inner wins", "inner"],
)
def test_a_lifetime_holds_wherever_it_stands(tmp_path: Path, text: str, ttl_s: float | None) -> None:
    """Inner wins over outer; 0 is for ever, as absence is; any length is taken."""
    assert ttl_s == rule_of(tmp_path, text).ttl_s


@pytest.mark.parametrize(
    ("text", "prefix"),
    [
        (REDIS, "higress-ai-cache:"),
        (REDIS + "cacheKeyPrefix: 'a:'", "a:"),
        (CACHE + "cacheKeyPrefix: 'a:'", "a:"),
        ("redis: {serviceName: a.dns, cacheKeyPrefix: 'b:'}\ncacheKeyPrefix: 'a:'", "b:"),
        ("redis: {serviceName: a.dns, cacheKeyPrefix: ''}\ncacheKeyPrefix: 'a:'", ""),
        ("cache: {type: redis, serviceName: a.dns, cacheKeyPrefix: 7}", "7"),
    ],
    ids=["absent", "beside redis", "beside cache", "inner wins", "inner and empty", "a number"],
)
def test_a_prefix_holds_wherever_it_stands(tmp_path: Path, text: str, prefix: str) -> None:
    """Inner wins over outer; an empty one inside is one."""
    assert HigressValues(key_prefix=prefix) == rule_of(tmp_path, text).higress


def test_the_older_names_of_the_templates_win(tmp_path: Path) -> None:
    """As in the plugin."""
    template = rule_of(tmp_path, REDIS + f"responseTemplate: {JSON}\nreturnResponseTemplate: {OTHER_JSON}").template
    assert template is not None
    assert '{"b":"%s"}' == template.response


def test_redis_wins_over_cache(tmp_path: Path) -> None:
    """As in the plugin: all of `cache` is left aside, its prefix and lifetime too."""
    text = "cache: {type: redis, serviceName: b.dns, cacheTTL: 5, cacheKeyPrefix: b}\n" + REDIS
    read_ = read(tmp_path, text)
    assert isinstance(read_.config.store, RedisStore)
    assert ("redis://my-redis:6379",) == read_.config.store.url
    assert (None, HigressValues()) == (read_.config.rules[0].ttl_s, read_.config.rules[0].higress)


@pytest.mark.parametrize(
    ("keys", "environ", "share"),
    [
        ("", {}, "everyone"),
        ("scope: everyone", {}, "everyone"),
        ("scope: credential", {}, "credential"),
        ("", {"AICACHE_SCOPE": "credential"}, "credential"),
        ("scope: credential", {"AICACHE_SCOPE": "everyone"}, "everyone"),
        ("scope: credential", {"AICACHE_SCOPE": ""}, "credential"),
    ],
    ids=["absent", "everyone", "credential", "by variable", "the variable wins", "an empty variable"],
)
def test_the_scope_says_who_shares(tmp_path: Path, keys: str, environ: dict[str, str], share: str) -> None:
    """Everyone as in the plugin, and start-up says so; with `credential` each caller alone, nobody without one."""
    rule = rule_of(tmp_path, REDIS + keys, **environ)
    assert rule.higress is not None
    assert share == rule.higress.share
    warned = list(widenings((rule,)))
    if share == "credential":
        assert ("bypass", Rule().scope, []) == (rule.anonymous, rule.scope, warned)
    else:
        assert ("shared", (), ()) == (rule.anonymous, rule.scope.credentials, rule.scope.parameters)
        assert ["`scope: credential` gives each caller their own"] == [line.rpartition("; ")[2] for line in warned]


def test_a_scope_that_is_none_is_refused_by_its_variable(tmp_path: Path) -> None:
    """A wrong word must not share with everyone."""
    with pytest.raises(ConfigError, match=r'^AICACHE_SCOPE: "tenant" is no scope; say everyone or credential$'):
        read(tmp_path, REDIS, AICACHE_SCOPE="tenant")


def test_the_environment_and_flags_win_over_the_translation(tmp_path: Path) -> None:
    """Native settings hold over what the document comes to, as over a document of ours."""
    path = tmp_path / "ai-cache.yaml"
    path.write_text("redis: {serviceName: my-redis.dns, password: canary}\n")
    environ = {"AICACHE__STORE__TIMEOUT_MS": "20", "AICACHE__LOOKUP__FLIGHT_WAIT_MS": "0", "AICACHE__ADMIN": "null"}
    config = load(path, environ=environ, flags={"listen": ("unix:/run/x.sock",), "hosts": ()}).config
    assert isinstance(config.store, RedisStore)
    assert (20, 0, None) == (config.store.timeout_ms, config.lookup.flight_wait_ms, config.admin)
    assert config.store.password is not None
    assert ("canary", ("unix:/run/x.sock",)) == (config.store.password.get_secret_value(), config.listen)


def test_faults_of_the_environment_come_with_those_of_the_document(tmp_path: Path) -> None:
    """One run tells everything that is wrong."""
    with pytest.raises(ConfigFaults) as caught:
        read(tmp_path, "redis: {}\n", AICACHE__NEER="1")
    assert ["AICACHE__NEER", f"{tmp_path}/ai-cache.yaml:1"] == [fault.source for fault in caught.value.faults]


def test_a_fault_of_the_environment_over_a_translation_names_the_variable(tmp_path: Path) -> None:
    """What the document does not hold has no line in it."""
    with pytest.raises(ConfigError, match=r"^AICACHE__STORE__TIMEOUT_MS: store\.timeout_ms: must be at least 1"):
        read(tmp_path, REDIS, AICACHE__STORE__TIMEOUT_MS="0")


def test_our_own_documents_are_ours(tmp_path: Path) -> None:
    """Nothing of Higress' is looked for in a native document, whatever the environment says for such ones."""
    loaded = read(tmp_path, "log: {level: debug}\n", AICACHE_SCOPE="x", AICACHE_HOSTS="y")
    assert ("native", (), None) == (loaded.dialect, loaded.notes, loaded.translation)


@pytest.mark.parametrize("key", ["scope", "partition"])
def test_what_is_ours_beside_a_document_makes_none(tmp_path: Path, key: str) -> None:
    """`scope` alone is an unknown setting, as it always was."""
    with pytest.raises(ConfigError, match=rf"{key}: unknown key; "):
        read(tmp_path, f"{key}: none\n")


def test_a_longer_lifetime_than_ours_is_for_higress_only() -> None:
    """The bound of a day stays for everything else."""
    with pytest.raises(ValueError, match="ttl_s: must be at most 86400, not 86401"):
        Rule(ttl_s=86_401)
    rule = Rule(ttl_s=86_401, template=Template(), higress=HigressValues(), anonymous="shared")
    assert 86_401 == rule.ttl_s


def test_every_json_request_meets_the_rule(tmp_path: Path) -> None:
    """A bare document is for everything, whatever host and route."""
    snapshot = Snapshot(read(tmp_path, REDIS).config)
    assert snapshot.rule_for(RequestHead("POST", "/any/path", "any.host", {}, "any-route")) is not None
