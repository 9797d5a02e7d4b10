"""`aicache demo` as a person runs it: what it prints, how it ends, and what it leaves behind (nothing)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from tests.support.gateway import ROOT, Process, free_port
from tests.support.upstream import Received, Script, Upstream, answer, chat, completion

COMMAND = [sys.executable, "-m", "ai_cache_extproc", "demo"]


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Ours, with a folder for temporary files of its own, and no terminal's width."""
    return {**os.environ, "TMPDIR": str(folder), "COLUMNS": "120", "NO_COLOR": "1", "UPSTREAM": "", **more}


def run(folder: Path, *arguments: str, environ: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the demo to its end; it must leave nothing behind."""
    ended = subprocess.run(
        [*COMMAND, "--once", *arguments],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        cwd=ROOT,
        env=environment(folder, **(environ or {})),
    )
    assert [] == list(folder.iterdir())
    return ended


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where the demo puts its temporary files: a short path, since a socket is among them."""
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


def test_once_shows_a_miss_and_a_hit_for_each_mode(folder: Path) -> None:
    """`--once` ends with 0 after a miss and a hit, as JSON and as a stream."""
    ended = run(folder)
    assert 0 == ended.returncode, ended.stderr
    rows = [line.split() for line in ended.stdout.splitlines() if " ms" in line]
    shown = [
        (mode, status)
        for row in rows
        for mode in ("JSON", "stream")
        for status in ("MISS", "HIT")
        if {mode, status} <= set(row)
    ]
    assert [("JSON", "MISS"), ("JSON", "HIT"), ("stream", "MISS"), ("stream", "HIT")] == shown
    assert "\x1b" not in ended.stdout
    outcomes = [
        (line.split()[0], next(word for word in line.split() if word in {"HIT", "MISS"}))
        for line in ended.stdout.splitlines()
        if line.startswith(("星", "月", "什"))
    ]
    expected = ["MISS", "HIT", "MISS" if "use-multilingual" in ended.stdout else "HIT", "MISS", "MISS"]
    questions = ["星星是什么", "什么是星星", "星星通常指什么", "月亮是什么", "星星有多少颗"]
    assert outcomes == list(zip(questions, expected, strict=True))
    assert "matched by meaning on this machine: " in ended.stdout


@pytest.fixture
def staying_up(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The demo without `--once`. SIGTERM ends it even where a test fails: SIGKILL would leave its children behind."""
    demo = subprocess.Popen(COMMAND, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment(folder))
    with demo:
        try:
            yield demo
        finally:
            demo.terminate()
            demo.wait(30)


def lines_to_try(demo: subprocess.Popen[str]) -> list[str]:
    """Everything that it prints until it stays up."""
    assert demo.stdout is not None
    lines = []
    for line in demo.stdout:
        lines.append(line.rstrip("\n"))
        if "Ctrl-C" in line:
            return lines
    raise AssertionError("\n".join(lines))


def test_it_stays_up_until_it_is_told_to_stop(staying_up: subprocess.Popen[str], folder: Path) -> None:
    """It prints what to try, stays up, and on SIGTERM ends with 0 and with all its children."""
    lines = lines_to_try(staying_up)
    children = psutil.Process(staying_up.pid).children(recursive=True)
    assert len(children) >= 3
    url = next(line for line in lines if line.startswith("Envoy")).split()[1]
    curls = [line for line in lines if line.startswith("curl")]
    assert [True, True] == [f"{url}/v1/chat/completions" in curl for curl in curls]
    assert any(f'base_url="{url}/v1"' in line for line in lines)
    staying_up.terminate()
    assert 0 == staying_up.wait(20)
    assert [] == psutil.wait_procs(children, timeout=5)[1]
    assert [] == list(folder.iterdir())


def test_the_lines_to_try_work(staying_up: subprocess.Popen[str]) -> None:
    """Each printed `curl` line gets a miss and then a hit, and the printed snippet an answer."""
    if shutil.which("curl") is None:
        pytest.skip("no curl here")
    lines = lines_to_try(staying_up)
    whole, stream = (line for line in lines if line.startswith("curl"))
    asked = [subprocess.run(["sh", "-c", whole], capture_output=True, text=True, check=True).stdout for _ in range(2)]
    assert ["x-ai-cache-status: MISS", "x-ai-cache-status: HIT"] == [
        line for each in asked for line in each.splitlines() if line.startswith("x-ai-cache-status")
    ]
    streamed = subprocess.run(["sh", "-c", stream], capture_output=True, text=True, check=True).stdout
    assert streamed.endswith("data: [DONE]\n\n")
    snippet = "\n".join(lines[lines.index("from openai import OpenAI") : -2])
    answered = subprocess.run([sys.executable, "-c", snippet], capture_output=True, text=True, check=True).stdout
    assert answered.startswith("You asked: Hello?")


@pytest.fixture
def provider() -> Iterator[Upstream]:
    """A provider without TLS."""
    with Upstream() as running:
        yield running


def test_a_provider_is_asked_with_the_key_and_the_model(folder: Path, provider: Upstream) -> None:
    """`--upstream` asks there, with OPENAI_API_KEY and `--model`; cookies on its answers do not stop the hit."""

    def with_cookie(received: Received) -> Script:
        if received.json().get("stream"):
            return chat(received)
        return answer(completion(), headers=[("set-cookie", "__cf_bm=1; path=/")])

    provider.fresh(with_cookie)
    url = f"http://127.0.0.1:{provider.port}"
    ended = run(folder, "--model", "m-1", environ={"UPSTREAM": url, "OPENAI_API_KEY": "sk-1"})
    assert 0 == ended.returncode, ended.stdout + ended.stderr
    asked = [(each.headers["authorization"], each.json()["model"]) for each in provider.received]
    # One as JSON, one as a stream, and those of the five that are no hits.
    missed = sum(" MISS " in line for line in ended.stdout.splitlines())
    assert [("Bearer sk-1", "m-1")] * missed == asked
    assert missed >= 5


def test_a_providers_refusal_is_told_plainly(folder: Path, provider: Upstream) -> None:
    """A 401 ends with 1, the provider's own words and what to set."""
    said = json.dumps({"error": {"message": "You didn't provide an API key."}}).encode()
    provider.fresh(lambda _: answer(said, status="401 Unauthorized"))
    ended = run(folder, "--upstream", f"http://127.0.0.1:{provider.port}")
    assert 1 == ended.returncode
    assert "the provider answered 401; set OPENAI_API_KEY" in ended.stderr
    assert "You didn't provide an API key." in ended.stderr


def test_an_answer_that_is_not_kept_is_told_plainly(folder: Path, provider: Upstream) -> None:
    """Where no hit comes, the exit code is 1 and the text says what came instead."""
    provider.fresh(lambda _: answer(completion(), headers=[("content-encoding", "x-odd")]))
    ended = run(folder, "--upstream", f"http://127.0.0.1:{provider.port}")
    assert 1 == ended.returncode
    assert "JSON: the second answer was no hit but MISS (answer_encoded and answer_encoded)" in ended.stderr


def test_an_unusable_url_is_refused(folder: Path) -> None:
    """What is no URL is refused before anything starts."""
    ended = run(folder, "--upstream", "ftp://somewhere")
    assert (1, "") == (ended.returncode, ended.stdout)
    assert "write https://HOST[:PORT]" in ended.stderr


@pytest.fixture
def tls_provider(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """A provider on `https://localhost:PORT`, and the file of the authority that vouches for it."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl here to make a certificate with")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    make = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    subprocess.run([*make, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    port = free_port()
    serve = [sys.executable, "-m", "uvicorn", "--factory", "ai_cache_extproc.cli.demo_upstream:application"]
    files = ["--ssl-keyfile", str(key), "--ssl-certfile", str(certificate)]
    process = Process([*serve, "--port", str(port), *files], tmp_path / "provider.log")
    try:
        yield port, certificate
    finally:
        process.stop()


def test_a_provider_is_reached_over_tls(folder: Path, tls_provider: tuple[int, Path]) -> None:
    """A provider whose authority SSL_CERT_FILE names is asked over TLS, for its own name."""
    port, authority = tls_provider
    ended = run(folder, "--upstream", f"https://localhost:{port}", environ={"SSL_CERT_FILE": str(authority)})
    assert 0 == ended.returncode, ended.stdout + ended.stderr


def test_a_provider_that_nobody_vouches_for_is_not_asked(folder: Path, tls_provider: tuple[int, Path]) -> None:
    """A certificate of an unknown authority is refused, and the text says where to look."""
    port, _ = tls_provider
    ended = run(folder, "--upstream", f"https://localhost:{port}")
    assert 1 == ended.returncode
    assert "check the URL, the network and the certificate" in ended.stderr
