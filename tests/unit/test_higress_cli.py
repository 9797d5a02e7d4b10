"""Higress documents on the command line: `check`, `convert`, `explain`, and what `serve` is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from ai_cache_extproc.config.load import Loaded, load
from ai_cache_extproc.config.model import RedisStore
from ai_cache_extproc.telemetry import logs
from tests.support.terminal import Terminal, terminal

FOLDER = Path(__file__).parent / "higress_documents"
DOCUMENTS = sorted(path.name for path in FOLDER.glob("*.*"))
STATIC = ("--host", "redis.static=10.0.0.7:6379")
TOLD = {"redis.static=10.0.0.7:6379"}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Terminal:
    """A terminal of its own."""
    return terminal(capsys, monkeypatch, tmp_path)


def given(folder: Path, text: str) -> str:
    """A document in a file; its path."""
    path = folder / "ai-cache.yaml"
    path.write_text(text)
    return str(path)


def test_check_explains_a_document_in_words(run: Terminal) -> None:
    """What is asked and kept and how, each danger with the line that takes it away, the timeout that is not waited for."""
    file = str(FOLDER / "redis.yaml")
    code, out, err = run("check", file)
    text = " ".join(out.split())
    assert (0, "") == (code, err)
    for words in (
        f"{file}: good, a document of Higress' ai-cache",
        "Redis my-redis:6379;",
        "rule default for every JSON request",
        "question what stands at `messages.@reverse.0.content`",
        "the text at `choices.0.message.content`, in the events of a stream at `choices.0.delta.content`",
        "none with anything at `choices.0.delta.tool_calls`",
        "kept as `higress-ai-cache:<question>`, with the text as its value, both in clear",
        "kept for ever",
        "shared by all callers, whatever their tenant, model and route, as in Higress",
        "tool calls not kept",
        f"of the document {file}:3: redis.timeout: 2000 ms is longer than a lookup may take; 50 ms hold",
        "share one key space without tenant or model, as in Higress; `scope: credential` gives each caller their own",
        "answers never expire; `cacheTTL: 3600` lets them live for an hour",
    ):
        assert words in text


def test_check_of_a_careful_document_warns_of_the_wire_alone(run: Terminal, tmp_path: Path) -> None:
    """With a lifetime and a scope there is nothing else to think about twice."""
    text = "redis: {serviceName: my-redis.dns, timeout: 20}\ncacheTTL: 3600\nscope: credential\ncacheKeyStrategy: allQuestions"
    document = run.json("check", given(tmp_path, text))
    assert ("higress", []) == (document["dialect"], document["notes"])
    assert [
        (
            "store.url my-redis:6379: answers and the password cross the network in clear; "
            "a document of ours (`aicache convert`) can begin it with rediss:// (TLS)"
        )
    ] == document["warnings"]
    rules: Any = document["rules"]
    (rule,) = rules
    assert "1 h" == rule["kept for"]
    assert "the texts of all messages with the role user, a line each" == rule["question"]
    assert rule["kept as"].startswith("`higress-ai-cache:<caller>:<question>`, ")
    assert rule["shared by"].startswith("callers with the same authorization, ")


def test_check_prints_notes_for_programs(run: Terminal) -> None:
    """Where, what and the way out, each by itself."""
    file = str(FOLDER / "redis.yaml")
    assert [
        {
            "source": f"{file}:3",
            "path": "redis.timeout",
            "text": "2000 ms is longer than a lookup may take; 50 ms hold, then the request goes upstream",
            "fix": "AICACHE__LOOKUP__DEADLINE_MS with AICACHE__STORE__TIMEOUT_MS allow more",
        }
    ] == run.json("check", file)["notes"]


def test_check_names_routes_hosts_and_clusters(run: Terminal) -> None:
    """Each part of a resource says which requests it is for."""
    rules: Any = run.json("check", str(FOLDER / "wasmplugin.yaml"))["rules"]
    assert [
        "route default/llm or chat",
        "host *.example.com or llm.test",
        "cluster *|*|*|llm.internal.dns or *|443|*|qwen.dns",
        "every JSON request",
    ] == [rule["for"] for rule in rules]


def test_check_of_a_native_template_says_so_too(run: Terminal, tmp_path: Path) -> None:
    """The same topics, without the form that is Higress'."""
    rule = "{name: api, template: {question_path: prompt}, match: {clusters: [api]}, ttl_s: 60}"
    document = run.json("check", given(tmp_path, f"rules: [{rule}]"))
    rules: Any = document["rules"]
    assert "what stands at `prompt`" == rules[0]["question"]
    assert ("cluster api", "native", "not kept") == (rules[0]["for"], document["dialect"], rules[0]["tool calls"])
    assert "kept as" not in rules[0]


def test_check_of_a_native_rule_without_an_end_names_its_own_setting(run: Terminal, tmp_path: Path) -> None:
    """A converted document has `ttl_s`."""
    rule = "{template: {}, higress: {share: credential}, ttl_s: null}"
    document = run.json("check", given(tmp_path, f"rules: [{rule}]"))
    assert ['rule "default": answers never expire; `ttl_s: 3600` lets them live for an hour'] == document["warnings"]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_check_shows_no_secret(run: Terminal, name: str) -> None:
    """Neither in words nor for programs."""
    for arguments in ((), ("--output", "json")):
        code, out, err = run("check", str(FOLDER / name), *STATIC, *arguments)
        assert 0 == code
        assert "canary" not in out + err
        assert "31337" not in out + err


def test_check_says_what_cannot_be_found(run: Terminal) -> None:
    """One line, the way out in it, exit code 1; with the address told it is good."""
    code, out, err = run("check", str(FOLDER / "demo.yaml"))
    assert (1, "") == (code, out)
    assert (
        f'aicache: {FOLDER}/demo.yaml:10: redis.serviceName: "redis.static" is known to the gateway alone; say where it '
        "is: `--host redis.static=HOST:PORT`, or AICACHE_HOSTS\n"
    ) == err
    assert 0 == run("check", str(FOLDER / "demo.yaml"), *STATIC)[0]


@pytest.mark.parametrize("name", DOCUMENTS)
@pytest.mark.parametrize("form", ["yaml", "json"])
def test_what_convert_prints_loads_as_the_same_configuration(
    run: Terminal, tmp_path: Path, name: str, form: str
) -> None:
    """Secrets, templates, rules and budgets included."""
    arguments = () if form == "yaml" else ("--output", "json")
    code, out, err = run("convert", "higress", str(FOLDER / name), *STATIC, *arguments)
    assert (0, "") == (code, err)
    printed = tmp_path / f"aicache.{form}"
    printed.write_text(out)
    again = load(printed, environ={})
    assert "native" == again.dialect
    assert load(FOLDER / name, environ={}, flags={"hosts": tuple(TOLD)}).config == again.config


def test_convert_says_beside_the_document_what_there_is_to_say(run: Terminal) -> None:
    """The notes of `check` stand as comments before it, and that there are secrets in it."""
    _, out, _ = run("convert", "higress", str(FOLDER / "legacy.yaml"))
    comments = [line for line in out.splitlines() if line.startswith("#")]
    assert [
        f"# From {FOLDER}/legacy.yaml by `aicache convert higress`.",
        "# It holds the secrets of that file.",
    ] == comments[:2]
    assert comments[2].startswith(f"# {FOLDER}/legacy.yaml:7: cacheKeyPrefix: holds here, ")
    assert out.startswith("#")
    assert "password: canary" in out


def test_convert_masks_secrets_when_asked(run: Terminal) -> None:
    """The result is for people to see."""
    _, out, _ = run("convert", "higress", str(FOLDER / "legacy.yaml"), "--redact")
    assert "canary" not in out
    assert "# Its secrets are masked: put them in before use.\n" in out
    assert "**********" == yaml.safe_load(out)["store"]["password"]
    code, out, _ = run("convert", "higress", str(FOLDER / "legacy.yaml"), "--redact", "--output", "json")
    assert (0, "**********") == (code, json.loads(out)["store"]["password"])


def test_convert_says_nothing_of_secrets_where_there_are_none(run: Terminal) -> None:
    """A Redis without a password has none."""
    _, out, _ = run("convert", "higress", str(FOLDER / "redis.yaml"))
    assert "secret" not in out
    assert "canary" not in out


def test_convert_takes_what_belongs_to_the_translation_alone(
    run: Terminal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Scope and places of services are part of it; settings that will win at every start stay outside."""
    monkeypatch.setenv("AICACHE_SCOPE", "credential")
    monkeypatch.setenv("AICACHE_HOSTS", "redis.static=10.0.0.7:6379")
    monkeypatch.setenv("AICACHE__ADMIN", "unix:/run/admin.sock")
    monkeypatch.setenv("AICACHE__NEER", "1")
    code, out, _ = run("convert", "higress", str(FOLDER / "demo.yaml"))
    document = yaml.safe_load(out)
    assert (0, "redis://10.0.0.7:6379") == (code, document["store"]["url"])
    assert "credential" == document["rules"][0]["higress"]["share"]
    assert "admin" not in document


def test_convert_of_what_is_none_of_higress_is_refused(run: Terminal, tmp_path: Path) -> None:
    """A document of ours, or an empty one."""
    for text in ("log: {level: debug}\n", ""):
        file = given(tmp_path, text)
        code, out, err = run("convert", "higress", file)
        assert (1, "") == (code, out)
        assert f"aicache: {file}: is no document of Higress; `aicache check` says what it is\n" == err


def test_convert_of_a_bad_document_ends_with_1_and_a_line_for_each_fault(run: Terminal) -> None:
    """The errors are those of `check`."""
    file = str(FOLDER / "faults" / "several.yaml")
    code, out, err = run("convert", "higress", file)
    assert (1, "") == (code, out)
    assert 3 == len(err.splitlines())
    assert 2 == run("convert", "kong", file)[0]


def test_explain_follows_a_question_through_a_document(run: Terminal, tmp_path: Path) -> None:
    """`--host` is the authority, and with an equals sign in it the place of a service."""
    body = tmp_path / "body.json"
    body.write_text(json.dumps({"messages": [{"role": "user", "content": "hello"}]}))
    asked = ("explain", "-c", str(FOLDER / "demo.yaml"), "-r", str(body), "--path", "/any")
    document = run.json(*asked, *STATIC, "--host", "llm.test")
    assert ("lookup", "default") == (document["outcome"], document["rule"])
    assert 1 == run(*asked, "--host", "llm.test")[0]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Loaded]:
    """What `serve` would serve, and what it would read again on a reload."""
    loadings: list[Loaded] = []

    def serve(loaded: Loaded, *, reload: Callable[[], Loaded]) -> None:
        loadings.extend((loaded, reload()))

    monkeypatch.setattr("ai_cache_extproc.app.serve", serve)
    monkeypatch.setattr(logs, "hook_exceptions", lambda: None)
    return loadings


def test_serve_says_that_a_document_without_surprises_was_read(
    run: Terminal, served: list[Loaded], tmp_path: Path
) -> None:
    """One line all the same, which is no warning then."""
    _, _, err = run("serve", "--config", given(tmp_path, "redis: {serviceName: my-redis.dns, timeout: 9}\n"))
    (line,) = [json.loads(line) for line in err.splitlines()]
    assert ("config_translated", "info", []) == (line["event"], line["level"], line["notes"])
    assert 2 == len(served)


def test_serve_takes_places_of_services_and_says_what_it_read(run: Terminal, served: list[Loaded]) -> None:
    """The flags reach every reading of the file; one line says what holds otherwise than it reads."""
    file = str(FOLDER / "demo.yaml")
    code, _, err = run("serve", "--config", file, *STATIC)
    assert 0 == code
    first, again = served
    assert first.config == again.config
    assert isinstance(first.config.store, RedisStore)
    assert ("redis://10.0.0.7:6379",) == first.config.store.url
    (line,) = [json.loads(line) for line in err.splitlines()]
    assert ("config_translated", "warning", "higress", file) == (
        line["event"],
        line["level"],
        line["dialect"],
        line["path"],
    )
    assert [f"{file}:11", f"{file}:1"] == [note.partition(": ")[0] for note in line["notes"]]
