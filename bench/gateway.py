"""Envoy from the shipped `envoy/envoy.yaml`: other addresses, no access log, and without the filter for the plain one."""

from __future__ import annotations

import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bench.processes import ROOT, Child, Processes, free_port

SHIPPED = ROOT / "envoy" / "envoy.yaml"
FILTER = "envoy.filters.http.ext_proc"

Node = dict[str, Any]
"""A mapping of a parsed YAML document."""


@dataclass(frozen=True, slots=True)
class Envoy:
    """A running Envoy with one worker thread; port is where it takes requests."""

    child: Child
    port: int


def start_envoy(processes: Processes, name: str, *, upstream_port: int, sidecar_port: int | None) -> Envoy:
    """Start an Envoy and wait until it is ready; without a sidecar port it only proxies."""
    port, admin_port = free_port(), free_port()
    document = yaml.safe_load(SHIPPED.read_text())
    _set_port(document["admin"], admin_port)
    (listener,) = document["static_resources"]["listeners"]
    _set_port(listener, port)
    connection_manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    del connection_manager["access_log"]
    if sidecar_port is None:
        _remove_filter(document, connection_manager)
    for cluster in document["static_resources"]["clusters"]:
        (endpoint,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
        _set_port(endpoint["endpoint"], {"llm": upstream_port, "ai_cache": sidecar_port}[cluster["name"]])
    config = processes.folder / f"{name}.yaml"
    config.write_text(yaml.safe_dump(document))
    child = processes.start(name, _command(config))
    child.wait_ready(f"http://127.0.0.1:{admin_port}/ready")
    return Envoy(child, port)


def _set_port(holder: Node, port: int | None) -> None:
    holder["address"]["socket_address"]["port_value"] = port


def _remove_filter(document: Node, connection_manager: Node) -> None:
    clusters = document["static_resources"]["clusters"]
    document["static_resources"]["clusters"] = [each for each in clusters if each["name"] != "ai_cache"]
    filters = connection_manager["http_filters"]
    connection_manager["http_filters"] = [each for each in filters if each["name"] != FILTER]
    for host in connection_manager["route_config"]["virtual_hosts"]:
        for route in host["routes"]:
            route.pop("typed_per_filter_config", None)


def _command(config: Path) -> list[str | Path]:
    envoy = Path(sysconfig.get_path("scripts")) / "envoy"
    return [envoy, "-c", config, "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
