"""What an operator sees of the store, and takes out of it: entries by their clear facts, in small steps.

A purge is in force before the first key is looked at: the record that all who share the store read says so. The walk
that follows only takes away what nobody finds any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ai_cache_extproc.cache.formats.base import Format
from ai_cache_extproc.cache.formats.native import peek
from ai_cache_extproc.cache.marks import Marks
from ai_cache_extproc.cache.purges import Purges
from ai_cache_extproc.cache.selection import Facts, Selection
from ai_cache_extproc.errors import BackendRejected
from ai_cache_extproc.keys.identity import Keyring
from ai_cache_extproc.model import Alias, Entry, Identity
from ai_cache_extproc.stores.base import Scanning, Store

STEP_KEYS = 500
"""How many keys are asked for at once: a Redis is busy with them for less than a millisecond."""
HEAD_BYTES = 2048
"""Of a value, where its header stands."""
PEEKS_MAX = 100
"""So many headers are read, about a millisecond, before others have their turn."""
WALK_KEYS_MAX = 50_000
WALK_S_MAX = 2.0
"""After either a walk is left, to be taken up again."""


ForeignId = Callable[[Keyring, str], str]
"""The id that an entry has in `X-AI-Cache-Key`, from a key that another program made."""


class BadWalk(ValueError):
    """What was asked for cannot be walked: its cursor, its prefix, or a purge that is not remembered any more."""


class Beside(Protocol):
    """What else is kept of entries, as in an index."""

    async def forget(self, keys: Sequence[str]) -> None:
        """Remove what belongs to these entries. Raises BackendError."""
        ...


@dataclass(frozen=True, slots=True)
class Found:
    """What a walk found. entries: at most as many as were asked for; matched: how many there are. cursor: None at the end.

    removed: how many of them are gone. purge: the purge's number, 0 where nothing was to be purged.
    """

    entries: tuple[Facts, ...]
    matched: int
    scanned: int
    removed: int
    cursor: str | None
    purge: int = 0


class Inventory:
    """Entries of a store. Every method raises BackendError, and BadWalk."""

    def __init__(
        self,
        store: Store,
        purges: Purges,
        *,
        prefix: str,
        foreign: Mapping[str, ForeignId],
        native: Format,
        monotonic: Callable[[], float],
        clock: Callable[[], float],
        beside: Sequence[Beside] = (),
    ) -> None:
        """foreign: by the prefixes of keys in another program's layout, what makes ids of them. clock: seconds since the epoch."""
        self._store = store
        self._purges = purges
        self._prefix = prefix
        self._foreign = foreign
        self._native = native
        self._monotonic = monotonic
        self._clock = clock
        self._beside = beside

    @property
    def marks(self) -> Marks:
        """The purges that are known."""
        return self._purges.marks

    async def find(
        self, selection: Selection, *, cursor: str = "", entries_max: int, keys_max: int | None = None
    ) -> Found:
        """Entries that the selection means; the walk ends with the step in which entries_max or keys_max is reached."""
        return await self._walk(selection, cursor, entries_max=entries_max, whole=False, keys_max=keys_max)

    async def at(self, key: str, selection: Selection) -> Found:
        """The entry at a key of our own layout, without a walk, if the selection means it."""
        is_meant = self._is_ours(key) and self._may_mean(selection, key)
        found = await self._own(selection, [key]) if is_meant else []
        return Found(tuple(found), len(found), 1, 0, None)

    async def entry(self, facts: Facts) -> Entry | Alias | None:
        """The whole entry, or what stands in its place; None if it has gone, or does not check."""
        value = await self._store.get(facts.key)
        if value is None:
            return None
        identity = Identity(facts.key, bytes.fromhex(facts.key[-64:]), "")
        try:
            return self._native.decode(value, identity)
        except BackendRejected:
            return None

    async def flush(self) -> Marks:
        """Put all entries of our own layout out of reach at once."""
        now_s = self._clock()
        return await self._purges.change(lambda marks: marks.flushed(now_s=now_s))

    async def rehearse(self, selection: Selection, *, cursor: str = "", entries_max: int = 0) -> Found:
        """What a purge would remove."""
        return await self._walk(selection, cursor, entries_max=entries_max, whole=True)

    async def purge(self, selection: Selection, *, cursor: str = "", entries_max: int = 0) -> Found:
        """Purge, then remove as many as a walk comes across; with the cursor of such a walk, go on with that purge."""
        self._prefixes(selection)
        number, _, place = cursor.partition("/")
        if not cursor:
            now_s = self._clock()
            number = str((await self._purges.change(lambda marks: marks.purged(selection, now_s))).number)
        purge = self.marks.of(int(number)) if number.isascii() and number.isdigit() else None
        if purge is None:
            raise BadWalk(f"{cursor!r} is no cursor of a purge that is remembered; begin again without one")
        found = await self._walk(purge.selection, place, entries_max=entries_max, whole=True, below=purge.number)
        onward = None if found.cursor is None else f"{number}/{found.cursor}"
        return Found(found.entries, found.matched, found.scanned, found.removed, onward, purge.number)

    # The walk.

    async def _walk(
        self,
        selection: Selection,
        cursor: str,
        *,
        entries_max: int,
        whole: bool,
        below: int | None = None,
        keys_max: int | None = None,
    ) -> Found:
        """Step by step until a limit. below: remove those whose lookup did not know of the purge of this number."""
        entries: list[Facts] = []
        matched = scanned = removed = 0
        until = self._monotonic() + WALK_S_MAX
        onward = cursor
        most = WALK_KEYS_MAX if keys_max is None else keys_max
        steps = self._steps(selection, cursor, step_keys=min(STEP_KEYS, most))
        async for found, seen, onward in steps:  # the last one is what counts
            scanned += seen
            gone = [facts for facts in found if below is None or facts.purges < below]
            matched += len(gone)
            entries += gone[: max(0, entries_max - len(entries))] if whole else gone
            if below is not None:
                removed += await self.remove([facts.key for facts in gone])
            is_full = not whole and len(entries) >= entries_max
            if onward and (is_full or scanned >= most or self._monotonic() >= until):
                break
        return Found(tuple(entries), matched, scanned, removed, onward or None)

    async def _steps(
        self, selection: Selection, cursor: str, *, step_keys: int
    ) -> AsyncIterator[tuple[list[Facts], int, str]]:
        """What each step found, how many keys it came across, and where the next one begins, "" at the end."""
        store = self._scanning()
        prefixes = self._prefixes(selection)
        at, _, place = cursor.partition(":")
        index = int(at) if at.isascii() and at.isdigit() else -1 if cursor else 0
        if not 0 <= index < len(prefixes):
            raise BadWalk(f"{cursor!r} is no cursor of this walk; begin again without one")
        while index < len(prefixes):
            try:
                scan = await store.scan(prefixes[index], cursor=place, count=step_keys)
            except ValueError as error:
                raise BadWalk(f"{cursor!r} is no cursor of this walk; begin again without one") from error
            prefix, place = prefixes[index], scan.cursor
            index += not place
            onward = f"{index}:{place}" if index < len(prefixes) else ""
            if selection.foreign:
                yield self._foreigners(selection, prefix, scan.keys), len(scan.keys), onward
            else:
                yield await self._own(selection, scan.keys), len(scan.keys), onward

    async def _own(self, selection: Selection, keys: Sequence[str]) -> list[Facts]:
        named = [key for key in keys if self._may_mean(selection, key)]
        heads = await self._scanning().heads(named, bytes_max=HEAD_BYTES)
        found = []
        for number, (key, head) in enumerate(zip(named, heads, strict=True), 1):
            if number % PEEKS_MAX == 0:
                await asyncio.sleep(0)
            facts = await self._peek(key, head) if head else None
            if facts is not None and selection.holds(facts):
                found.append(facts)
        return found

    async def _peek(self, key: str, head: bytes) -> Facts | None:
        try:
            return peek(key, self._prefix, head)
        except BackendRejected:
            pass
        try:
            return peek(key, self._prefix, await self._store.get(key) or b"")
        except BackendRejected:
            # A value that does not check: whoever looks it up deletes it.
            return None

    def _may_mean(self, selection: Selection, key: str) -> bool:
        words = key.rsplit(":", 2)
        return len(words) == 3 and len(words[2]) == 64 and selection.names(words[2][:32], words[1])

    def _foreigners(self, selection: Selection, prefix: str, keys: Sequence[str]) -> list[Facts]:
        """Entries in another layout say nothing of themselves: their ids are made from their keys."""
        ring = self._purges.current
        ids = {key: "" if ring is None else self._foreign[prefix](ring, key) for key in keys if not self._is_ours(key)}
        return [
            Facts(key, id_, "", 0, "template", "", "", (), 0.0, 0.0, -1, 0)
            for key, id_ in ids.items()
            if selection.id in ("", id_)
        ]

    def _is_ours(self, key: str) -> bool:
        return bool(self._prefix) and key.startswith(self._prefix)

    async def remove(self, keys: Sequence[str]) -> int:
        """Take these keys away, and what is kept beside them; how many the store had. Whoever purges calls it."""
        gone = await asyncio.gather(*(self._store.delete(key) for key in keys))
        for beside in self._beside:
            await beside.forget(keys)
        return sum(gone)

    def _prefixes(self, selection: Selection) -> tuple[str, ...]:
        if not selection.foreign:
            return (self._prefix,)
        if not self._foreign:
            raise BadWalk("no rule keeps entries in another program's layout")
        if "" in self._foreign and not selection.id:
            raise BadWalk(
                "the keys of that layout have no prefix, so that they cannot be told from others'; name an id"
            )
        return tuple(self._foreign)

    def _scanning(self) -> Scanning:
        if not isinstance(self._store, Scanning):
            raise BadWalk(f"the store {self._store.name} cannot be walked")
        return self._store
