"""The real sidecar, `python -m ai_cache_extproc serve`, with its default logging and metrics."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import yaml

from bench.processes import Child, Processes, free_port


@dataclass(frozen=True, slots=True)
class Sidecar:
    """A sidecar that is ready; port is where Envoy connects."""

    child: Child
    port: int


def start_sidecar(
    processes: Processes,
    name: str,
    *,
    near: bool = True,
    redis_port: int | None = None,
    semantic: bool = False,
    admin_port: int | None = None,
    run: tuple[str, ...] = ("-m", "ai_cache_extproc"),
) -> Sidecar:
    """Start a sidecar on an empty SQLite file, or on a Redis; near=False reads every hit from there.

    semantic: match by meaning too, with the embedded default. run: how the interpreter is told to run the program, for a profiler to stand in front of it.
    """
    port, admin_port = free_port(), admin_port or free_port()
    store: dict[str, object] = {"type": "sqlite", "path": str(processes.folder / f"{name}.db")}
    if redis_port is not None:
        store = {"type": "redis", "url": f"redis://127.0.0.1:{redis_port}"}
    document: dict[str, object] = {
        "envoy": {"message_timeout_ms": 500, "max_message_timeout_ms": 10_000},
        "lookup": {"flight_wait_ms": 5_000},
        "store": store,
        "key_prefix": f"{name}:",
    }
    if semantic:
        document |= {"embedder": {"type": "embedded"}, "rules": [{"layers": ["exact", "semantic"]}]}
    if not near:
        document["near"] = {"bytes_max": 0}
    # A folder of its own: the sidecar watches it, and its log would wake the watcher at every line.
    config = processes.folder / f"{name}-config" / "aicache.yaml"
    config.parent.mkdir()
    config.write_text(yaml.safe_dump(document))
    addresses = ("--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin_port}")
    child = processes.start(name, [sys.executable, *run, "serve", "--config", config, *addresses])
    child.wait_ready(f"http://127.0.0.1:{admin_port}/readyz")
    return Sidecar(child, port)
