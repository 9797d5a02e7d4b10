"""A connection of the Redis client without a server: what it writes is kept, what it hears is said by the test."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from ai_cache_extproc.clients.breaker import Breaker
from ai_cache_extproc.clients.redis.link import Link
from ai_cache_extproc.model import BreakerState

TIMEOUT_S = 0.0625
"""Of a power of two, so that times add up exactly."""
SILENCE_S = 3.0
REPLY_BYTES_MAX = 10_000


class Wire(asyncio.Transport):
    """The other end of a connection: what was written to it, and whether it was ended."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def abort(self) -> None:
        self.aborted = True


class Timer:
    """A call at some time, unless it is cancelled."""

    def __init__(self, when_s: float, callback: Callable[[], None]) -> None:
        self.when_s = when_s
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class ManualLoop:
    """As much of an event loop as a connection needs; its time passes only when told to."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.create_future = loop.create_future
        self.call_soon = loop.call_soon
        self._now_s = 1000.0
        self._timers: list[Timer] = []

    def time(self) -> float:
        return self._now_s

    def call_at(self, when_s: float, callback: Callable[[], None]) -> Timer:
        self._timers.append(Timer(when_s, callback))
        return self._timers[-1]

    def elapse(self, seconds: float) -> None:
        """Let time pass, and what is due meanwhile happen at its time."""
        end_s = self._now_s + seconds
        while due := [timer for timer in self._timers if not timer.cancelled and timer.when_s <= end_s]:
            first = min(due, key=lambda timer: timer.when_s)
            self._timers.remove(first)
            self._now_s = max(self._now_s, first.when_s)
            first.callback()
        self._now_s = end_s


@dataclass
class Told:
    """A listener, and whoever is told of a breaker and a loss."""

    keys: list[tuple[str, ...] | None] = field(default_factory=list)
    losses: list[str] = field(default_factory=list)
    states: list[BreakerState] = field(default_factory=list)

    def changed(self, keys: tuple[str, ...] | None) -> None:
        self.keys.append(keys)


class Connection:
    """A link that is up, and both of its sides. The breaker opens after `failures_max` failures."""

    def __init__(
        self,
        *,
        silence_s: float = SILENCE_S,
        listens: bool = True,
        made: bool = True,
        heals: bool = True,
        failures_max: int = 1,
    ) -> None:
        self.told = Told()
        self.breaker = Breaker(failures_max=failures_max, changed=self.told.states.append)
        self.wire = Wire()
        self.link = Link(
            timeout_s=TIMEOUT_S,
            silence_s=silence_s,
            reply_bytes_max=REPLY_BYTES_MAX,
            breaker=self.breaker,
            listener=self.told if listens else None,
            lost=self.told.losses.append,
            heals=heals,
        )
        self._loop = ManualLoop()
        self.elapse = self._loop.elapse
        self.link._loop = self._loop  # type: ignore[assignment]  # as much of one as is used
        if made:
            self.link.connection_made(self.wire)

    def hear(self, *data: bytes) -> None:
        """Let the server say something, piece by piece."""
        for piece in data:
            self.link.data_received(piece)

    async def answered(self, said: bytes) -> object:
        """One question, and its reply as the server says it."""
        asked = self.link.ask("GET", "key")
        self.hear(said)
        return await asked
