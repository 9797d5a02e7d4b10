"""Entries in the memory of this process, the least recently used making room."""

from __future__ import annotations

import heapq
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from cachetools import Cache, TLRUCache

from ai_cache_extproc.errors import BackendRejected
from ai_cache_extproc.stores.base import Scan, StoreStats

# What the containers around a key and a value weigh, about.
_ENTRY_BYTES = 512


@dataclass(frozen=True, slots=True)
class _Kept:
    value: bytes
    expires_s: float
    size_bytes: int


def _expires_s(_key: str, kept: _Kept, _now_s: float) -> float:
    return kept.expires_s


def _size_bytes(kept: _Kept) -> int:
    return kept.size_bytes


class MemoryStore:
    """A Store, KeyKeeper and Scanning whose entries and identity key end with the process."""

    name = "memory"

    def __init__(self, *, bytes_max: int, clock: Callable[[], float]) -> None:
        self._bytes_max = bytes_max
        self._clock = clock
        self._kept: TLRUCache[str, _Kept] = TLRUCache(bytes_max, _expires_s, timer=clock, getsizeof=_size_bytes)
        self._identity_key: bytes | None = None

    @classmethod
    @asynccontextmanager
    async def open(cls, *, bytes_max: int, clock: Callable[[], float]) -> AsyncIterator[MemoryStore]:
        """Yield an empty store. clock: seconds since the epoch."""
        yield cls(bytes_max=bytes_max, clock=clock)

    async def get(self, key: str) -> bytes | None:
        """The value, or None when it is absent or past its lifetime."""
        kept = self._kept.get(key)
        return None if kept is None else kept.value

    async def set(self, key: str, value: bytes, *, ttl_s: float) -> None:
        """Put a value in place of any other; expired values make room, then the least recently used."""
        size_bytes = len(value) + len(key) + _ENTRY_BYTES
        if size_bytes > self._bytes_max:
            raise BackendRejected(self.name, "set", f"{len(value)} bytes are over the bound of {self._bytes_max}")
        self._kept[key] = _Kept(value, self._clock() + ttl_s, size_bytes)

    async def delete(self, key: str) -> bool:
        """Remove a value; true if there was one."""
        return self._kept.pop(key, None) is not None

    async def scan(self, prefix: str, *, cursor: str, count: int) -> Scan:
        """Keys in their order, from the one after `cursor` on."""
        keys = heapq.nsmallest(count, (key for key in self._kept if key > cursor and key.startswith(prefix)))
        return Scan(tuple(keys), keys[-1] if len(keys) == count else "")

    async def heads(self, keys: Sequence[str], *, bytes_max: int) -> list[bytes]:
        """The first bytes of the values; looking is no use, so that nothing stays for it."""
        return [self._peek(key)[:bytes_max] for key in keys]

    def _peek(self, key: str) -> bytes:
        try:
            kept: _Kept = Cache.__getitem__(self._kept, key)
        except KeyError:
            return b""
        return kept.value if kept.expires_s > self._clock() else b""

    async def check(self) -> None:
        """Return: memory is always there."""

    async def stats(self) -> StoreStats:
        """Count the values inside their lifetime."""
        self._kept.expire()
        return StoreStats(entries=len(self._kept), bytes=int(self._kept.currsize), bytes_max=self._bytes_max)

    async def identity_key(self, proposed: bytes | None = None) -> bytes:
        """A key of this process, made up once."""
        if self._identity_key is None:
            self._identity_key = proposed or os.urandom(32)
        return self._identity_key
