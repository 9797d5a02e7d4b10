"""A bounded queue of work that nobody waits for, and the task that does it piece by piece."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar


class Sized(Protocol):
    """A piece of work, and what it holds in memory."""

    @property
    def size_bytes(self) -> int:
        """Its part of the bound."""
        ...


Piece = TypeVar("Piece", bound=Sized)


class Backlog(Generic[Piece]):
    """What was taken is done in its order, whatever becomes of the piece before."""

    def __init__(
        self,
        work: Callable[[Piece], Awaitable[None]],
        fault: Callable[[Piece, Exception], None],
        *,
        pieces_max: int,
        bytes_max: int,
    ) -> None:
        """fault: told of a piece whose work raised, and what."""
        self._work = work
        self._fault = fault
        self._pieces_max = pieces_max
        self._bytes_max = bytes_max
        self._waiting: deque[Piece] = deque()
        self._bytes = 0
        self._was_taken = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def take(self, piece: Piece) -> bool:
        """False if there is no room for it."""
        if len(self._waiting) >= self._pieces_max or self._bytes + piece.size_bytes > self._bytes_max:
            return False
        self._waiting.append(piece)
        self._bytes += piece.size_bytes
        self._idle.clear()
        self._was_taken.set()
        return True

    async def run(self) -> None:
        """Do what there is until cancelled."""
        while True:
            await self._was_taken.wait()
            self._was_taken.clear()
            while self._waiting:
                # It stays in its place meanwhile, so that whoever drains waits for it too.
                piece = self._waiting[0]
                try:
                    await self._work(piece)
                except Exception as error:  # noqa: BLE001 - one piece's fault is not the next one's
                    self._fault(piece, error)
                self._waiting.popleft()
                self._bytes -= piece.size_bytes
            self._idle.set()

    async def drain(self) -> None:
        """Wait until all that was taken is done, or was given up."""
        await self._idle.wait()
