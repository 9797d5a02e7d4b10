"""The shipped Envoy files: Envoy takes them, they are what the types say, and the first one works as it stands."""

from __future__ import annotations

import copy
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from envoy_data_plane.envoy.config.bootstrap.v3 import Bootstrap
from typer.testing import CliRunner

from ai_cache_extproc.cli import app_for
from ai_cache_extproc.cli.demo_client import ask
from ai_cache_extproc.cli.envoy import Format, document_of
from ai_cache_extproc.cli.envoy_bootstrap import Site, bootstrap, read_upstream
from ai_cache_extproc.cli.envoy_filter import ext_proc_filter
from ai_cache_extproc.cli.envoy_names import FILTER_NAME
from ai_cache_extproc.config.load import load
from tests.support.gateway import ROOT, Process, envoy_binary

FILES = {
    "envoy.yaml": Site(),
    "envoy-tls-upstream.yaml": Site(upstream=read_upstream("https://api.openai.com")),
}
EMBEDDED = load(None, environ={}).config
SEMANTIC = load(ROOT / "envoy" / "envoy-semantic.aicache.yaml", environ={}).config
PLAIN = [*FILES, "envoy-compose.yaml", "envoy-semantic.yaml", "envoy-routes.yaml", "envoy-static-modes.yaml"]
PORTS = {"envoy": 10000, "envoy admin": 9902, "sidecar": 50051, "sidecar admin": 9901, "upstream": 18081}


def read(name: str) -> dict[str, Any]:
    """A shipped file, parsed."""
    document: dict[str, Any] = yaml.safe_load((ROOT / "envoy" / name).read_text())
    return document


def filter_of(document: dict[str, Any]) -> dict[str, Any]:
    """Its ext_proc filter."""
    (listener,) = document["static_resources"]["listeners"]
    filters = listener["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"]
    (found,) = [each for each in filters if each["name"] == FILTER_NAME]
    assert isinstance(found, dict)
    return found


def validate(path: Path) -> subprocess.CompletedProcess[str]:
    """What Envoy says about a file."""
    command = [str(envoy_binary()), "--mode", "validate", "-c", str(path), "--log-level", "error"]
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)


@pytest.mark.parametrize("name", PLAIN)
def test_envoy_takes_each_shipped_file(name: str) -> None:
    """Envoy itself finds nothing wrong with a shipped file."""
    checked = validate(ROOT / "envoy" / name)
    assert (0, "") == (checked.returncode, checked.stderr)


@pytest.mark.parametrize("url", ["http://127.0.0.1:18081", "https://api.openai.com", "http://llm.internal:8000/api/v1"])
def test_envoy_takes_what_is_generated(tmp_path: Path, url: str) -> None:
    """Envoy itself finds nothing wrong with what `aicache envoy-config` prints."""
    arguments = ["envoy-config", "--upstream", url, "--listen-port", "12345"]
    printed = CliRunner().invoke(app_for(arguments), arguments, catch_exceptions=False).output
    path = tmp_path / "envoy.yaml"
    path.write_text(printed)
    checked = validate(path)
    assert (0, "") == (checked.returncode, checked.stderr)


@pytest.mark.parametrize(("name", "site"), FILES.items())
def test_the_shipped_file_is_what_the_types_say(name: str, site: Site) -> None:
    """A shipped file holds the same as the generated one, so that neither can be forgotten in a change."""
    assert bootstrap(EMBEDDED, site) == Bootstrap.from_dict(read(name))


def test_the_semantic_file_is_what_the_types_say_of_its_document() -> None:
    """The two that stand side by side belong together: timeouts above all."""
    assert bootstrap(SEMANTIC, Site()) == Bootstrap.from_dict(read("envoy-semantic.yaml"))


def test_static_modes_are_all_that_differs() -> None:
    """The filter for Envoys without overrides is the generated one in all but its modes."""
    ours, theirs = (filter_of(read(name))["typed_config"] for name in ("envoy-static-modes.yaml", "envoy.yaml"))
    assert theirs.pop("allow_mode_override")
    assert ours.pop("processing_mode") != theirs.pop("processing_mode")
    assert theirs == ours


@pytest.mark.parametrize("name", [*FILES, "envoy-compose.yaml", "envoy-routes.yaml"])
def test_the_filter_is_the_same_in_every_file(name: str) -> None:
    """The filter that people copy is the generated one."""
    assert ext_proc_filter(EMBEDDED) == type(ext_proc_filter(EMBEDDED)).from_dict(filter_of(read(name)))


@pytest.mark.parametrize("name", ["envoy-routes.yaml", "envoy-static-modes.yaml"])
def test_the_sidecar_is_found_the_same_way(name: str) -> None:
    """Its cluster is that of the first file."""
    ours, theirs = (read(each)["static_resources"]["clusters"][0] for each in (name, "envoy.yaml"))
    assert theirs == ours


def test_the_printed_filter_is_the_filter_of_the_shipped_file() -> None:
    """`envoy-config --format filter` prints the shipped filter, less the fields that hold their default."""
    shipped = filter_of(read("envoy.yaml"))
    modes = shipped["typed_config"]["processing_mode"]
    assert "NONE" == modes.pop("request_body_mode") == modes.pop("response_body_mode")
    shipped["typed_config"]["message_timeout"] = "0.500s"
    assert shipped == document_of(Format.FILTER, EMBEDDED, Site())


def test_the_compose_file_differs_in_addresses_only() -> None:
    """Names stand in the place of addresses; all else is as in the first file."""
    assert _without_addresses(read("envoy.yaml")) == _without_addresses(read("envoy-compose.yaml"))


def _without_addresses(document: dict[str, Any]) -> dict[str, Any]:
    document = copy.deepcopy(document)
    for cluster in document["static_resources"]["clusters"]:
        del cluster["type"]
        cluster.pop("dns_lookup_family", None)
        (endpoint,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
        del endpoint["endpoint"]["address"]["socket_address"]["address"]
    del document["static_resources"]["listeners"][0]["address"]["socket_address"]["address"]
    return document


@pytest.fixture
def as_shipped(tmp_path: Path) -> Iterator[Process]:
    """Envoy on the shipped file; with it `aicache serve` without a document and the demo's upstream, where it says."""
    for owner, port in PORTS.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                pytest.fail(f"port {port} ({owner}) is in use here; envoy/envoy.yaml is tested as it is, so free it")
    state = {"XDG_STATE_HOME": str(tmp_path)}
    python = [sys.executable, "-m"]
    commands = {
        "upstream": ([*python, "ai_cache_extproc.cli.demo_upstream"], "http://127.0.0.1:18081/healthz"),
        "sidecar": ([*python, "ai_cache_extproc", "serve"], "http://127.0.0.1:9901/readyz"),
        "envoy": (
            [str(envoy_binary()), "-c", "envoy/envoy.yaml", "--disable-hot-restart", "--concurrency", "1"],
            "http://127.0.0.1:9902/ready",
        ),
    }
    with ExitStack() as stack:
        process = None
        for name, (command, url) in commands.items():
            process = Process(command, tmp_path / f"{name}.log", environ=state)
            stack.callback(process.stop)
            process.wait_ready(url)
        assert process is not None
        yield process


@pytest.mark.alone
@pytest.mark.parametrize("stream", [False, True])
def test_the_shipped_file_works_as_it_is(as_shipped: Process, *, stream: bool) -> None:
    """With nothing changed, the second answer is a hit with the same bytes, and the access log says so."""
    first, second = (ask(10000, "Why?", model="m", stream=stream, key=None) for _ in range(2))
    assert ("MISS", "HIT") == (first.cache_status, second.cache_status)
    assert first.body == second.body
    # Envoy writes its log out at the latest when it ends.
    as_shipped.stop()
    logged = [json.loads(line) for line in as_shipped.log.read_text().splitlines() if line.startswith("{")]
    assert ["via_upstream", "ai-cache.hit"] == [line["details"] for line in logged]
    assert {"openai"} == {line["route"] for line in logged}
    assert ["miss", "hit"] == [line["ai_cache"]["status"] for line in logged]
