"""`aicache stats`: the figures of a running sidecar."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from ai_cache_extproc import __version__
from ai_cache_extproc.admin.health import Health
from ai_cache_extproc.admin.http import Admin
from ai_cache_extproc.admin.pages import Pages
from ai_cache_extproc.cli import watching
from ai_cache_extproc.cli.asking import ask, fetch
from ai_cache_extproc.config.model import Config
from ai_cache_extproc.model import Reason
from ai_cache_extproc.stores.base import Store
from ai_cache_extproc.stores.memory import MemoryStore
from ai_cache_extproc.stores.unavailable import UnavailableStore
from ai_cache_extproc.telemetry.metrics import Metrics
from tests.support.terminal import Terminal, terminal


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Terminal:
    """A terminal of its own."""
    return terminal(capsys, monkeypatch, tmp_path)


@contextmanager
def sidecar(store: Store, address: str = "127.0.0.1:0") -> Iterator[tuple[str, Metrics]]:
    """An admin address on a thread of its own, as a sidecar beside the terminal."""
    metrics = Metrics(CollectorRegistry())
    pages = Pages(
        metrics=metrics,
        health=Health(store=store, metrics=metrics),
        config=Config,
        monotonic=lambda: 90.0,
        store_name=store.name,
    )
    admin = Admin(address, pages.app())
    admin.bind()
    thread = threading.Thread(target=lambda: asyncio.run(admin.run()))
    thread.start()
    try:
        yield admin.address, metrics
    finally:
        admin.close()
        thread.join()


def test_stats_are_told_in_words(run: Terminal) -> None:
    """Requests, ratio, bypass reasons with the commonest first, fill levels."""
    with sidecar(MemoryStore(bytes_max=2**20, clock=lambda: 0.0)) as (address, metrics):
        code, out, _ = run("stats", "--admin", address)
        assert 0 == code
        assert "no lookups yet" in out
        assert "workers" not in out
        for result in ("hit", "miss", "miss"):
            metrics.exchange("d", "r", result)
        for reason in (Reason.NO_RULE, Reason.BOM, Reason.BOM):
            metrics.bypassed(reason)
        metrics.watch_near(lambda: 3, lambda: 2048)
        code, out, _ = run("stats", "--admin", address)
    assert 0 == code
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "requests 1 hits, 2 misses, 0 bypassed" in lines
    assert "hit ratio 33.3% of lookups" in lines
    assert lines.index("bom 2") < lines.index("no_rule 1")
    assert "memory store 0 entries, 0 bytes of 1 MiB" in lines
    assert "near copy 3 entries, 2 KiB" in lines


def test_stats_for_programs_come_through_a_unix_socket(run: Terminal, tmp_path: Path) -> None:
    """The document is what /stats gives."""
    with sidecar(UnavailableStore("sqlite", "gone"), f"unix:{tmp_path}/admin.sock") as (address, _):
        document = run.json("stats", "--admin", address)
        assert __version__ == document["version"]
        _, out, _ = run("stats", "--admin", address)
    assert "does not answer" in out


def test_stats_without_a_sidecar_say_so(run: Terminal, tmp_path: Path) -> None:
    """Exit code 1 and the way out, for either kind of address."""
    for address in ("127.0.0.1:1", f"unix:{tmp_path}/nobody.sock"):
        code, out, err = run("stats", "--admin", address)
        assert (1, "") == (code, out)
        assert f"no sidecar answers at {address}" in err
        assert "aicache serve" in err


def test_stats_of_something_else_say_so(run: Terminal) -> None:
    """A web server on that port is not taken for a sidecar."""

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_message(self, *_arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        code, _, err = run("stats", "--admin", f"127.0.0.1:{server.server_port}")
        thread.join()
    assert 1 == code
    assert "is no sidecar's admin address (/stats: 200)" in err


def test_stats_name_the_workers(run: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are several, their number is shown."""
    with sidecar(MemoryStore(bytes_max=2**20, clock=lambda: 0.0)) as (address, _):
        figures = ask(address, "/stats") | {"workers": 4}
    monkeypatch.setattr("ai_cache_extproc.cli.figures.ask", lambda *_, **__: figures)
    _, out, _ = run("stats")
    assert "workers 4" in [" ".join(line.split()) for line in out.splitlines()]


def test_a_watch_is_a_line_of_json_for_each_look(run: Terminal, tmp_path: Path) -> None:
    """Over TCP and a Unix socket; a token that is given is sent, though nobody asks for it here."""
    token = tmp_path / "token"
    token.write_text("t")
    for at in ("127.0.0.1:0", f"unix:{tmp_path}/admin.sock"):
        with sidecar(MemoryStore(bytes_max=2**20, clock=lambda: 0.0), at) as (address, metrics):
            metrics.exchange("d", "r", "hit")
            watched = ("stats", "--watch", "--every", "0.1", "--ticks", "2", "--admin", address)
            code, out, _ = run(*watched, "--token-file", str(token), "--output", "json")
            first, second = (json.loads(line) for line in out.splitlines())
            assert (0, None, 0.0) == (code, first["rates"]["hit"], second["rates"]["hit"])
            assert {"hit": 1, "miss": 0, "bypass": 0} == second["requests"]
            code, out, _ = run(*watched)
            assert (0, 2) == (code, out.count("saved tokens"))


def test_a_watch_ends_with_ctrl_c_and_outlives_its_sidecar(run: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 0; while nobody answers it says so and goes on."""
    with sidecar(MemoryStore(bytes_max=2**20, clock=lambda: 0.0)) as (address, _):
        looks = iter([address, "127.0.0.1:1"])
        monkeypatch.setattr(watching, "fetch", lambda _, path, **more: fetch(next(looks), path, **more))
        naps = iter([None])

        def nap(_: float) -> None:
            if next(naps, ...) is ...:
                raise KeyboardInterrupt

        monkeypatch.setattr("ai_cache_extproc.cli.watching.time.sleep", nap)
        code, out, _ = run("stats", "--watch", "--admin", address, "--output", "json")
    first, second = (json.loads(line) for line in out.splitlines())
    assert (0, True, True) == (code, "requests" in first, "no sidecar answers" in second["error"])


def test_a_watch_of_nobody_says_so(run: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 1, as without --watch; also for a server that is something else."""
    code, out, err = run("stats", "--watch", "--admin", "127.0.0.1:1")
    assert (1, "", True) == (code, out, "no sidecar answers" in err)
    monkeypatch.setattr(watching, "fetch", lambda *_, **__: (404, b"<html>"))
    code, _, err = run("stats", "--watch")
    assert (1, True) == (code, "is no sidecar's admin address (/metrics: 404)" in err)
    monkeypatch.setattr(watching, "fetch", lambda *_, **__: (200, b"\xff"))
    assert 1 == run("stats", "--watch")[0]
