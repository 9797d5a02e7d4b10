"""Vectors of texts that were embedded before, and one embedding for several who ask for the same text at once.

Texts are held by a keyed hash, not as they are. Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
from cachetools import LRUCache

from ai_cache_extproc.embedders.base import Embedder, Vectors

Outcome = Literal["embedded", "cached", "joined", "failed"]
Told = Callable[[str, Outcome, int, float], None]
"""Told the embedder, how many texts fared so, and the seconds it took (0 but for `embedded` and `failed`)."""

_OVERHEAD_BYTES = 300
"""Beside the vector itself: its header, the hash, the places in two dictionaries."""


class CachedEmbedder:
    """An Embedder in front of another."""

    def __init__(
        self,
        embedder: Embedder,
        *,
        bytes_max: int,
        told: Told | None = None,
        clock: Callable[[], float],
    ) -> None:
        """bytes_max: of the vectors kept, 0 for none. told: what became of each text. clock: monotonic seconds."""
        self.name = embedder.name
        self.identity = embedder.identity
        self.default_threshold = embedder.default_threshold
        self.is_calibrated = embedder.is_calibrated
        self.chars_max = embedder.chars_max
        self._embedder = embedder
        self._told = told or _nobody
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._kept: LRUCache[bytes, Vectors] = LRUCache(bytes_max, getsizeof=_bytes_of)
        self._flights: dict[bytes, asyncio.Future[Vectors]] = {}

    @property
    def dimensions(self) -> int | None:
        """The length of the vectors; None until configured or first seen."""
        return self._embedder.dimensions

    @property
    def kept(self) -> int:
        """Vectors kept."""
        return len(self._kept)

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """See Embedder."""
        if not texts:
            return np.empty((0, self.dimensions or 0), dtype=np.float32)
        wanted = {self._digest(text): text for text in texts}
        found = {digest: vector for digest in wanted if (vector := self._kept.get(digest)) is not None}
        self._count("cached", len(found))
        joined: set[bytes] = set()
        while missing := [digest for digest in wanted if digest not in found]:
            flights = {digest: self._flights[digest] for digest in missing if digest in self._flights}
            if ours := {digest: wanted[digest] for digest in missing if digest not in flights}:
                found |= await self._lead(ours)
            if flights:
                joined |= flights.keys()
                await asyncio.wait(flights.values())
            # Cancelled: whoever led gave up, and somebody else has to.
            found |= {digest: flight.result() for digest, flight in flights.items() if not flight.cancelled()}
        self._count("joined", len(joined))
        return np.stack([found[self._digest(text)] for text in texts])

    async def check(self) -> None:
        """See Embedder. Asks the embedder itself, whatever is kept."""
        await self._embedder.check()

    async def _lead(self, texts: Mapping[bytes, str]) -> dict[bytes, Vectors]:
        """Embed what nobody else is at; whoever asks for the same meanwhile gets what comes of it."""
        loop = asyncio.get_running_loop()
        flights = {digest: loop.create_future() for digest in texts}
        self._flights |= flights
        began_s = self._clock()
        outcome: Outcome = "failed"
        try:
            vectors = await self._embedder.embed(list(texts.values()))
            outcome = "embedded"
        except asyncio.CancelledError:
            for flight in flights.values():
                flight.cancel()
            raise
        except Exception as error:
            for flight in flights.values():
                flight.set_exception(error)
                # Nobody may have joined, and then nobody asks.
                flight.exception()
            raise
        finally:
            for digest in texts:
                del self._flights[digest]
            self._count(outcome, len(texts), self._clock() - began_s)
        led: dict[bytes, Vectors] = {}
        for digest, vector in zip(texts, vectors, strict=True):
            # A row of a batch would keep the whole batch alive, and whoever gets it must not change what others see.
            led[digest] = vector.copy()
            led[digest].setflags(write=False)
            flights[digest].set_result(led[digest])
            if _bytes_of(vector) <= self._kept.maxsize:
                self._kept[digest] = led[digest]
        return led

    def _digest(self, text: str) -> bytes:
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), key=self._key, digest_size=16).digest()

    def _count(self, outcome: Outcome, texts: int, seconds: float = 0.0) -> None:
        if texts:
            self._told(self.name, outcome, texts, seconds)


def _bytes_of(vector: Vectors) -> int:
    return vector.nbytes + _OVERHEAD_BYTES


def _nobody(embedder: str, outcome: Outcome, texts: int, seconds: float) -> None:
    pass
