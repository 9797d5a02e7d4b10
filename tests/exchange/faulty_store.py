"""A store that misbehaves on demand, where no server could be made to."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from ai_cache_extproc.errors import BackendError
from ai_cache_extproc.stores.base import StoreStats


@dataclass
class FaultyStore:
    """A store in memory that fails, hangs or lies on demand."""

    name: str = "faulty"
    values: dict[str, bytes] = field(default_factory=dict)
    fault: BackendError | None = None
    hanging: asyncio.Event | None = None
    bug: Exception | None = None

    async def _suffer(self) -> None:
        if self.hanging is not None:
            await self.hanging.wait()
        if self.fault is not None:
            raise self.fault
        if self.bug is not None:
            raise self.bug

    async def get(self, key: str) -> bytes | None:
        """As in Store."""
        await self._suffer()
        return self.values.get(key)

    async def set(self, key: str, value: bytes, *, ttl_s: float) -> None:
        """As in Store."""
        await self._suffer()
        assert ttl_s > 0
        self.values[key] = value

    async def delete(self, key: str) -> bool:
        """As in Store."""
        await self._suffer()
        return self.values.pop(key, None) is not None

    async def check(self) -> None:
        """As in Store."""
        await self._suffer()

    async def stats(self) -> StoreStats:
        """As in Store."""
        return StoreStats(len(self.values), sum(map(len, self.values.values())), 0)
