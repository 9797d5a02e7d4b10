"""What one read from the SQLite store costs: CPU of the whole process and time waited, alone and 48 at once.

Run: python -m bench.sqlite_store [--seconds 2] [--value-bytes 1500] [--busy]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from pathlib import Path

import uvloop

from ai_cache_extproc.stores.base import Store
from ai_cache_extproc.stores.sqlite import SqliteStore

_KEYS = 2000
_BUSY_S = 0.002
_REST_S = 0.001


async def _ask(store: Store, keys: list[str], *, until_s: float, waited_s: list[float]) -> None:
    turn = 0
    while (start_s := time.perf_counter()) < until_s:
        if await store.get(keys[turn % len(keys)]) is None:
            raise SystemExit("a value that was written is missing")
        waited_s.append(time.perf_counter() - start_s)
        turn += 1


async def _keep_busy(until_s: float) -> None:
    """Hold the interpreter as a sidecar under load does: Python code most of the time, short waits between."""
    while time.perf_counter() < until_s:
        end_s = time.perf_counter() + _BUSY_S
        while time.perf_counter() < end_s:
            pass
        await asyncio.sleep(_REST_S)


async def _measure(store: Store, keys: list[str], *, concurrency: int, seconds: float, busy: bool) -> None:
    waited_s: list[float] = []
    cpu_s, until_s = time.process_time(), time.perf_counter() + seconds
    async with asyncio.TaskGroup() as group:
        for first in range(concurrency):
            turned = keys[first * 37 :] + keys[: first * 37]
            group.create_task(_ask(store, turned, until_s=until_s, waited_s=waited_s))
        if busy:
            group.create_task(_keep_busy(until_s))
    cpu_us = (time.process_time() - cpu_s) / len(waited_s) * 1e6
    centiles = statistics.quantiles(waited_s, n=100)
    print(
        f"concurrency {concurrency:3}: {cpu_us:6.1f} us CPU per get, {len(waited_s) / seconds:8.0f} gets/s, "
        f"waited p50 {centiles[49] * 1e6:6.0f} us, p99 {centiles[98] * 1e6:6.0f} us"
    )


async def _main(*, seconds: float, value_bytes: int, busy: bool) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "cache.db"
        async with SqliteStore.open(path, bytes_max=1 << 30, clock=time.time) as store:
            keys = [f"aicache:0:{os.urandom(8).hex()}:{os.urandom(32).hex()}" for _ in range(_KEYS)]
            cpu_s = time.process_time()
            for key in keys:
                await store.set(key, os.urandom(value_bytes), ttl_s=3600)
            print(f"set, one by one: {(time.process_time() - cpu_s) / _KEYS * 1e6:6.1f} us CPU")
            for concurrency in (1, 48):
                await _measure(store, keys, concurrency=concurrency, seconds=seconds, busy=busy)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--value-bytes", type=int, default=1500)
    parser.add_argument("--busy", action="store_true", help="keep the event loop busy with other work meanwhile")
    arguments = parser.parse_args()
    uvloop.run(_main(seconds=arguments.seconds, value_bytes=arguments.value_bytes, busy=arguments.busy))
