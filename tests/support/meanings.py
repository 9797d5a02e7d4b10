"""An embedder for tests in which meaning is decided, not computed: what texts are about, and how close they are to it."""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Mapping, Sequence

import numpy as np

from ai_cache_extproc.embedders.base import Vectors
from ai_cache_extproc.errors import BackendError

DIMENSIONS = 64
PATIENT_EMBEDDED = {"type": "embedded", "timeout_ms": 3000, "chars_max": 96, "scheduling": "normal"}
"""The embedded model, as it finds time beside other tests: the defaults are for a machine that is idle at times."""


class Directions:
    """An Embedder. about: of a text, its topic and the cosine to whatever is exactly that; other texts are strangers.

    Two texts of one topic have the product of their cosines, since each leaves the topic in a direction of its own.
    """

    name = "directions"
    identity = "directions/1"
    default_threshold: float | None = 0.97
    is_calibrated = True

    def __init__(self, about: Mapping[str, tuple[str, float]], *, chars_max: int = 200) -> None:
        self.about = dict(about)
        self.chars_max = chars_max
        self.dimensions: int | None = DIMENSIONS
        self.embedded: list[str] = []
        self.fails: BackendError | None = None
        self.waits: asyncio.Event | None = None

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """See Embedder."""
        self.embedded += texts
        if self.waits is not None:
            await self.waits.wait()
        if self.fails is not None:
            raise self.fails
        return np.stack([self._vector(text) for text in texts])

    async def check(self) -> None:
        """See Embedder."""
        await self.embed(["ping"])

    def _vector(self, text: str) -> Vectors:
        topic, cosine = self.about.get(text, (text, 1.0))
        base, aside = _direction(f"topic {topic}"), _direction(f"text {text}")
        aside -= (aside @ base) * base
        aside /= np.linalg.norm(aside)
        vector: Vectors = (cosine * base + math.sqrt(1 - cosine**2) * aside).astype(np.float32)
        return vector / np.float32(np.linalg.norm(vector))


def _direction(name: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Of a name, always the same; of two names, nearly at right angles."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    drawn = np.random.default_rng(seed).normal(size=DIMENSIONS)
    return drawn / np.linalg.norm(drawn)
