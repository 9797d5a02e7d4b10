"""Putting a configuration together: defaults, file, environment, flags, secrets; and showing it."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from ai_cache_extproc.config.load import MASK, json_schema, load, redacted
from ai_cache_extproc.config.model import Config, IdentityKey, MemoryStore, Rule, SqliteStore
from ai_cache_extproc.config.rules import widenings
from ai_cache_extproc.errors import ConfigError, ConfigFaults

KEY = "canary-canary-canary-canary-canary"


def written(folder: Path, text: str, *, name: str = "aicache.yaml") -> Path:
    """A document in a file."""
    path = folder / name
    path.write_text(text)
    return path


def refusals(**given: str) -> list[str]:
    """What is said of these variables, without a document."""
    with pytest.raises((ConfigError, ConfigFaults)) as caught:
        load(None, environ=given)
    assert isinstance(caught.value, ConfigError | ConfigFaults)
    return [str(fault) for fault in caught.value.faults]


@pytest.mark.parametrize("text", [None, "", "{}", "# nothing yet\n", "---\n"])
def test_an_empty_document_runs_on_the_embedded_defaults(tmp_path: Path, text: str | None) -> None:
    """Without a word from anyone, the shipped envoy.yaml is served and anonymous callers share."""
    loaded = load(None if text is None else written(tmp_path, text), environ={})
    config = loaded.config
    assert loaded.embedded
    assert (500, 10_000) == (config.envoy.message_timeout_ms, config.envoy.max_message_timeout_ms)
    assert 5000 == config.lookup.flight_wait_ms
    assert (Rule(anonymous="shared"),) == config.rules


def test_a_document_with_a_word_in_it_gets_the_strict_defaults(tmp_path: Path) -> None:
    """As soon as a document says anything, nobody shares unasked and Envoy's own timeouts hold."""
    path = written(tmp_path, "log:\n  level: debug\n")
    loaded = load(path, environ={})
    assert not loaded.embedded
    assert path == loaded.path
    assert Config.model_validate({"log": {"level": "debug"}}) == loaded.config
    assert 0 == loaded.config.lookup.flight_wait_ms
    assert "bypass" == loaded.config.rules[0].anonymous


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    """Each setting comes from the nearest to the command line that gives it."""
    path = written(tmp_path, "lookup: {deadline_ms: 10}\nadmin: 127.0.0.1:1\nkey_prefix: 'file:'\n")
    environ = {"AICACHE__ADMIN": "127.0.0.1:2", "AICACHE__KEY_PREFIX": "env:"}
    config = load(path, environ=environ, flags={"key_prefix": "flag:", "store.path": Path("/flag.db")}).config
    assert (10, "127.0.0.1:2", "flag:") == (config.lookup.deadline_ms, config.admin, config.key_prefix)
    assert SqliteStore(path=Path("/flag.db")) == config.store


def test_the_environment_and_flags_hold_over_the_embedded_defaults() -> None:
    """Overrides change single settings of the embedded defaults and keep the others."""
    loaded = load(None, environ={"AICACHE__LOOKUP__DEADLINE_MS": "7"}, flags={"listen": ("unix:/run/x.sock",)})
    assert loaded.embedded
    assert (7, 5000) == (loaded.config.lookup.deadline_ms, loaded.config.lookup.flight_wait_ms)
    assert ("unix:/run/x.sock",) == loaded.config.listen


def test_a_json_document_is_the_same_as_yaml(tmp_path: Path) -> None:
    """JSON is read by its suffix, tabs and surrogate pairs included."""
    path = written(tmp_path, '{"store":\n\t{"type": "memory", "bytes_max": 2e6}}', name="aicache.json")
    assert MemoryStore(type="memory", bytes_max=2_000_000) == load(path, environ={}).config.store


def test_yaml_may_merge_what_rules_have_in_common(tmp_path: Path) -> None:
    """Anchors and merge keys work, and a key beside a merge wins."""
    text = "rules:\n  - &base {name: one, ttl_s: 60, ttl_jitter: 0}\n  - {<<: *base, name: two, ttl_s: 70}\n"
    config = load(written(tmp_path, text), environ={}).config
    assert (Rule(name="one", ttl_s=60, ttl_jitter=0), Rule(name="two", ttl_s=70, ttl_jitter=0)) == config.rules


@pytest.mark.parametrize(
    ("variables", "field", "expected"),
    [
        ({"AICACHE__LISTEN": "127.0.0.1:1, unix:/x"}, "listen", ("127.0.0.1:1", "unix:/x")),
        ({"AICACHE__LISTEN": '["127.0.0.1:1"]'}, "listen", ("127.0.0.1:1",)),
        ({"AICACHE__ADMIN": "null"}, "admin", None),
        ({"aicache__admin": "unix:/admin"}, "admin", "unix:/admin"),
        ({"AICACHE__INSECURE_LISTEN": "true"}, "insecure_listen", True),
        ({"AICACHE__KEY_PREFIX": ""}, "key_prefix", ""),
        ({"AICACHE__KEY_PREFIX": "123"}, "key_prefix", "123"),
        ({"AICACHE__RULES": '[{"name": "a"}]'}, "rules", (Rule(name="a"),)),
        ({"AICACHE__STORE__TYPE": "memory"}, "store", MemoryStore(type="memory")),
        ({"AICACHE__STORE": '{"path": "/x"}'}, "store", SqliteStore(path=Path("/x"))),
        (
            {"AICACHE__STORE__PATH": "/y", "AICACHE__STORE": '{"path": "/x", "bytes_max": 2000000}'},
            "store",
            SqliteStore(path=Path("/y"), bytes_max=2_000_000),
        ),
        ({"AICACHE_SCOPE": "x", "HOME": "/", "XAICACHE__ADMIN": "y"}, "admin", "127.0.0.1:9901"),
    ],
)
def test_variables_set_what_their_name_says(variables: dict[str, str], field: str, expected: object) -> None:
    """A variable reaches any setting, in the form that its type asks for; foreign names are left alone."""
    assert expected == getattr(load(None, environ=variables).config, field)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("AICACHE__STORE__PTH", "x", 'AICACHE__STORE__PTH: unknown setting "store.pth"; did you mean "path"?'),
        ("AICACHE__NEER__X", "x", 'AICACHE__NEER__X: unknown setting "neer"; did you mean "near"?'),
        (
            "AICACHE__LISTEN__0",
            "x",
            'AICACHE__LISTEN__0: "listen.0" cannot be set by itself; set AICACHE__LISTEN as a whole',
        ),
        (
            "AICACHE__RULES__0__TTL_S",
            "1",
            'AICACHE__RULES__0__TTL_S: "rules.0" cannot be set by itself; set AICACHE__RULES as a whole',
        ),
        ("AICACHE__RULES", "[{", "AICACHE__RULES: rules: must be JSON, and is not"),
        ("AICACHE__IDENTITY", "canary", "AICACHE__IDENTITY: identity: must be JSON, and is not"),
        (
            "AICACHE__LOG__LEVEL",
            "x",
            "AICACHE__LOG__LEVEL: log.level: must be 'debug', 'info', 'warning' or 'error', not \"x\"",
        ),
        (
            "AICACHE__ENVOY",
            '{"message_timeout_ms": 0}',
            "AICACHE__ENVOY: envoy.message_timeout_ms: must be at least 1, not 0",
        ),
        (
            "AICACHE__IDENTITY__KEY",
            "canary",
            (
                "AICACHE__IDENTITY__KEY: identity.key: is a key of 6 characters, at least 32 are needed; "
                "`openssl rand -hex 32` makes a good one"
            ),
        ),
    ],
)
def test_a_variable_that_cannot_be_used_is_refused_by_name(name: str, value: str, expected: str) -> None:
    """A wrong name or value in the environment stops the start, like one in the file, without showing secrets."""
    assert [expected] == refusals(**{name: value})


def test_a_bare_prefix_is_no_setting() -> None:
    """`AICACHE__` alone names nothing."""
    (fault,) = refusals(AICACHE__="1")
    assert fault.startswith('AICACHE__: unknown setting ""; known here: listen, ')


def test_faults_of_the_file_and_the_environment_come_together(tmp_path: Path) -> None:
    """One run tells everything that is wrong."""
    path = written(tmp_path, "key_prefix: 1\n")
    with pytest.raises(ConfigFaults) as caught:
        load(path, environ={"AICACHE__NEER": "1", "AICACHE__LOG__LEVEL": "x"})
    sources = [fault.source for fault in caught.value.faults]
    assert ["AICACHE__NEER", f"{path}:1", "AICACHE__LOG__LEVEL"] == sources


def test_a_fault_between_settings_is_told_where_it_is_written(tmp_path: Path) -> None:
    """The line belongs to the file even when the other half of the fault comes from a variable."""
    path = written(tmp_path, "log: {}\nlookup:\n  deadline_ms: 40\n")
    with pytest.raises(ConfigError) as caught:
        load(path, environ={"AICACHE__LOOKUP__FLIGHT_WAIT_MS": "0", "AICACHE__ENVOY__MESSAGE_TIMEOUT_MS": "30"})
    assert f"{path}:3" == caught.value.source
    with pytest.raises(ConfigError) as caught:
        load(None, environ={"AICACHE__ENVOY__MESSAGE_TIMEOUT_MS": "30"})
    assert caught.value.source is None


def test_a_refused_flag_is_named(tmp_path: Path) -> None:
    """The fault of a flag names the flag."""
    with pytest.raises(ConfigError, match=r"^--admin: admin: 'x' is no address"):
        load(written(tmp_path, "admin: null"), environ={}, flags={"admin": "x"})


def test_a_key_file_is_read_at_load(tmp_path: Path) -> None:
    """The content of the file is the key, without the line end that every editor adds."""
    file = written(tmp_path, f"{KEY}\n", name="key")
    by_file = load(written(tmp_path, f"identity: {{key_file: {file}}}"), environ={}).config.identity
    by_variable = load(None, environ={"AICACHE__IDENTITY__KEY_FILE": str(file)}).config.identity
    assert KEY.encode() == by_file.secret
    assert by_variable == by_file


def test_without_a_key_the_store_keeps_one() -> None:
    """No key in the configuration is no fault."""
    assert IdentityKey().secret is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\xff" * 40, "is not text; `openssl rand -hex 32` makes a good key"),
        (b"canary \n", "is a key of 6 characters, at least 32 are needed; `openssl rand -hex 32` makes a good one"),
    ],
)
def test_a_bad_key_file_is_refused_without_its_content(tmp_path: Path, content: bytes, reason: str) -> None:
    """The file is named; what stands in it is not."""
    file = tmp_path / "key"
    file.write_bytes(content)
    expected = f'AICACHE__IDENTITY__KEY_FILE: identity.key_file: "{file}" {reason}'
    assert [expected] == refusals(AICACHE__IDENTITY__KEY_FILE=str(file))


def test_secrets_are_masked_wherever_a_configuration_is_shown(tmp_path: Path) -> None:
    """Neither the key nor the pattern of a credential appears; an ordinary pattern does."""
    text = "rules:\n  - match:\n      headers: {authorization: Bearer canary*, x-team: red}\n"
    config = load(written(tmp_path, text), environ={"AICACHE__IDENTITY__KEY": KEY}).config
    shown = redacted(config)
    assert "canary" not in f"{shown} {config.identity!r}"
    assert {"key": MASK, "key_file": None} == shown["identity"]
    rule = cast("list[dict[str, dict[str, object]]]", shown["rules"])[0]
    assert {"authorization": MASK, "x-team": "red"} == rule["match"]["headers"]


def test_a_refused_model_does_not_print_its_input() -> None:
    """A traceback of pydantic's own error holds no secret either."""
    with pytest.raises(ValidationError) as caught:
        Config.model_validate({"identity": {"key": "canary"}})
    assert "canary" not in str(caught.value)


def test_the_schema_accepts_what_is_shown() -> None:
    """The JSON Schema is one, and the effective defaults satisfy it."""
    schema = json_schema()
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(redacted(load(None, environ={}).config))
    with pytest.raises(Exception, match="Additional properties"):
        Draft202012Validator(schema).validate({"lookup": {"deadline": 1}})


def test_names_are_lower_cased_and_stand_once() -> None:
    """Header and parameter names are compared without case, so that case is taken out of them at load."""
    rule = Rule.model_validate(
        {
            "match": {"headers": {"X-Team": "Red"}},
            "scope": {"credentials": ["Authorization", "authorization", "X-Consumer"], "parameters": ["Key"]},
            "fingerprint": {"headers": ["OpenAI-Beta"], "ignore": ["User", "User"]},
        }
    )
    assert {"x-team": "Red"} == rule.match.headers
    assert ("authorization", "x-consumer") == rule.scope.credentials
    assert ("key",) == rule.scope.parameters
    assert ("openai-beta",) == rule.fingerprint.headers
    assert ("User",) == rule.fingerprint.ignore


def test_waits_that_fit_are_taken() -> None:
    """A flight wait may use all of the message timeout, or all of the extension that Envoy allows."""
    inside = Config.model_validate({"lookup": {"deadline_ms": 50, "flight_wait_ms": 149}})
    extended = Config.model_validate(
        {"envoy": {"max_message_timeout_ms": 5000}, "lookup": {"deadline_ms": 50, "flight_wait_ms": 4950}}
    )
    assert (149, 4950) == (inside.lookup.flight_wait_ms, extended.lookup.flight_wait_ms)


def test_wider_sharing_is_said() -> None:
    """Each rule that shares beyond credentials has its sentence; the strict default has none."""
    assert [] == list(widenings((Rule(),)))
    wide = Rule.model_validate({"name": "team", "scope": {"credentials": ["x-team"], "parameters": []}})
    anonymous = Rule(name="open", anonymous="shared")
    expected = [
        (
            'rule "team": callers that differ only in authorization, proxy-authorization, x-api-key, api-key, '
            "x-goog-api-key, ocp-apim-subscription-key, cookie, x-forwarded-client-cert, ?key= share answers"
        ),
        'rule "open": all requests without a credential share one scope',
    ]
    assert expected == list(widenings((wide, anonymous)))
