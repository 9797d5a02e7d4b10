"""Ways to read SQLite from an event loop, each reduced to the hand-over: CPU of the process per read.

Run: python -m bench.sqlite_handover
"""

from __future__ import annotations

import asyncio
import os
import queue
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import uvloop

from ai_cache_extproc.stores.sqlite import SqliteStore

_READ = "SELECT value FROM entries WHERE key = ? AND expires_s > 0"
_KEYS = 500
_ROUNDS = 7
_SECONDS = 0.25

Read = Callable[[str], Awaitable[object]]
Question = tuple[asyncio.Future[object], str]


class InLoop:
    """Read in the loop's own thread: the floor, at the price of a loop that waits for the disk."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)

    async def read(self, key: str) -> object:
        """The row."""
        return self._connection.execute(_READ, (key,)).fetchone()


class EachJob:
    """Hand over each read by itself, as an executor does."""

    def __init__(self, path: Path) -> None:
        self._loop = asyncio.get_running_loop()
        self._questions: queue.SimpleQueue[list[Question]] = queue.SimpleQueue()
        threading.Thread(target=self._main, args=(path,), daemon=True).start()

    async def read(self, key: str) -> object:
        """The row."""
        future = self._loop.create_future()
        self._questions.put([(future, key)])
        return await future

    def _main(self, path: Path) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            while True:
                questions = self._questions.get()
                rows = [(future, connection.execute(_READ, (key,)).fetchone()) for future, key in questions]
                self._answer(rows)

    def _answer(self, rows: list[tuple[asyncio.Future[object], object]]) -> None:
        self._loop.call_soon_threadsafe(self._deliver, rows)

    @staticmethod
    def _deliver(rows: list[tuple[asyncio.Future[object], object]]) -> None:
        for future, row in rows:
            future.set_result(row)


class EachTurn(EachJob):
    """Hand over what one turn of the loop asks for together."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._turn: list[Question] = []

    async def read(self, key: str) -> object:
        """The row."""
        future = self._loop.create_future()
        if not self._turn:
            self._loop.call_soon(self._hand_over)
        self._turn.append((future, key))
        return await future

    def _hand_over(self) -> None:
        turn, self._turn = self._turn, []
        self._questions.put(turn)


class Waiting(EachTurn):
    """The same, and the loop stands still until the answers are there."""

    def __init__(self, path: Path) -> None:
        self._answers: queue.SimpleQueue[list[tuple[asyncio.Future[object], object]]] = queue.SimpleQueue()
        super().__init__(path)

    def _hand_over(self) -> None:
        super()._hand_over()
        self._deliver(self._answers.get())

    def _answer(self, rows: list[tuple[asyncio.Future[object], object]]) -> None:
        self._answers.put(rows)


async def _cpu_us(read: Read, *, concurrency: int) -> float:
    asked, until_s, cpu_s = 0, time.perf_counter() + _SECONDS, time.process_time()

    async def ask() -> None:
        nonlocal asked
        while time.perf_counter() < until_s:
            await read(f"key{asked % _KEYS}")
            asked += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(ask())
    return (time.process_time() - cpu_s) / asked * 1e6


async def _main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "cache.db"
        async with SqliteStore.open(path, bytes_max=1 << 30, clock=time.time) as store:
            for number in range(_KEYS):
                await store.set(f"key{number}", os.urandom(1500), ttl_s=3600)
            ways: dict[str, Read] = {"in the loop": InLoop(path).read, "each job": EachJob(path).read}
            ways |= {"each turn": EachTurn(path).read, "loop waits": Waiting(path).read, "the store": store.get}
            for concurrency in (1, 4, 48):
                rounds = [
                    {name: await _cpu_us(read, concurrency=concurrency) for name, read in ways.items()}
                    for _ in range(_ROUNDS)
                ]
                figures = (f"{name} {statistics.median(each[name] for each in rounds):5.1f}" for name in ways)
                print(f"concurrency {concurrency:2}, us CPU per read:  " + "   ".join(figures))


if __name__ == "__main__":
    uvloop.run(_main())
