"""What one GET costs through redis-py and through our own link: CPU of this process, and commands per write.

Run: python -m bench.redis_client [--value-bytes 1000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop
from redis.asyncio import Redis

from ai_cache_extproc.clients.redis.address import Login, Server
from ai_cache_extproc.clients.redis.client import RedisClient
from ai_cache_extproc.clients.redis.node import NodeOptions
from ai_cache_extproc.clients.redis.topology import OneServer
from bench.processes import Processes
from bench.redis_server import start_redis
from bench.table import table

_CONCURRENCIES = (1, 4, 48)
_READS = 9_600
_CONNECT_S_MAX = 5.0
_OPTIONS = NodeOptions(
    login=Login(),
    tls=None,
    database=0,
    prefixes=("bench:",),
    timeout_s=1,
    write_timeout_s=1,
    connect_timeout_s=1,
    probe_s=1,
    silence_s=3,
    reply_bytes_max=1 << 24,
    failures_max=5,
)

Read = Callable[[], Awaitable[object]]


async def _cpu_us(read: Read, concurrency: int) -> float:
    async def reader() -> None:
        for _ in range(_READS // concurrency):
            await read()

    cpu_s = time.process_time()
    await asyncio.gather(*(reader() for _ in range(concurrency)))
    return (time.process_time() - cpu_s) / _READS * 1e6


async def _measure(port: int, *, value_bytes: int, rounds: int) -> None:
    client = RedisClient(OneServer(Server("127.0.0.1", port)), _OPTIONS, breaker_changed=lambda _server, _state: None)
    connected = asyncio.Event()
    client.on_hearing = lambda _hearing: connected.set()
    tending = asyncio.create_task(client.tend())
    pooled = Redis(port=port, max_connections=64)
    async with asyncio.timeout(_CONNECT_S_MAX):
        await connected.wait()
    await client.write("bench:key", "SET", "bench:key", b"x" * value_bytes)
    ways: dict[str, Read] = {
        "redis-py, a pool": lambda: pooled.get("bench:key"),
        "redis-py, MGET of 4": lambda: pooled.mget(["bench:key"] * 4),
        "one link": lambda: client.read("bench:key", "GET", "bench:key"),
    }
    figures: dict[tuple[str, int], list[float]] = {}
    for _ in range(rounds):
        for name, read in ways.items():
            for concurrency in _CONCURRENCIES:
                figures.setdefault((name, concurrency), []).append(await _cpu_us(read, concurrency))
    rows = [(name, *(f"{statistics.median(figures[name, each]):.1f}" for each in _CONCURRENCIES)) for name in ways]
    print(table(("µs of CPU for each read", *(f"{each} at once" for each in _CONCURRENCIES)), rows))
    await pooled.aclose()
    tending.cancel()
    await asyncio.gather(tending, return_exceptions=True)


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--value-bytes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Processes(Path(folder)) as processes:
        port = start_redis(processes)
        uvloop.run(_measure(port, value_bytes=arguments.value_bytes, rounds=arguments.rounds))


if __name__ == "__main__":
    main()
