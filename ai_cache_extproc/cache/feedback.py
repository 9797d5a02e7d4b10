"""What somebody says of an answer by the id that its hit carried: away with it, or that it was another question's.

Both are in force before a key is looked for, as purges are: nothing that is on its way brings back what they took.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ai_cache_extproc.cache.inventory import Inventory
from ai_cache_extproc.cache.purges import Purges
from ai_cache_extproc.cache.selection import Facts, Selection
from ai_cache_extproc.cache.wrong import WrongPairs
from ai_cache_extproc.model import Alias, Entry

_ID_DIGITS = 32


@dataclass(frozen=True, slots=True)
class Taken:
    """ids: of the entry, and of the one that answered in its place. removed: how many of them the store had."""

    ids: tuple[str, ...]
    removed: int
    purge: int


@dataclass(frozen=True, slots=True)
class NotFound:
    """cursor: where the walk was left; None if there is no such entry."""

    cursor: str | None


@dataclass(frozen=True, slots=True)
class NotAPair:
    """The answer was given to this very question."""


class Feedback:
    """On entries of our own layout. Every method raises BackendError, and BadWalk for a cursor that is none."""

    def __init__(self, inventory: Inventory, purges: Purges, wrong: WrongPairs, *, clock: Callable[[], float]) -> None:
        """clock: seconds since the epoch."""
        self._inventory = inventory
        self._purges = purges
        self._wrong = wrong
        self._clock = clock

    async def remove(self, id_: str, *, cursor: str = "") -> Taken | NotFound:
        """Remove an entry; where another one answers in its place, that one too."""
        if not cursor:
            await self._purge(id_)
        found = await self._found(id_, cursor)
        if isinstance(found, NotFound):
            return found
        facts, value = found
        keys, ids = [facts.key], [id_]
        if isinstance(value, Alias):
            source = _source_id(value)
            await self._purge(source)
            keys, ids = [*keys, value.key], [*ids, source]
        removed = await self._inventory.remove(keys)
        return Taken(tuple(ids), removed, self._purges.marks.number)

    async def wrong(self, id_: str, *, cursor: str = "") -> Taken | NotAPair | NotFound:
        """Let this question and the one whose answer it got never match again; the answer stays where it belongs."""
        found = await self._found(id_, cursor)
        if isinstance(found, NotFound):
            return found
        facts, value = found
        if not isinstance(value, Alias):
            return NotAPair()
        source = _source_id(value)
        await self._wrong.add(id_, source)
        await self._purge(id_)
        removed = await self._inventory.remove([facts.key])
        return Taken((id_, source), removed, self._purges.marks.number)

    async def _purge(self, id_: str) -> None:
        now_s = self._clock()
        await self._purges.change(lambda marks: marks.purged(Selection(id=id_), now_s))

    async def _found(self, id_: str, cursor: str) -> tuple[Facts, Entry | Alias] | NotFound:
        """The entry that lookups of the present epoch find."""
        found = await self._inventory.find(Selection(id=id_), cursor=cursor, entries_max=1)
        for facts in found.entries:
            value = await self._inventory.entry(facts) if facts.epoch == self._inventory.marks.epoch else None
            if value is not None:
                return facts, value
        return NotFound(found.cursor)


def _source_id(alias: Alias) -> str:
    return alias.digest.hex()[:_ID_DIGITS]
