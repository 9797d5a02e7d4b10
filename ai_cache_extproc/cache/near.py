"""The copy of recently used entries in this process: bounded in bytes, and never far behind the store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cachetools import LRUCache

from ai_cache_extproc.model import Entry


@dataclass(frozen=True, slots=True)
class _Copy:
    entry: Entry
    put_s: float
    drop_s: float
    size_bytes: int


def _size_bytes(copy: _Copy) -> int:
    return copy.size_bytes


class Near:
    """Entries by store key, the least recently used making room."""

    def __init__(self, *, bytes_max: int, ttl_s_max: float, clock: Callable[[], float]) -> None:
        """bytes_max: 0 keeps nothing. ttl_s_max: how long after `put` an entry is given. clock: seconds since the epoch."""
        self._ttl_s_max = ttl_s_max
        self._clock = clock
        self._copies: LRUCache[str, _Copy] = LRUCache(bytes_max, getsizeof=_size_bytes)

    def get(self, key: str) -> Entry | None:
        """The entry, unless it was put too long ago or all of it has expired."""
        copy = self._copies.get(key)
        if copy is None:
            return None
        # A clock that was set back must not prolong anything.
        if copy.put_s <= self._clock() < copy.drop_s:
            return copy.entry
        del self._copies[key]
        return None

    def put(self, key: str, entry: Entry) -> None:
        """Keep an entry in place of any other; one that is larger than the whole bound is not kept."""
        if not self._copies.maxsize:
            return
        now_s = self._clock()
        drop_s = min(entry.expires_s, now_s + self._ttl_s_max)
        copy = _Copy(entry, now_s, drop_s, entry.size_bytes + len(key))
        if copy.size_bytes > self._copies.maxsize:
            self.drop(key)
        else:
            self._copies[key] = copy

    def drop(self, key: str) -> None:
        """Forget the entry, if there is one."""
        self._copies.pop(key, None)

    def clear(self) -> None:
        """Forget everything."""
        self._copies.clear()

    @property
    def entries(self) -> int:
        """How many entries are kept."""
        return len(self._copies)

    @property
    def bytes(self) -> int:
        """What they weigh."""
        return int(self._copies.currsize)
