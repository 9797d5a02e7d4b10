"""What has been purged, as one small record that everyone who shares a store reads. Pure.

Purges are numbered. An entry remembers how many were known to the lookup that missed, so a later one that means it holds
for it whenever it is written: nothing that began before a purge outlives it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import orjson

from ai_cache_extproc.cache.selection import Selection, selection_from
from ai_cache_extproc.model import Alias, Entry, Identity, Layout

VERSION = 1
PURGES_MAX = 64
"""So many are remembered one by one; of older ones, only how many there were, and when the last of them was."""
FORGET_S = 2 * 86_400.0
"""After this no entry is left that began before: twice the longest lifetime."""
SKEW_S = 60.0
"""How far the clocks of those who share a store may be apart."""


@dataclass(frozen=True, slots=True)
class Purge:
    """One purge by filters. made_s: seconds since the epoch."""

    number: int
    selection: Selection
    made_s: float


@dataclass(frozen=True, slots=True)
class Marks:
    """number: how many purges there were. epoch: the number of the last one that was of everything, 0 for none.

    purges: those remembered, in order. floor, floor_s: number and time of the last one that is not.
    """

    number: int = 0
    epoch: int = 0
    purges: tuple[Purge, ...] = ()
    floor: int = 0
    floor_s: float = 0.0

    def flushed(self, number: int | None = None, *, now_s: float | None = None) -> Marks:
        """After a purge of everything in our own layout, from then on in another epoch. now_s: None where it is not known."""
        number = self.number + 1 if number is None else number
        purges = tuple(purge for purge in self.purges if purge.selection.foreign)
        if now_s is not None:
            purges = (*purges, Purge(number, Selection(), now_s))
        return replace(self, number=number, epoch=number, purges=purges)

    def purged(self, selection: Selection, now_s: float) -> Marks:
        """After a purge by filters."""
        number = self.number + 1
        # When everything went is not forgotten: entries of another store are judged by it (`reach`).
        young = (each for each in self.purges if each.made_s > now_s - FORGET_S or each.number == self.epoch)
        kept = (*young, Purge(number, selection, now_s))
        over, kept = kept[:-PURGES_MAX], kept[-PURGES_MAX:]
        if not over:
            return replace(self, number=number, purges=kept)
        return replace(self, number=number, purges=kept, floor=over[-1].number, floor_s=over[-1].made_s)

    def of(self, number: int) -> Purge | None:
        """The purge of this number, while it is remembered."""
        return next((purge for purge in self.purges if purge.number == number), None)

    def forbid(self, identity: Identity, entry: Entry | Alias) -> bool:
        """Whether a purge that the entry's lookup did not know of holds for it; `entry.purges` says what it knew."""
        known = entry.purges
        if known >= self.number:
            return False
        if identity.layout is Layout.NATIVE:
            if known < self.epoch:
                return True
            if known < self.floor and entry.created_s >= self.floor_s - SKEW_S:
                return True
        return any(purge.number > known and purge.selection.means(identity, entry) for purge in self.purges)

    def reach(self, identity: Identity, entry: Entry) -> bool:
        """Whether a purge may hold for an entry of our own layout that knows nothing of these numbers: by its time alone."""
        began_s = min(captured.created_s - captured.elapsed_s for captured in entry.captures) - SKEW_S
        if self.epoch > self.floor and self.of(self.epoch) is None:
            return True
        if self.floor and began_s <= self.floor_s:
            return True
        return any(purge.made_s >= began_s and purge.selection.means(identity, entry) for purge in self.purges)


def dumped(marks: Marks) -> bytes:
    """The record."""
    purges = [[purge.number, purge.made_s, purge.selection.document()] for purge in marks.purges]
    return orjson.dumps([VERSION, marks.number, marks.epoch, marks.floor, marks.floor_s, purges])


def loaded(record: bytes) -> Marks:
    """The marks of a record. Raises ValueError for anything else."""
    try:
        version, number, epoch, floor, floor_s, listed = orjson.loads(record)
        if version != VERSION or not all(type(each) is int for each in (number, epoch, floor)):
            raise ValueError("another version")
        purges = tuple(Purge(int(own), selection_from(filters), float(made_s)) for own, made_s, filters in listed)
        return Marks(number, epoch, purges, floor, float(floor_s))
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"not a record of purges ({error})") from error
