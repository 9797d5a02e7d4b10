"""`aicache check`: the effective plan in words, and its exit code."""

from __future__ import annotations

from pathlib import Path

import pytest

from ai_cache_extproc.cli.dangers import service_dangers
from ai_cache_extproc.config.http import HttpService, HttpTls
from ai_cache_extproc.config.section import Section
from tests.support.terminal import Terminal, terminal, written

SECRET = "sk-canary-0123456789"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Terminal:
    """A terminal of its own."""
    return terminal(capsys, monkeypatch, tmp_path)


def test_check_prints_the_plan_in_words(run: Terminal, tmp_path: Path) -> None:
    """What listens, what is kept where and how long, who shares, and each rule."""
    file = written(
        tmp_path,
        """
listen: unix:/run/aicache/extproc.sock
store: {type: sqlite, path: /var/lib/aicache/cache.db, bytes_max: 1073741824}
envoy: {message_timeout_ms: 500, max_message_timeout_ms: 10000}
lookup: {flight_wait_ms: 5000}
rules:
  - name: chat
    match: {paths: ["/v1/*"], hosts: ["llm.test"], routes: [a, b], headers: {authorization: "Bearer sk-canary*"}}
    ttl_s: 5400
    fingerprint: {headers: [x-tenant-tier], ignore: [metadata]}
    ignore_upstream_cache_control: true
  - {name: other, enabled: false}
""",
    )
    code, out, err = run("check", file)
    text = " ".join(out.split())
    assert (0, "") == (code, err)
    for words in (
        f"{file}: good",
        "unix:/run/aicache/extproc.sock for Envoy",
        "127.0.0.1:9901 (HTTP",
        "SQLite file /var/lib/aicache/cache.db, up to 1 GiB",
        "kept by the store, made at the first start",
        "the store has 50 ms, then the request goes upstream",
        "waited for 5 s, by streaming clients 1 s",
        "message_timeout 500 ms and max_message_timeout 10 s at least",
        "questions up to 4 MiB and 128 levels",
        "rule chat for route a or b, and host llm.test, and path /v1/*, and a matching header authorization",
        "kept for 90 min, less up to 10%",
        "callers with the same authorization,",
        "callers with none of them are bypassed (no_credential)",
        "headers x-tenant-tier tell questions apart",
        "body fields metadata",
        "its Cache-Control and Set-Cookie are overruled",
        'rule "chat": answers that the upstream calls private or no-store are kept',
        "rule other for every LLM call does nothing: matching requests are bypassed (rule_disabled)",
    ):
        assert words in text
    assert "sk-canary" not in out


def test_check_names_what_to_think_about_twice(run: Terminal, tmp_path: Path) -> None:
    """Shared answers, long lifetimes, open addresses, rules that never apply."""
    file = written(
        tmp_path,
        """
listen: [0.0.0.0:50051]
insecure_listen: true
admin: 0.0.0.0:9901
admin_access: {token: sk-canary-0123456789}
rules:
  - {name: all, anonymous: shared, ttl_s: 86400}
  - {name: never}
""",
    )
    document = run.json("check", file)
    warnings = document["warnings"]
    assert isinstance(warnings, list)
    assert [
        (
            'rule "all": all requests without a credential share one scope; if they are not one party, leave out what widens '
            "`scope` and `anonymous: shared`"
        ),
        'rule "all": answers are served for 1 d; models and facts change; `ttl_s: 3600` is the default',
        (
            "listen 0.0.0.0:50051: whoever reaches it can read and fill the cache; "
            "use 127.0.0.1 or unix:PATH, or keep all but Envoy off that network"
        ),
        "admin 0.0.0.0:9901: whoever reaches it sees the figures, and the token crosses the network in clear; use 127.0.0.1 or unix:PATH",
        (
            'rule "never": applies only where a route names it (x-ai-cache-rule), since "all" before it matches everything; '
            'put it before "all"'
        ),
    ] == warnings
    code, out, _ = run("check", file)
    assert 0 == code
    assert all(warning in out for warning in warnings)


def test_check_prints_a_document_for_programs(run: Terminal, tmp_path: Path) -> None:
    """The same plan, and the rules in their order."""
    file = written(tmp_path, "admin: null\nstore: {type: memory}\nnear: {bytes_max: 0}\nrules: []\n")
    document = run.json("check", file)
    plan = document["plan"]
    assert isinstance(plan, dict)
    assert (True, [], file) == (document["ok"], document["rules"], document["source"])
    assert ("off", "off") == (plan["admin"], plan["near copy"])
    assert "memory, up to 256 MiB; empty after a restart" == plan["store"]
    assert "kept by the store" == plan["identity key"]
    assert "nobody waits for an identical request" in plan["waits"]
    assert "waits are not extended" in plan["Envoy"]
    assert [
        "there is no rule: every LLM call is bypassed (no_rule); leave `rules` out for the default one"
    ] == document["warnings"]


def test_check_says_where_the_key_is_from(run: Terminal, tmp_path: Path) -> None:
    """Configured in the document or in a file; never what it is."""
    file = written(tmp_path, f"identity: {{key: {SECRET}{SECRET}}}\n")
    assert "configured" == run.json("check", file)["plan"]["identity key"]  # type: ignore[index]  # checked by value
    key = tmp_path / "key"
    key.write_text(SECRET * 2)
    file = written(tmp_path, f"identity: {{key_file: {key}}}\n")
    code, out, _ = run("check", file)
    assert 0 == code
    # A long path is folded.
    assert f"readfrom{key}" in "".join(out.split())
    assert SECRET not in out


def test_check_of_an_empty_document_says_embedded_defaults(run: Terminal, tmp_path: Path) -> None:
    """Anonymous callers share there, and the plan says so."""
    code, out, _ = run("check", written(tmp_path, "{}"))
    assert 0 == code
    assert "embedded defaults: good" in out
    assert "all callers without any of them share" in out
    assert str(tmp_path / "state" / "aicache" / "cache.db") in out


def test_check_of_shared_callers_without_credentials(run: Terminal, tmp_path: Path) -> None:
    """A rule that looks at no credential shares with everyone, and says so."""
    rule = "{anonymous: shared, scope: {credentials: [], parameters: []}, ttl_jitter: 0, keep_tool_calls: false}"
    document = run.json("check", written(tmp_path, f"rules: [{rule}]\n"))
    assert isinstance(document["rules"], list)
    (shown,) = document["rules"]
    assert "all callers, on the same route and host" == shown["shared by"]
    assert ("1 h", "not kept") == (shown["kept for"], shown["tool calls"])


def test_check_of_a_bad_file_ends_with_1_and_a_line_for_each_fault(run: Terminal, tmp_path: Path) -> None:
    """File and line, field and way out; no traceback, nothing on standard output."""
    file = written(tmp_path, "listen: nonsense\nnear:\n  bytes_max: -1\nunknown: 1\n")
    code, out, err = run("check", file)
    assert (1, "") == (code, out)
    lines = err.splitlines()
    assert 3 == len(lines)
    assert all(line.startswith(f"aicache: {file}:") for line in lines)
    assert any(f"{file}:3: near.bytes_max" in line for line in lines)


def test_check_of_a_file_that_is_not_there(run: Terminal) -> None:
    """One line that names it."""
    code, _, err = run("check", "/nonexistent.yaml")
    assert 1 == code
    (line,) = err.splitlines()
    assert line.startswith("aicache: /nonexistent.yaml: cannot be read")


def test_check_names_the_workers(run: Terminal, tmp_path: Path) -> None:
    """Every endpoint, also a derived one; that limits hold for each, and that memory is not shared."""
    document = run.json("check", written(tmp_path, "listen: unix:/run/x.sock\nworkers: 3\nstore: {type: memory}\n"))
    plan = document["plan"]
    assert isinstance(plan, dict)
    assert (
        "unix:/run/x.sock, unix:/run/x-1.sock and unix:/run/x-2.sock for Envoy (gRPC), "
        "one for each of 3 worker processes; the limits hold for each"
    ) == plan["listens"]
    assert [
        (
            "store: each of the 3 workers keeps its own answers in memory, where the others do not find them; "
            "`store: {type: sqlite}` is shared by all of them"
        )
    ] == document["warnings"]
    assert [] == run.json("check", written(tmp_path, "workers: 2\nrules: [{}]\n"))["warnings"]


REDIS = "{type: redis, url: redis://cache.test}"


@pytest.mark.parametrize(
    ("store", "expected"),
    [
        (REDIS, "Redis cache.test; its own maxmemory policy makes room"),
        ("{type: redis, url: redis://me@cache.test:6380/2}", "Redis cache.test:6380, database 2; its own"),
        ("{type: redis, url: 'unix:///run/redis.sock'}", "Redis /run/redis.sock; its own"),
        ("{type: redis, url: rediss://cache.test}", "Redis cache.test over TLS; its own"),
        (
            "{type: redis, url: rediss://cache.test, tls: {verify: false}}",
            "Redis cache.test over TLS, its certificate NOT verified; its own",
        ),
        (
            "{type: redis, url: [redis://a.test:1, redis://b.test:2], cluster: true}",
            "Redis Cluster found through a.test:1 and b.test:2; its own",
        ),
        (
            "{type: redis, url: [redis://a.test/1, redis://b.test/1], sentinel: {master: main}, password: sk-canary}",
            'Redis master "main" named by the sentinels a.test and b.test, database 1; its own',
        ),
    ],
    ids=["plain", "port and database", "socket", "TLS", "unverified", "cluster", "sentinel"],
)
def test_check_says_which_redis(run: Terminal, tmp_path: Path, store: str, expected: str) -> None:
    """Where it is, how it is found and how it is reached; never as whom with which password."""
    document = run.json("check", written(tmp_path, f"store: {store}\n"))
    plan = document["plan"]
    assert isinstance(plan, dict)
    assert expected in plan["store"]
    assert "made at the first start" in plan["identity key"]
    assert "me@" not in str(document)
    assert "canary" not in str(document)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (f"store: {REDIS}", "or with client tracking as soon as it changes; empty while Redis is away"),
        (f"store: {REDIS.replace('}', ', tracking: false}')}", "64 MiB, read again from the store after 1 min"),
        (f"store: {REDIS}\nnear: {{bytes_max: 0}}", "off"),
        ("store: {type: memory}", "64 MiB, read again from the store after 1 min"),
    ],
    ids=["tracking", "without", "off", "another store"],
)
def test_check_says_how_long_near_copies_live(run: Terminal, tmp_path: Path, settings: str, expected: str) -> None:
    """Until something changes only where changes are told."""
    plan = run.json("check", written(tmp_path, f"{settings}\n"))["plan"]
    assert isinstance(plan, dict)
    assert plan["near copy"].endswith(expected)


def test_check_says_where_spans_go_and_what_has_a_price(run: Terminal, tmp_path: Path) -> None:
    """Both are off by default; what a collector asks for is shown nowhere."""
    plan = run.json("check", written(tmp_path, "store: {type: memory}\n"))["plan"]
    assert isinstance(plan, dict)
    assert "off" == plan["spans"]
    assert plan["prices"].startswith("none")
    settings = "prices: [{model: 'gpt-*'}, {model: o3}]\n"
    settings += "tracing: {endpoint: 'http://collector.test:4318', ratio: 0.25, authorization: Bearer canary}\n"
    plan = run.json("check", written(tmp_path, settings))["plan"]
    assert isinstance(plan, dict)
    expected = "to http://collector.test:4318/v1/traces, as callers sample; 0.25 of the calls that belong to no trace"
    assert expected == plan["spans"]
    assert "of gpt-* and o3; other models have none" == plan["prices"]
    assert "canary" not in str(plan)


def test_check_says_what_encrypts(run: Terminal, tmp_path: Path) -> None:
    """By the ids of the keys, in their order; the keys themselves nowhere."""
    expected = [
        "off: the store holds answers in clear",
        "AES-256-GCM under key a",
        "AES-256-GCM under key a; b and c still read",
    ]
    keys = [f'{{id: {name}, key: "{name * 64}"}}' for name in "abc"]
    for count, words in zip((0, 1, 3), expected, strict=True):
        file = written(tmp_path, f"encryption: {{keys: [{', '.join(keys[:count])}]}}\n")
        code, out, _ = run("check", file)
        assert 0 == code
        assert words in " ".join(out.split())
        assert "aaaa" not in out


@pytest.mark.parametrize(
    ("settings", "what", "fix"),
    [
        ("rules: [{anonymous: shared}]", "all requests without a credential share one scope", "anonymous: shared"),
        ("rules: [{scope: {credentials: [x-team]}}]", "callers that differ only in authorization", "`scope`"),
        ("rules: [{scope: {route: false}}]", "callers on different routes share", "`scope`"),
        ("store: {type: redis, url: redis://cache.test}", "cross the network in clear", "rediss://"),
        ("store: {type: redis, url: 'redis://10.0.0.1:6379'}", "10.0.0.1:6379: answers and the", "rediss://"),
        ("store: {type: redis, url: rediss://cache.test, tls: {verify: false}}", "verify is false", "ca_file"),
        ("store: {type: redis, url: rediss://cache.test, tls: {check_hostname: false}}", "any server with", "names"),
        ("store: {type: redis, url: 'redis://localhost'}\nkey_prefix: ''", "key_prefix is empty", "aicache:"),
        ("listen: 0.0.0.0:50051\ninsecure_listen: true", "read and fill the cache", "127.0.0.1"),
        ("rules: [{ttl_s: 86400}]", "models and facts change", "ttl_s: 3600"),
        ("rules: [{ignore_upstream_cache_control: true}]", "private or no-store are kept", "leave out"),
        ("rules: [{controls: {honour: []}}]", "are kept all the same", "controls.honour"),
        ("workers: 2\nstore: {type: memory}", "keeps its own answers in memory", "sqlite"),
        ("rules: []", "there is no rule", "leave `rules` out"),
        ("rules: [{name: a}, {name: b}]", "applies only where a route names it", 'put it before "a"'),
    ],
    ids=[
        "anonymous shared",
        "credentials left out",
        "route left out",
        "plaintext Redis",
        "plaintext Redis by address",
        "unverified",
        "any host",
        "no prefix",
        "open port",
        "long lifetime",
        "against the upstream",
        "no-store ignored",
        "lonely workers",
        "no rule",
        "never reached",
    ],
)
def test_check_names_each_danger_and_its_fix(run: Terminal, tmp_path: Path, settings: str, what: str, fix: str) -> None:
    """What comes of a setting, and what to write instead."""
    warnings = run.json(
        "check", written(tmp_path, f"{settings}\n" if "rules" in settings else f"{settings}\nrules: [{{}}]\n")
    )
    lines = warnings["warnings"]
    assert isinstance(lines, list)
    assert [True] == [fix in line.partition("; ")[2] for line in lines if what in line], lines


def test_a_lifetime_of_nothing_is_refused(run: Terminal, tmp_path: Path) -> None:
    """0 is neither for ever nor a way to turn the cache off."""
    code, out, err = run("check", written(tmp_path, "rules: [{ttl_s: 0}]\n"))
    assert (1, "") == (code, out)
    assert "rules[0].ttl_s" in err


def test_a_wait_that_envoy_cuts_short_is_refused(run: Terminal, tmp_path: Path) -> None:
    """With Envoy's own 200 ms no identical request can be waited for."""
    code, _, err = run("check", written(tmp_path, "lookup: {flight_wait_ms: 5000}\n"))
    assert 1 == code
    assert "max_message_timeout" in err


@pytest.mark.parametrize(
    "settings",
    [
        "store: {type: redis, url: 'redis://127.0.0.1'}",
        "store: {type: redis, url: 'redis://localhost:6379'}",
        "store: {type: redis, url: 'redis://[::1]:6379'}",
        "store: {type: redis, url: 'unix:///run/redis.sock'}",
        "store: {type: redis, url: 'rediss://cache.test'}",
    ],
    ids=["loopback", "localhost", "IPv6", "socket", "TLS"],
)
def test_a_redis_that_nobody_listens_in_on_is_no_danger(run: Terminal, tmp_path: Path, settings: str) -> None:
    """On this machine, or over TLS."""
    assert [] == run.json("check", written(tmp_path, f"{settings}\nrules: [{{}}]\n"))["warnings"]


def test_services_over_http_are_dangers_of_their_own() -> None:
    """In clear beyond this machine, unverified, or where clouds keep credentials."""

    class Service(HttpService):
        pass

    class Around(Section):
        near: Service
        far: Service
        blind: Service

    around = Around(
        near=Service(url="http://127.0.0.1:8080"),
        far=Service(url="http://embed.test"),
        blind=Service(url="https://embed.test", tls=HttpTls(verify=False), allow_link_local=True),
    )
    found = list(service_dangers(around))
    assert ["far.url embed.test", "blind.tls.verify is false", "blind.allow_link_local"] == [
        danger.what.partition(":")[0] for danger in found
    ]
    assert ["https://", "blind.tls.ca_file", "another range"] == [
        words
        for danger, words in zip(found, ("https://", "blind.tls.ca_file", "another range"), strict=True)
        if words in danger.fix
    ]
