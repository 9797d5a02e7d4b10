"""`aicache explain`: what the sidecar would do with a request, in the sidecar's own words."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import orjson
import pytest

from ai_cache_extproc.model import Reason
from tests.support.terminal import Terminal, terminal, written

SECRET = "sk-canary-0123456789"
BODY = {"model": "gpt-test", "messages": [{"role": "user", "content": "What is a star?"}]}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Terminal:
    """A terminal of its own."""
    return terminal(capsys, monkeypatch, tmp_path)


@pytest.fixture
def body(tmp_path: Path) -> str:
    """A chat question in a file."""
    path = tmp_path / "body.json"
    path.write_bytes(orjson.dumps(BODY))
    return str(path)


def test_explain_shows_what_a_lookup_would_ask_for(run: Terminal, body: str) -> None:
    """Dialect, rule, scope, question, fingerprint; no content and no credential."""
    code, out, err = run("explain", "--request", body, "--header", f"Authorization: Bearer {SECRET}")
    assert (0, "") == (code, err)
    for words in (
        "lookup",
        "openai_chat",
        "default",
        "authorization",
        "gpt-test",
        "looked up; goes upstream on a miss",
    ):
        assert words in out
    assert "star" not in out
    assert SECRET not in out


def test_explain_tells_the_entry_where_the_key_is_configured(run: Terminal, body: str, tmp_path: Path) -> None:
    """The same 32 hex digits as in X-AI-Cache-Key; another credential has another scope and entry."""
    file = written(tmp_path, f"identity: {{key: {SECRET}{SECRET}}}\n")

    def explained(credential: str) -> dict[str, object]:
        return run.json("explain", "-c", file, "-r", body, "-H", f"x-api-key: {credential}")

    one, same, other = explained("one"), explained("one"), explained("other")
    assert one == same
    assert "configured" == one["key"]
    assert 32 == len(str(one["entry"]))
    assert 64 == len(str(one["fingerprint"]))
    assert one["fingerprint"] == other["fingerprint"]
    assert one["scope"] != other["scope"]
    assert one["entry"] != other["entry"]
    assert ["x-api-key"] == one["credentials"]
    assert {
        "model": "gpt-test",
        "mode": "json",
        "choices": 1,
        "usage_chunk": False,
        "fields": ["messages", "model"],
    } == {
        name: value
        for name, value in one["question"].items()  # type: ignore[attr-defined]  # a mapping
        if name != "body"
    }


def test_explain_reads_the_key_beside_the_sqlite_file(run: Terminal, body: str, tmp_path: Path) -> None:
    """It is found where the sidecar keeps it, and never made here."""
    file = written(tmp_path, f"store: {{path: {tmp_path}/cache.db}}\nrules: [{{anonymous: shared}}]\n")
    document = run.json("explain", "-c", file, "-r", body)
    assert document["entry"] is None
    assert f"not readable here; the sidecar keeps it in {tmp_path}/cache.db.key" == document["key"]
    (tmp_path / "cache.db.key").write_bytes(b"k" * 32)
    document = run.json("explain", "-c", file, "-r", body)
    assert 32 == len(str(document["entry"]))
    assert f"{tmp_path}/cache.db.key" == document["key"]


def test_explain_of_a_memory_store_has_no_entry(run: Terminal, body: str, tmp_path: Path) -> None:
    """Its key ends with the process."""
    document = run.json("explain", "-c", written(tmp_path, "store: {type: memory}"), "-r", body, "-H", "api-key: x")
    assert ("lookup", None) == (document["outcome"], document["entry"])


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "no_credential"),
        (["-H", "x-higress-skip-ai-cache: on"], "skip_header"),
        (["-H", "Cache-Control: max-age=5", "-H", "cache-control: no-store"], "no_store"),
        (["-H", "content-encoding: gzip"], "request_encoded"),
        (["-H", "content-length: 99999999"], "request_too_large"),
        (["--host", "off.test", "-H", "api-key: x"], "rule_disabled"),
        (["--host", "elsewhere.test", "-H", "api-key: x"], "no_rule"),
    ],
)
def test_explain_gives_the_sidecars_own_reason(
    run: Terminal, body: str, tmp_path: Path, arguments: list[str], reason: str
) -> None:
    """The word that X-AI-Cache-Reason would have."""
    rules = "[{name: a, match: {hosts: [localhost]}}, {name: b, enabled: false, match: {hosts: [off.test]}}]"
    document = run.json("explain", "-c", written(tmp_path, f"rules: {rules}"), "-r", body, *arguments)
    assert ("bypass", reason) == (document["outcome"], document["reason"])
    assert reason in list(Reason)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "not_json"),
        (b'{"model":"m","model":"m"}', "duplicate_key"),
        (b"[" * 100_000, "too_deep"),
        (b'{"model":1}', "not_understood"),
        (b" " * 5_000_000, "request_too_large"),
    ],
)
def test_explain_reads_the_body_as_the_sidecar_does(run: Terminal, tmp_path: Path, content: bytes, reason: str) -> None:
    """A body that is not taken gives the reason; the fingerprint stays open."""
    path = tmp_path / "body.json"
    path.write_bytes(content)
    arguments = ["-H", "transfer-encoding: chunked", "-H", f"content-length: {min(len(content), 9)}"]
    document = run.json("explain", "-r", str(path), *arguments)
    assert ("bypass", reason, None) == (document["outcome"], document["reason"], document["fingerprint"])


@pytest.mark.parametrize(
    ("arguments", "detail"),
    [
        (["--method", "GET"], "GET is no way to ask a question"),
        (["--path", "/v1/models"], "no dialect knows this path"),
        (["-H", "content-type: text/plain"], "its content type is not application/json"),
    ],
)
def test_explain_says_what_is_no_llm_call(run: Terminal, body: str, arguments: list[str], detail: str) -> None:
    """It passes untouched, without any header of ours."""
    document = run.json("explain", "-r", body, *arguments)
    assert ("untouched", None) == (document["outcome"], document["reason"])
    assert str(document["detail"]).startswith(detail)


def test_explain_of_an_empty_body(run: Terminal, tmp_path: Path) -> None:
    """Without a body there is nothing to look up."""
    (tmp_path / "empty").write_bytes(b"")
    assert "it has no body" == run.json("explain", "-r", str(tmp_path / "empty"))["detail"]


def test_explain_of_a_client_that_wants_a_fresh_answer(run: Terminal, body: str) -> None:
    """no-cache goes upstream and is kept; the query's credential says who is calling."""
    document = run.json("explain", "-r", body, "-H", "cache-control: no-cache", "--path", "/v1/chat/completions?key=x")
    assert ("refresh", ["?key="]) == (document["outcome"], document["credentials"])


def test_explain_reads_standard_input(run: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """`-` is the body piped in."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(orjson.dumps(BODY))))
    assert "lookup" == run.json("explain", "-r", "-")["outcome"]


@pytest.mark.parametrize("arguments", [["-r", "/nonexistent.json"], ["-r", "/dev/null", "-H", "nonsense"]])
def test_explain_refuses_wrong_usage(run: Terminal, arguments: list[str]) -> None:
    """A body that cannot be read and a header without a colon."""
    code, out, err = run("explain", *arguments)
    assert (2, "") == (code, out)
    assert "--request" in err or "--header" in err


ASKING = (
    "rules: [{controls: {honour: [max-age, min-fresh, only-if-cached, no-cache], ttl_header: x-ttl}, tags: [docs]}]"
)


@pytest.mark.parametrize(
    ("headers", "outcome", "asked"),
    [
        (["cache-control: max-age=60", "x-ttl: 30"], "lookup", {"max_age_s": 60, "ttl_s": 30}),
        (["cache-control: no-store", "x-ttl: soon"], "lookup", {"ignored": ["x-ttl"]}),
        (["cache-control: min-fresh=soon"], "lookup", {"min_fresh_s": "forever"}),
        (["cache-control: only-if-cached"], "only_kept", {"only_if_cached": True}),
        (["cache-control: max-age=0"], "refresh", {"refresh": True, "max_age_s": 0}),
        (["cache-control: only-if-cached, no-cache"], "unanswered", {"refresh": True, "only_if_cached": True}),
    ],
)
def test_explain_says_what_the_client_asks(
    run: Terminal, body: str, tmp_path: Path, headers: list[str], outcome: str, asked: dict[str, object]
) -> None:
    """What the rule honours, as it was understood; what it does not honour is not there."""
    arguments = [word for field in headers for word in ("-H", field)]
    document = run.json("explain", "-c", written(tmp_path, ASKING), "-r", body, "-H", "api-key: x", *arguments)
    assert (outcome, asked) == (document["outcome"], document["asked"])
    assert ("only_if_cached" if outcome == "unanswered" else None) == document["reason"]


@pytest.mark.parametrize(
    ("credential", "content", "reason"),
    [("anything: else", b"{}", "no_credential"), ("api-key: x", b"{", "not_json")],
    ids=["by its headers", "by its body"],
)
def test_explain_of_a_request_that_may_not_go_upstream(
    run: Terminal, tmp_path: Path, credential: str, content: bytes, reason: str
) -> None:
    """What would be a bypass is a 504, with the same word."""
    path = tmp_path / "body.json"
    path.write_bytes(content)
    headers = ["-H", credential, "-H", "cache-control: only-if-cached"]
    document = run.json("explain", "-c", written(tmp_path, ASKING), "-r", str(path), *headers)
    assert ("unanswered", reason) == (document["outcome"], document["reason"])


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        ([], None),
        (["--answer-status", "200"], {"kept": True, "tags": ["docs"], "bytes_max": 4 * 1024 * 1024}),
        (["--answer-status", "500"], {"kept": False, "reason": "status"}),
        (["--answer-header", "content-type: text/html"], {"kept": False, "reason": "content_type"}),
        (["--answer-cluster", "other"], {"kept": True, "tags": ["docs"], "bytes_max": 4 * 1024 * 1024}),
    ],
)
def test_explain_says_what_becomes_of_an_answer(
    run: Terminal, body: str, tmp_path: Path, arguments: list[str], answer: object
) -> None:
    """From its status, headers and cluster alone."""
    document = run.json("explain", "-c", written(tmp_path, ASKING), "-r", body, "-H", "api-key: x", *arguments)
    assert answer == document["answer"]


def test_explain_refuses_an_answer_header_without_a_colon(run: Terminal, body: str) -> None:
    """And names the option that it was given with."""
    code, _, err = run("explain", "-r", body, "--answer-header", "nonsense")
    assert 2 == code
    assert "--answer-header" in err
