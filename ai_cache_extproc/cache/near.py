"""The copy of recently used entries in this process: bounded in bytes, and never behind the store unnoticed.

Where the store tells of changes, a copy lives until it changes; where it does not, for a short time; and where some
changes may have been missed, there are no copies.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from cachetools import LRUCache

from ai_cache_extproc.model import Alias, Entry, Hearing


@dataclass(frozen=True, slots=True)
class _Copy:
    entry: Entry | Alias
    put_s: float
    drop_s: float
    size_bytes: int


def _size_bytes(copy: _Copy) -> int:
    return copy.size_bytes


class _Watch:
    """A key that is being read at this moment: by how many, and how often it has changed meanwhile."""

    __slots__ = ("changes", "readers")

    def __init__(self) -> None:
        self.readers = 0
        self.changes = 0


class Reading:
    """A read of the shared store, as a context: `keep` copies what was read, unless the key changed on the way."""

    __slots__ = ("_changes", "_key", "_near", "_watch")

    def __init__(self, near: Near, key: str, watch: _Watch) -> None:
        self._near = near
        self._key = key
        self._watch = watch
        self._changes = watch.changes

    def __enter__(self) -> Self:
        self._watch.readers += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watch.readers -= 1
        if not self._watch.readers:
            self._near.watches.pop(self._key, None)

    def keep(self, entry: Entry | Alias) -> None:
        """Copy the entry near."""
        if self._watch.changes == self._changes:
            self._near.put(self._key, entry)


class Near:
    """Entries by store key, the least recently used making room."""

    def __init__(
        self, *, bytes_max: int, ttl_s_max: float, clock: Callable[[], float], heard: tuple[str, ...] = ("",)
    ) -> None:
        """bytes_max: 0 keeps nothing. ttl_s_max: how long a copy is given where no change is heard of.

        clock: seconds since the epoch. heard: prefixes of the keys whose changes the store can tell of.
        """
        self._heard = heard
        self.watches: dict[str, _Watch] = {}
        self._ttl_s_max = ttl_s_max
        self._clock = clock
        self._hearing = Hearing.NONE
        self._copies: LRUCache[str, _Copy] = LRUCache(bytes_max, getsizeof=_size_bytes)

    def get(self, key: str) -> Entry | Alias | None:
        """The entry, unless it was put too long ago or all of it has expired."""
        copy = self._copies.get(key)
        if copy is None:
            return None
        # A clock that was set back must not prolong anything.
        if copy.put_s <= self._clock() < copy.drop_s:
            return copy.entry
        del self._copies[key]
        return None

    def put(self, key: str, entry: Entry | Alias) -> None:
        """Keep an entry in place of any other; one that is larger than the whole bound is not kept."""
        if not self._copies.maxsize or self._hearing is Hearing.LOST:
            return
        now_s = self._clock()
        drop_s = entry.expires_s
        if self._hearing is Hearing.NONE or not key.startswith(self._heard):
            drop_s = min(drop_s, now_s + self._ttl_s_max)
        copy = _Copy(entry, now_s, drop_s, entry.size_bytes + len(key))
        if copy.size_bytes > self._copies.maxsize:
            self._copies.pop(key, None)
        else:
            self._copies[key] = copy

    def reading(self, key: str) -> Reading:
        """To be entered before the store is asked."""
        watch = self.watches.get(key)
        if watch is None:
            watch = self.watches[key] = _Watch()
        return Reading(self, key, watch)

    def drop(self, key: str) -> None:
        """Forget the entry, if there is one, and what is being read of it."""
        self._copies.pop(key, None)
        watch = self.watches.get(key)
        if watch is not None:
            watch.changes += 1

    def clear(self) -> None:
        """Forget everything, and whatever is being read."""
        self._copies.clear()
        for watch in self.watches.values():
            watch.changes += 1

    def hear(self, hearing: Hearing) -> None:
        """Go by what is heard of changes from here on; what was kept under another rule is forgotten."""
        if hearing is not self._hearing:
            self._hearing = hearing
            self.clear()

    @property
    def hearing(self) -> Hearing:
        """What is heard of changes in the store."""
        return self._hearing

    @property
    def entries(self) -> int:
        """How many entries are kept."""
        return len(self._copies)

    @property
    def bytes(self) -> int:
        """What they weigh."""
        return int(self._copies.currsize)
