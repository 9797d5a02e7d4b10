"""Requests from JSON lines: our own, an OpenAI batch, an access log."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from ai_cache_extproc.cli.request_lines import BadLine, Requested, lines_of, requested

BODY = {"model": "m", "messages": []}


def line(document: object) -> Requested:
    """The request of a line that says this."""
    return requested(json.dumps(document).encode(), 7, {"authorization": "Bearer x", "a": "from outside"})


def test_a_request_is_as_it_was_sent() -> None:
    """Names of headers in lower case; what comes from outside only where it is lacking."""
    asked = line(
        {
            "method": "post",
            "path": "/v1/messages?beta=true",
            "headers": {"A": "own", "X-Many": ["1", "2"], "Host": "llm.test"},
            "body": BODY,
            "time_s": 12.5,
            "status": 429,
            "answer_headers": {"Cache-Control": "no-store"},
        }
    )
    assert ("POST", "/v1/messages?beta=true", "llm.test") == (asked.method, asked.path, asked.authority)
    assert {
        "content-type": "application/json",
        "authorization": "Bearer x",
        "a": "own",
        "x-many": "1, 2",
    } == asked.headers
    assert BODY == json.loads(asked.body or b"")
    assert (12.5, 429, {"cache-control": "no-store"}) == (asked.time_s, asked.status, asked.answer_headers)


def test_a_body_as_text_stays_as_it_is() -> None:
    """To the byte: what a client writes may be no good JSON."""
    assert b'{"a": 1, "a": 2}' == line({"body": '{"a": 1, "a": 2}'}).body


def test_little_is_enough() -> None:
    """A chat completion, of nobody in particular, at no time."""
    asked = line({"body": BODY})
    assert ("POST", "/v1/chat/completions", "", None, 200) == (
        asked.method,
        asked.path,
        asked.authority,
        asked.time_s,
        asked.status,
    )


def test_a_batch_is_read() -> None:
    """Its members have other names; an address is taken apart."""
    asked = line({"custom_id": "1", "method": "POST", "url": "https://llm.test/v1/embeddings?a=1", "body": BODY})
    assert ("/v1/embeddings?a=1", "llm.test") == (asked.path, asked.authority)


def test_an_access_log_is_read() -> None:
    """As the shipped Envoy files write it; a dash is nothing."""
    asked = line(
        {
            "start": "2026-11-21T10:00:00.500Z",
            "method": "POST",
            "path": "/v1/chat/completions",
            "route": "llm",
            "code": 200,
            "authority": "-",
            "ai_cache": {"status": "hit", "key": "abc"},
        }
    )
    assert (None, "llm", "hit", 1795255200.5, "") == (
        asked.body,
        asked.route,
        asked.logged,
        asked.time_s,
        asked.authority,
    )
    # The shipped files have it with hits only, so that it would tell nothing of the first.
    assert "" == asked.key
    assert "k" == line({"x-ai-cache-key": "k", ":path": "/v1/x", ":method": "POST"}).key
    assert "" == line({"ai_cache": None, "path": "/v1/x"}).logged


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("nonsense", "is no JSON", id="no JSON"),
        pytest.param("[]", "is no JSON object", id="no object"),
        pytest.param('{"path": 1}', "path is no text", id="a path"),
        pytest.param('{"path": "/a\\r\\nb"}', "path has control characters", id="control characters"),
        pytest.param('{"headers": []}', "headers is no object", id="headers"),
        pytest.param('{"headers": {"a": 1}}', "headers is no text", id="a header"),
        pytest.param('{"status": "ok"}', "status is no HTTP status", id="a status"),
        pytest.param('{"start": "yesterday"}', "neither seconds nor ISO 8601", id="a time"),
        pytest.param('{"time_s": 1795255200000}', "not in seconds", id="milliseconds"),
        pytest.param('{"time_s": -1}', "not in seconds", id="before the epoch"),
        pytest.param('{"url": "http://[::1"}', "Invalid IPv6 URL", id="an address"),
    ],
)
def test_a_line_that_is_no_request_is_named_by_its_number(text: str, said: str) -> None:
    """What stands in it is not shown."""
    with pytest.raises(BadLine, match=f"line 7: .*{said}"):
        requested(text.encode(), 7, {})


def test_a_time_without_a_zone_is_utc() -> None:
    """Wherever the log is read."""
    assert 1795255200 == line({"time": "2026-11-21T10:00:00"}).time_s


def test_truths_are_no_times() -> None:
    """JSON has more than one kind of number-like values."""
    assert line({"time_s": True, "body": BODY}).time_s is None


def test_lines_come_with_their_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a file or standard input; empty ones are left out."""
    (tmp_path / "log").write_bytes(b"a\n\n  \nb")
    with lines_of(tmp_path / "log") as lines:
        assert [(1, b"a\n"), (4, b"b")] == list(lines)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"c")))
    with lines_of(Path("-")) as lines:
        assert [(1, b"c")] == list(lines)
    with pytest.raises(BadLine, match="cannot be read"), lines_of(tmp_path / "none"):
        raise AssertionError("never reached")
