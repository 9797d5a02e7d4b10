"""A process of its own that uses a SQLite store: `python -m tests.faults.sqlite_child ROLE PATH [NUMBER]`.

Roles: `write` sets values until it is killed and prints how many are done; `join` opens the file with others at the
same moment, writes a few values and prints the identity key; `refused` prints the error that opening raises;
`full` writes until the file may not grow and then reads what is there.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import resource
import sys
import time
from pathlib import Path

from ai_cache_extproc.errors import AICacheError, BackendError
from ai_cache_extproc.stores.sqlite import SqliteStore

NOBODY = 65534
BYTES_MAX = 8 * 1024 * 1024


def value_of(key: str) -> bytes:
    """The one value that may be read under a key: from a few bytes to 100 kB."""
    seed = hashlib.sha256(key.encode()).digest()
    return seed * (1 + int.from_bytes(seed[:2], "big") % (4000 if seed[2] < 25 else 100))


async def _write(path: Path, number: int) -> None:
    async with SqliteStore.open(path, bytes_max=BYTES_MAX, clock=time.time) as store:
        for turn in range(1_000_000):
            key = f"{number}:{turn}"
            await store.set(key, value_of(key), ttl_s=3600)
            if random.random() < 0.1:
                await store.delete(f"{number}:{turn // 2}:none")
            print(turn, flush=True)


async def _join(path: Path, number: int) -> None:
    sys.stdin.readline()
    async with SqliteStore.open(path, bytes_max=BYTES_MAX, clock=time.time) as store:
        for turn in range(20):
            key = f"{number}:{turn}"
            await store.set(key, value_of(key), ttl_s=3600)
        print((await store.identity_key()).hex(), flush=True)


async def _refused(path: Path) -> None:
    if os.geteuid() == 0:
        os.seteuid(NOBODY)
    try:
        async with SqliteStore.open(path, bytes_max=BYTES_MAX, clock=time.time):
            print("opened")
    except AICacheError as error:
        print(type(error).__name__, error)


async def _full(path: Path) -> None:
    async with SqliteStore.open(path, bytes_max=BYTES_MAX, clock=time.time) as store:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
        written, failures = [], 0
        for turn in range(60):
            try:
                await store.set(f"key{turn}", value_of(f"key{turn}") * 10, ttl_s=3600)
                written.append(f"key{turn}")
            except BackendError as error:
                failures += 1
                print(type(error).__name__, error)
        whole = [await store.get(key) == value_of(key) * 10 for key in written]
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        await store.set("after", b"value", ttl_s=3600)
        print(
            f"failures={failures > 0} written={len(written) > 0} whole={all(whole)} after={await store.get('after')!r}"
        )


if __name__ == "__main__":
    role, target = sys.argv[1], Path(sys.argv[2])
    match role:
        case "write":
            asyncio.run(_write(target, int(sys.argv[3])))
        case "join":
            asyncio.run(_join(target, int(sys.argv[3])))
        case "refused":
            asyncio.run(_refused(target))
        case "full":
            asyncio.run(_full(target))
        case _:
            raise SystemExit(__doc__)
