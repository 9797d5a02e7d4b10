"""`aicache warm`: requests of a file through a gateway, and what is said of them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ai_cache_extproc.cli.request_lines import Requested
from ai_cache_extproc.cli.sending import Gateway
from ai_cache_extproc.cli.warming import _paced
from tests.support.gateway import free_port
from tests.support.terminal import Terminal, terminal

BODY = {"model": "m", "messages": []}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Terminal:
    """A terminal of its own."""
    return terminal(capsys, monkeypatch, tmp_path)


class Labelling(ThreadingHTTPServer):
    """A gateway that labels its answers as the path asks: `/STATUS/LABEL/REASON`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Labelled)
        self.received: list[tuple[str, dict[str, str], bytes]] = []
        self.most = 0
        self.here = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/prefix/"


class _Labelled(BaseHTTPRequestHandler):
    server: Labelling

    def do_POST(self) -> None:
        with self.server.lock:
            self.server.here += 1
            self.server.most = max(self.server.most, self.server.here)
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.received.append((self.path, headers, body))
        _, _, status, label, reason = self.path.split("/")
        time.sleep(0.01)
        with self.server.lock:
            self.server.here -= 1
        if label == "CUT":
            self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf")
        else:
            self.send_response(int(status))
            for name, value in (("x-ai-cache-status", label), ("x-ai-cache-reason", reason)):
                if value != "-":
                    self.send_header(name, value)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def gateway() -> Iterator[Labelling]:
    """One that runs."""
    with Labelling() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def file_of(tmp_path: Path, lines: Iterable[object]) -> str:
    """A file of these lines."""
    file = tmp_path / "questions.jsonl"
    file.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return str(file)


def asked(path: str, **members: Any) -> dict[str, Any]:
    """A line for this path."""
    return {"path": path, "body": BODY, **members}


def test_labels_are_counted(run: Terminal, gateway: Labelling, tmp_path: Path) -> None:
    """By status and reason; requests go out as the file says, with the headers that they lack."""
    (tmp_path / "credential").write_text("Authorization: Bearer secret\n\n")
    lines = [
        asked("/200/MISS/-"),
        asked("/200/MISS/-"),
        asked("/200/HIT/-", headers={"Authorization": "own", "Accept-Encoding": "gzip"}, authority="llm.test"),
        asked("/200/BYPASS/sampling"),
        asked("/200/-/-"),
    ]
    common = ("warm", file_of(tmp_path, lines), "-g", gateway.url, "--header-file", str(tmp_path / "credential"))
    document = run.json(*common, "-H", "x-team: a", "--concurrency", "2")
    assert {"miss": 2, "hit": 1, "bypass": 1, "unlabelled": 1} == document["results"]
    assert ({"sampling": 1}, {"200": 5}, 0) == (document["reasons"], document["statuses"], document["failed"])
    assert gateway.most <= 2
    by_path = {path: (headers, body) for path, headers, body in gateway.received}
    headers, body = by_path["/prefix/200/HIT/-"]
    assert BODY == json.loads(body)
    assert ("own", "llm.test", "a", "identity") == tuple(
        headers[name] for name in ("authorization", "host", "x-team", "accept-encoding")
    )
    headers, _ = by_path["/prefix/200/-/-"]
    assert ("Bearer secret", f"127.0.0.1:{gateway.server_port}") == (headers["authorization"], headers["host"])
    code, out, err = run(*common)
    told = [" ".join(line.split()) for line in out.splitlines()]
    assert (0, "") == (code, err)
    assert ["requests 5", "miss 2"] == told[:2]
    assert "why 1 sampling" in told


def test_what_failed_is_told(run: Terminal, gateway: Labelling, tmp_path: Path) -> None:
    """Exit code 1, and the first fault by name; nothing is sent twice."""
    lines = [asked("/429/MISS/status"), asked("/200/CUT/-"), "nonsense", {"path": "/x"}, asked("/200/MISS/-")]
    code, out, err = run("warm", file_of(tmp_path, lines), "-g", gateway.url, "-o", "json")
    document = json.loads(out)
    assert (1, 3, 2, 2) == (code, document["requests"], document["failed"], document["unreadable"])
    assert {"miss": 2, "failed": 1} == document["results"]
    assert 3 == len(gateway.received)
    assert "aicache: " in err
    code, out, _ = run("warm", file_of(tmp_path, lines), "-g", gateway.url, "--concurrency", "1")
    assert "lines that are no requests" in out
    code, _, err = run("warm", file_of(tmp_path, lines[:1]), "-g", gateway.url)
    assert (1, True) == (code, "the upstream answered 429" in err)


def test_nobody_there_is_told(run: Terminal, tmp_path: Path) -> None:
    """With the address; a file without requests is a fault too."""
    port = free_port()
    for url in (f"http://127.0.0.1:{port}", f"https://127.0.0.1:{port}"):
        code, out, err = run("warm", file_of(tmp_path, [asked("/a")]), "-g", url)
        assert (1, True) == (code, f"127.0.0.1:{port}: Connection refused" in err)
        assert "failed" in out
    assert 1 == run("warm", file_of(tmp_path, []), "-g", url)[0]


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("-g", "localhost:10000"), id="no scheme"),
        pytest.param(("-g", "ftp://localhost"), id="another scheme"),
        pytest.param(("-g", "http://"), id="no host"),
        pytest.param(("-g", "http://me:secret@localhost"), id="a credential"),
        pytest.param(("-g", "http://localhost?a=b"), id="a query"),
        pytest.param(("-g", "http://localhost", "--header-file", "none"), id="no header file"),
        pytest.param(("-g", "http://localhost", "-H", "no colon"), id="no header"),
    ],
)
def test_wrong_usage_is_refused(arguments: tuple[str, ...], run: Terminal, tmp_path: Path) -> None:
    """Exit code 2, before anything is sent."""
    assert 2 == run("warm", file_of(tmp_path, [asked("/a")]), *arguments)[0]


def test_a_secret_is_not_shown_where_its_file_is_wrong(run: Terminal, tmp_path: Path) -> None:
    """Its line is named by its number."""
    (tmp_path / "credential").write_text("a: b\nBearer secret\n")
    file = file_of(tmp_path, [])
    code, _, err = run("warm", file, "-g", "http://localhost", "--header-file", str(tmp_path / "credential"))
    assert (2, True, False) == (code, "line 2" in err, "Bearer" in err)


def test_a_rate_is_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other at its distance; time that was lost is not caught up with."""
    now_s, begun = [0.0], []
    monkeypatch.setattr("ai_cache_extproc.cli.warming.time.monotonic", lambda: now_s[0])
    monkeypatch.setattr("ai_cache_extproc.cli.warming.time.sleep", lambda s: now_s.__setitem__(0, now_s[0] + s))
    for number, _ in enumerate(_paced(iter([Requested()] * 5), 2.0)):
        begun.append(now_s[0])
        if number == 2:
            now_s[0] += 10
    assert [0.0, 0.5, 1.0, 11.0, 11.5] == begun


def test_a_header_that_cannot_be_sent_is_a_failure_of_its_request() -> None:
    """It goes no further than that."""
    answered = Gateway.at("http://127.0.0.1:1", timeout_s=1).send(Requested(headers={"a": "字"}, body=b"{}"))
    assert ("failed", True) == (answered.result, bool(answered.fault))
