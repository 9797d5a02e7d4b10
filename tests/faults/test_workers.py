"""Several worker processes behind a real Envoy: killing one, or stopping all of them, costs nobody a request."""

from __future__ import annotations

import json
import random
import signal
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from ai_cache_extproc.cli.envoy import Format, document_of
from ai_cache_extproc.cli.envoy_bootstrap import Site
from ai_cache_extproc.cli.envoy_bootstrap import Upstream as Service
from ai_cache_extproc.config.addresses import TcpAddress
from ai_cache_extproc.config.load import load
from tests.support.gateway import Gateway, Process, envoy_binary, free_port
from tests.support.load import Load
from tests.support.upstream import Received, Script, Upstream, answer, completion, completion_frames, stream

WORKERS = 2
SEED = 20


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    """Envoy with an endpoint for each of two workers, and an upstream."""
    with Gateway(tmp_path, workers=WORKERS) as running:
        yield running


def slowly(received: Received) -> Script:
    """Answer after a moment; streams take half a second."""
    if received.json()["stream"]:
        return stream(completion_frames(), pause_s=0.07)
    return [0.02, *answer(completion())]


def ready(gateway: Gateway) -> list[int]:
    """The workers' processes, once all of them are ready and Envoy knows it."""
    url = f"http://127.0.0.1:{gateway.sidecar_admin}/readyz"
    gateway.sidecar.wait_ready(url)
    gateway.wait_for_sidecar()
    with urllib.request.urlopen(url, timeout=10) as response:
        return [int(worker["pid"]) for worker in json.loads(response.read())["workers"]]


def logged(log: Path) -> list[dict[str, Any]]:
    """The lines of a log; what a killed process was just writing may be half."""
    return [json.loads(line) for line in log.read_text().splitlines() if line.endswith("}")]


def served(log: Path) -> Counter[int]:
    """How many hits each worker logged."""
    return Counter(line["worker"] for line in logged(log) if line["event"] == "exchange" and line["result"] == "hit")


def test_workers_are_killed_under_load(gateway: Gateway) -> None:
    """Eight times one of them at random: no request fails, no stream is without its end, and each one comes back."""
    gateway.upstream.fresh(slowly)
    chosen = random.Random(SEED)
    with Load(gateway.port) as clients:
        clients.wait_for(100)
        for _ in range(8):
            psutil.Process(chosen.choice(ready(gateway))).kill()
            clients.wait_for(60)
        ready(gateway)
        clients.wait_for(100)
    assert [] == clients.tally.failures
    assert {"HIT", "MISS"} <= set(clients.tally.answered)
    with urllib.request.urlopen(f"http://127.0.0.1:{gateway.sidecar_admin}/metrics", timeout=10) as response:
        lines = response.read().decode().splitlines()
    restarts = [float(line.rpartition(" ")[2]) for line in lines if line.startswith("aicache_worker_restarts_total{")]
    ends = [line for line in logged(gateway.sidecar.log) if line["event"] == "worker_ended"]
    assert [(-signal.SIGKILL, None)] * 8 == [(line["exit_code"], line["reason"]) for line in ends]
    assert 8 == sum(restarts)
    assert gateway.stats()["requests"]["hit"] > 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "kill -9"])
def test_the_whole_is_stopped_under_load(gateway: Gateway, number: signal.Signals) -> None:
    """Twice stopped and started again: no request fails, and both workers serve hits each time."""
    gateway.upstream.fresh(slowly)
    with Load(gateway.port) as clients:
        for _ in range(2):
            ready(gateway)
            clients.wait_for(200)
            workers = psutil.Process(gateway.sidecar.pid).children()
            code = gateway.sidecar.stop(number)
            assert (0 if number is signal.SIGTERM else -number) == code
            clients.wait_for(60)
            assert [] == psutil.wait_procs(workers, 5)[1]
            gateway.start_sidecar()
    assert [] == clients.tally.failures
    assert {"HIT", "MISS", "none"} <= set(clients.tally.answered)
    hits = served(gateway.sidecar.log)
    assert all(hits[worker] > 20 for worker in range(WORKERS)), hits


def test_a_frozen_worker_is_passed_by(gateway: Gateway) -> None:
    """Its requests wait for Envoy's timeout and pass; Envoy's health check then leaves it out, the other serves on."""
    gateway.upstream.fresh(slowly)
    frozen = psutil.Process(ready(gateway)[0])
    with Load(gateway.port) as clients:
        clients.wait_for(100)
        frozen.suspend()
        try:
            while gateway.envoy_stat("cluster.ai_cache.membership_healthy$") == WORKERS:
                clients.wait_for(20)
            clients.wait_for(100)
            assert 1 == gateway.envoy_stat("cluster.ai_cache.membership_healthy$")
        finally:
            frozen.resume()
        ready(gateway)
        clients.wait_for(100)
    assert [] == clients.tally.failures


def test_the_printed_configuration_uses_all_of_them(tmp_path: Path) -> None:
    """A real Envoy on what `aicache envoy-config` builds for a document with workers: both serve, at derived sockets."""
    port, envoy_admin, admin = free_port(), free_port(), free_port()
    document = {
        "listen": f"unix:{tmp_path}/x.sock",
        "workers": WORKERS,
        "admin": f"127.0.0.1:{admin}",
        "store": {"path": str(tmp_path / "cache.db")},
        "rules": [{"name": "default"}],
    }
    config, bootstrap = tmp_path / "aicache.yaml", tmp_path / "envoy.yaml"
    config.write_text(yaml.safe_dump(document))
    with Upstream() as upstream, ExitStack() as stack:
        site = Site(
            listen=TcpAddress("127.0.0.1", port),
            admin=TcpAddress("127.0.0.1", envoy_admin),
            upstream=Service(host="127.0.0.1", port=upstream.port),
            access_log=str(tmp_path / "access.log"),
        )
        bootstrap.write_text(yaml.safe_dump(document_of(Format.BOOTSTRAP, load(config, environ={}).config, site)))
        command = [sys.executable, "-m", "ai_cache_extproc", "serve", "--config", str(config)]
        sidecar = Process(command, tmp_path / "sidecar.log")
        stack.callback(sidecar.stop)
        sidecar.wait_ready(f"http://127.0.0.1:{admin}/readyz")
        command = [str(envoy_binary()), "-c", str(bootstrap), "--concurrency", "1", "--disable-hot-restart"]
        envoy = Process([*command, "--log-level", "warning"], tmp_path / "envoy.log")
        stack.callback(envoy.stop)
        envoy.wait_ready(f"http://127.0.0.1:{envoy_admin}/ready")
        with Load(port) as clients:
            while min(served(sidecar.log)[worker] for worker in range(WORKERS)) < 20:
                clients.wait_for(50)
    assert [] == clients.tally.failures
    cluster = yaml.safe_load(bootstrap.read_text())["static_resources"]["clusters"][0]
    (group,) = cluster["load_assignment"]["endpoints"]
    assert ("LEAST_REQUEST", [f"{tmp_path}/x.sock", f"{tmp_path}/x-1.sock"]) == (
        cluster["lb_policy"],
        [each["endpoint"]["address"]["pipe"]["path"] for each in group["lb_endpoints"]],
    )
