"""An event loop on a thread of its own, so that synchronous tests and child processes can talk to what runs there."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

T = TypeVar("T")
CALL_S_MAX = 20.0


class LoopThread:
    """Starts with its construction and runs until `stop`, which cancels every task."""

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(_report)
        self._thread = threading.Thread(target=self.loop.run_forever, name=name)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine there and return its result, from any other thread."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(CALL_S_MAX)

    def call(self, function: Callable[[], T]) -> T:
        """Call a function there and return its result, from any other thread."""

        async def called() -> T:
            return function()

        return self.run(called())

    def stop(self) -> None:
        """End the loop and its thread."""
        self.run(_cancel_others())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


async def first_of(*works: Coroutine[Any, Any, None]) -> None:
    """Run all until one ends, cancel the others, and raise what the first raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _report(loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
    # A failed handshake is the client's to report; it is what many a test is about.
    if not isinstance(context.get("exception"), (ConnectionError, ssl.SSLError)):
        loop.default_exception_handler(dict(context))


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    # A closed transport lets go of its socket in a later turn of the loop.
    for _ in range(3):
        await asyncio.sleep(0)
