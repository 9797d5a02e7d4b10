"""`aicache path`: one document, many lines, and exit codes that programs can rely on."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.support.terminal import Terminal, terminal

DOCUMENT = '{"messages": [{"content": "a"}, {"content": "b ü\\n"}], "n": 1.50}'


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Terminal:
    """A terminal of its own, beside a document."""
    (tmp_path / "body.json").write_text(DOCUMENT)
    monkeypatch.chdir(tmp_path)
    return terminal(capsys, monkeypatch, tmp_path)


@pytest.fixture
def feed(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | bytes], None]:
    """Put something on standard input."""

    def put(text: str | bytes) -> None:
        raw = text.encode() if isinstance(text, str) else text
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(raw)))

    return put


def answers(out: str) -> list[Mapping[str, object]]:
    """The lines that a batch wrote."""
    return [json.loads(line) for line in out.splitlines()]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("messages.@reverse.0.content", "b ü\n"),
        ("messages.#.content", '["a","b ü\\n"]'),
        ("messages.0", '{"content": "a"}'),
        ("n", "1.5"),
        ("$.messages[0].content", "a"),
        ("$..content", '["a","b ü\\n"]'),
    ],
)
def test_a_file(run: Terminal, path: str, expected: str) -> None:
    """What either language finds is printed, and nothing else."""
    assert (0, f"{expected}\n", "") == run("path", path, "body.json")


@pytest.mark.parametrize("arguments", [[], ["-"]], ids=["nothing", "dash"])
def test_standard_input(run: Terminal, feed: Callable[[str | bytes], None], arguments: list[str]) -> None:
    """Without a file, or with a dash, the document comes from standard input."""
    feed(DOCUMENT)
    assert (0, "a\n", "") == run("path", "messages.0.content", *arguments)


def test_nothing_found(run: Terminal, feed: Callable[[str | bytes], None]) -> None:
    """Exit code 1, and a line that names the path and where it was looked for."""
    assert (1, "", "aicache: 'messages.7' finds nothing in body.json\n") == run("path", "messages.7", "body.json")
    feed("not JSON")
    assert (1, "", "aicache: '$.a' finds nothing in standard input\n") == run("path", "$.a")


def test_null_is_found(run: Terminal, feed: Callable[[str | bytes], None]) -> None:
    """It is there, with nothing to print."""
    feed('{"a": null}')
    assert (0, "\n", "") == run("path", "a")


def test_a_path_that_is_refused(run: Terminal) -> None:
    """Exit code 1, and the reason with the way out."""
    code, out, err = run("path", "$.messages[-1]", "body.json")
    assert (1, "") == (code, out)
    assert "write a slice, as [-1:]" in err


def test_large_documents_are_searched_patiently(run: Terminal, feed: Callable[[str | bytes], None]) -> None:
    """Nobody's request waits: what would be a bypass in the sidecar is answered here."""
    feed(json.dumps({"a": [{"b": 1}] * 5000}))
    assert (0, "5000\n", "") == run("path", "a.#")
    feed(json.dumps({"a": [{"b": 1}] * 1000}))
    assert 0 == run("path", "$..b")[0]


@pytest.mark.parametrize(
    "arguments",
    [["path"], ["path", "a", "b", "c"], ["path", "a", "absent.json"], ["path", "a", "."], ["path", "--batch", "a"]],
    ids=["no path", "too many", "no file", "a folder", "a path for a batch"],
)
def test_wrong_usage(run: Terminal, arguments: list[str]) -> None:
    """Exit code 2, and nothing where a program reads."""
    code, out, err = run(*arguments)
    assert (2, "") == (code, out)
    assert "Traceback" not in err


def test_help(run: Terminal) -> None:
    """With an example, and both ways to call it."""
    code, out, _ = run("path", "--help")
    assert 0 == code
    assert "Example: aicache path 'messages.@reverse.0.content' body.json" in out
    assert "--batch" in out


def test_batch(run: Terminal, feed: Callable[[str | bytes], None]) -> None:
    """One answer a line, in order; JSON's null exists, what is missing does not."""
    asked = [("a.b", '{"a":{"b":"x ü"}}'), ("a", "{}"), ("a", '{"a":null}'), ("$.a[0]", '{"a":[1]}'), ("a", "no JSON")]
    feed("".join(json.dumps({"json": document, "path": path}) + "\n" for path, document in asked))
    code, out, err = run("path", "--batch")
    assert (0, "") == (code, err)
    assert [
        {"exists": True, "string": "x ü"},
        {"exists": False, "string": ""},
        {"exists": True, "string": ""},
        {"exists": True, "string": "1"},
        {"exists": False, "string": ""},
    ] == answers(out)


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("not JSON", "Expecting value"),
        ("", "Expecting value"),
        ("[]", "indices"),
        ('"x"', "indices"),
        ("{}", "json"),
        ('{"json": "{}"}', "path"),
        ('{"json": {}, "path": "a"}', "expected string"),
        ('{"json": "{}", "path": 1}', "expected string"),
        ('{"json": "{}", "path": "$.a[?(@.b + 1)]"}', "arithmetic is refused"),
        (json.dumps({"json": "{}", "path": "a" * 5000}), "shorten the path"),
        (json.dumps({"json": "[" * 300 + "]" * 300, "path": '@flatten:{"deep":true}'}), "levels"),
        ("[" * 100_000, "recursion"),
        (b'{"json": "\xff", "path": "a"}', "utf-8"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_bad_line_of_a_batch(
    run: Terminal, feed: Callable[[str | bytes], None], line: str | bytes, part: str
) -> None:
    """It gets an answer that says why, the others get theirs, and the exit code is 1."""
    raw = line.encode() if isinstance(line, str) else line
    good = b'{"json": "[7]", "path": "0"}'
    feed(b"\n".join((good, raw, good)) + b"\n")
    code, out, err = run("path", "--batch")
    assert (1, "") == (code, err)
    first, bad, last = answers(out)
    assert {"exists": True, "string": "7"} == first == last
    assert (False, "") == (bad["exists"], bad["string"])
    assert part in str(bad["error"])


def test_halves_of_surrogate_pairs_in_a_batch(run: Terminal, feed: Callable[[str | bytes], None]) -> None:
    """They cannot be written as text: they are read as Go reads them."""
    feed(r'{"json": "{\"a\ud800\":\"b\udc00\"}", "path": "a\ud800"}' + "\n")
    code, out, _ = run("path", "--batch")
    assert 0 == code
    assert [{"exists": True, "string": "b\ufffd"}] == answers(out)


def test_an_empty_batch(run: Terminal, feed: Callable[[str | bytes], None]) -> None:
    """No lines, no answers."""
    feed("")
    assert (0, "", "") == run("path", "--batch")
