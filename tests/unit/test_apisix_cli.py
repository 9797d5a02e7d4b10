"""APISIX documents on the command line: `check`, `convert`, `explain`, and what `serve` logs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from ai_cache_extproc.config.load import load
from tests.support.terminal import Terminal, terminal

FOLDER = Path(__file__).parent / "apisix_documents"
DOCUMENTS = sorted(path.name for path in FOLDER.glob("*.*"))
ENVIRON = {"REDIS_PASSWORD": "canary-31337"}
WARM = "redis_host: 127.0.0.1\nredis_timeout: 50\napisix: {route_id: '1', model: gpt-4o}\n"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Terminal:
    """A terminal of its own, with the variable that a document names."""
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    return terminal(capsys, monkeypatch, tmp_path)


def given(folder: Path, text: str) -> str:
    """A document in a file; its path."""
    path = folder / "ai-cache.yaml"
    path.write_text(text)
    return str(path)


def test_check_explains_a_document_in_words(run: Terminal) -> None:
    """What is kept, for whom, and each thing that holds otherwise than it reads."""
    file = str(FOLDER / "plugin.yaml")
    code, out, err = run("check", file)
    text = " ".join(out.split())
    assert (0, "") == (code, err)
    for words in (
        f"{file}: good, a document of APISIX's ai-cache",
        "Redis redis.example.com:6380 over TLS, database 2;",
        "kept for 10 min",
        "of the document",
        f"{file}:4: cache_key: must see header x-consumer-username, header x-tenant, which the shipped envoy.yaml does",
        f"{file}:11: bypass_on: must see header x-cache-bypass, which the shipped envoy.yaml does not show",
        "AICACHE_APISIX_SCOPE=document shares as far as the document says",
    ):
        assert words in text


def test_check_tells_how_keys_of_the_plugin_look(run: Terminal, tmp_path: Path) -> None:
    """And that a caller stands in them unless the document is taken at its word."""
    rules: Any = run.json("check", given(tmp_path, WARM))["rules"]
    form = "`ai-cache:l1:route=<...>:caller=<...>:<fingerprint>`, in clear, as APISIX's ai-cache has it"
    assert form == rules[0]["kept as"]


def test_check_warns_of_the_documents_own_scope(run: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who shares is said under "think twice"."""
    monkeypatch.setenv("AICACHE_APISIX_SCOPE", "document")
    document = run.json("check", given(tmp_path, WARM))
    warnings = json.dumps(document["warnings"])
    assert "all requests without a credential share one scope" in warnings
    assert "callers who ask different hosts share answers, as in APISIX" in warnings
    assert ("apisix", []) == (document["dialect"], document["notes"])


def test_check_says_what_judges_neighbours(run: Terminal) -> None:
    """With its line, and what loosens it."""
    file = str(FOLDER / "semantic.yaml")
    _, out, _ = run("check", file)
    text = " ".join(out.split())
    assert (
        f"{file}:9: plugins.ai-cache.semantic: finds neighbours, of which the guards (`strict`) let those through"
        in text
    )


@pytest.mark.parametrize("name", DOCUMENTS)
def test_check_shows_no_secret(run: Terminal, name: str) -> None:
    """Neither in words nor for programs."""
    for arguments in ((), ("--output", "json")):
        code, out, err = run("check", str(FOLDER / name), *arguments)
        assert 0 == code
        for secret in ("canary", "k-1", "upstream-secret"):
            assert secret not in out + err


def test_check_of_a_bad_document_ends_with_1_and_a_line_for_each_fault(run: Terminal, tmp_path: Path) -> None:
    """With file and line, and the place in the document's words."""
    file = given(tmp_path, "redis_host: r.test\nexact: {ttl: 0}\ncache_key: {include_vars: [consumer_name]}\n")
    code, out, err = run("check", file)
    assert (1, "") == (code, out)
    advice = '"consumer_name" has no counterpart in Envoy; write `cache_key.include_consumer: true`'
    assert [
        f"aicache: {file}:2: exact.ttl: must be at least 1, not 0",
        f"aicache: {file}:3: cache_key.include_vars[0]: {advice}",
    ] == err.splitlines()


@pytest.mark.parametrize("name", DOCUMENTS)
@pytest.mark.parametrize("form", ["yaml", "json"])
@pytest.mark.parametrize("scope", ["credential", "document"])
def test_what_convert_prints_loads_as_the_same_configuration(
    run: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, form: str, scope: str
) -> None:
    """Secrets, rules, labels and budgets included."""
    monkeypatch.setenv("AICACHE_APISIX_SCOPE", scope)
    arguments = () if form == "yaml" else ("--output", "json")
    code, out, err = run("convert", "apisix", str(FOLDER / name), *arguments)
    assert (0, "") == (code, err)
    printed = tmp_path / f"aicache.{form}"
    printed.write_text(out)
    again = load(printed, environ={})
    assert "native" == again.dialect
    assert load(FOLDER / name, environ=ENVIRON | {"AICACHE_APISIX_SCOPE": scope}).config == again.config


@pytest.mark.parametrize("scope", ["credential", "document"])
def test_keys_of_the_plugin_survive_conversion(
    run: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scope: str
) -> None:
    """A converted document goes on with the same entries."""
    monkeypatch.setenv("AICACHE_APISIX_SCOPE", scope)
    text = WARM + "cache_headers: false\ncache_key: {include_consumer: true, include_vars: [http_x_t, uri]}\n"
    file = given(tmp_path, text)
    _, out, _ = run("convert", "apisix", file)
    printed = tmp_path / "aicache.yaml"
    printed.write_text(out)
    assert load(Path(file), environ={"AICACHE_APISIX_SCOPE": scope}).config == load(printed, environ={}).config


def test_convert_says_beside_the_document_what_there_is_to_say(run: Terminal) -> None:
    """The notes of `check` stand as comments before it, and that there are secrets in it; `--redact` masks them."""
    file = str(FOLDER / "plugin.yaml")
    _, out, _ = run("convert", "apisix", file)
    comments = [line for line in out.splitlines() if line.startswith("#")]
    assert [f"# From {file} by `aicache convert apisix`.", "# It holds the secrets of that file."] == comments[:2]
    assert "canary-31337" == yaml.safe_load(out)["store"]["password"]
    _, out, _ = run("convert", "apisix", file, "--redact")
    assert "canary" not in out


@pytest.mark.parametrize(
    ("form", "name", "whose"),
    [
        ("higress", "apisix_documents/plugin.yaml", "Higress"),
        ("apisix", "higress_documents/redis.yaml", "APISIX"),
    ],
    ids=["not Higress", "not APISIX"],
)
def test_convert_of_the_others_document_is_refused(run: Terminal, form: str, name: str, whose: str) -> None:
    """Each form names its own."""
    file = str(FOLDER.parent / name)
    code, out, err = run("convert", form, file)
    assert (1, "") == (code, out)
    assert f"aicache: {file}: is no document of {whose}; `aicache check` says what it is\n" == err


def test_explain_follows_a_question_through_a_document(
    run: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same words as the header has."""
    monkeypatch.setenv("AICACHE__IDENTITY__KEY", "k" * 32)
    body = tmp_path / "body.json"
    body.write_text(json.dumps({"model": "m", "messages": [{"role": "user", "content": "Why?"}]}))
    file = given(tmp_path, WARM + "bypass_on: [{header: x-no, equals: '1'}]\n")
    asked = ("explain", "--config", file, "--request", str(body), "--header", "authorization: Bearer x")
    found = run.json(*asked)
    assert ("lookup", "openai_chat", "default") == (found["outcome"], found["dialect"], found["rule"])
    assert isinstance(found["entry"], str)
    assert "bypass_on" == run.json(*asked, "--header", "x-no: 1")["reason"]
