"""The purges that this process knows of, kept up with the store. The epoch of every key made here comes from here.

Where the store tells of changes, they are known as they happen and a lookup costs nothing more; where it does not, or
while something may have been missed, each lookup reads the record beside the entry.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import structlog

from ai_cache_extproc.cache.keysource import HasKeyring
from ai_cache_extproc.cache.marks import Marks, dumped, loaded
from ai_cache_extproc.cache.near import Near
from ai_cache_extproc.errors import BackendError, BackendTimeout, BackendUnavailable
from ai_cache_extproc.keys.identity import Keyring
from ai_cache_extproc.model import Alias, Entry, Hearing, Identity
from ai_cache_extproc.stores.base import MarkKeeper, Store
from ai_cache_extproc.telemetry.metrics import Metrics

log = structlog.get_logger()

MARK = "epoch"
"""Behind the prefix, the name of the record."""
LOOK_S = 1.0
"""How often to look where no change is heard of: until then near copies may outlive a purge."""
LOOK_HEARING_S = 10.0
"""The same where it is: only to put the record back that was evicted, and to keep it in use."""
RETRY_S = 0.2
_READ_S_MAX = 1.0
_ATTEMPTS_MAX = 8


class Purges:
    """A HasKeyring whose keyring is of the current epoch."""

    def __init__(
        self, keys: HasKeyring, store: Store, *, prefix: str, near: Near, metrics: Metrics, clock: Callable[[], float]
    ) -> None:
        """keys: gives the secret. clock: seconds since the epoch. A store that keeps no marks belongs to this process."""
        self.marks = Marks()
        self.name = prefix + MARK
        self.settled = not isinstance(store, MarkKeeper)
        """Whether the marks are known to be the store's, so that a read need not ask for them."""
        self._keys = keys
        self._keeper = store if isinstance(store, MarkKeeper) else None
        self._near = near
        self._metrics = metrics
        self._clock = clock
        self._record: bytes | None = None
        self._ring: Keyring | None = None
        self._ring_of: Keyring | None = None
        self._hears = False
        self._changes = 0
        self._wake = asyncio.Event()

    @property
    def current(self) -> Keyring | None:
        """The keyring, None as long as there is none."""
        ring = self._keys.current
        if ring is not self._ring_of:
            self._ring_of = ring
            self._ring = ring and replace(ring, epoch=self.marks.epoch, purges=self.marks.number)
        return self._ring

    def forbid(self, identity: Identity, entry: Entry | Alias) -> bool:
        """Whether a purge holds for an entry that may have begun before it."""
        return entry.purges < self.marks.number and self.marks.forbid(identity, entry)

    # News.

    def changed(self) -> None:
        """The record has changed, or may have: until it is read again nobody relies on what is known."""
        if self._keeper is None:
            return
        self._changes += 1
        self.settled = False
        self._near.clear()
        self._wake.set()

    def hear(self, hearing: Hearing) -> None:
        """What will be heard from here on."""
        self._hears = hearing is Hearing.ALL
        self.changed()

    async def run(self) -> None:
        """Keep the marks up until cancelled."""
        while self._keeper is not None:
            known = await self.look()
            try:
                async with asyncio.timeout((LOOK_HEARING_S if self._hears else LOOK_S) if known else RETRY_S):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def look(self) -> bool:
        """Read the record; False if that failed, which is counted."""
        if self._keeper is None:
            return True
        self._wake.clear()
        changes = self._changes
        try:
            async with asyncio.timeout(_READ_S_MAX):
                record = await self._keeper.mark(self.name)
                if not self._saw(record):
                    await self._put_back(self._keeper, record)
        except TimeoutError:
            self._metrics.backend_error(BackendTimeout("store", "mark", f"no answer in {_READ_S_MAX:.0f} s"))
            return False
        except BackendError as error:
            self._metrics.backend_error(error)
            return False
        if self._hears and changes == self._changes:
            self.settled = True
        return True

    async def read(self, key: str) -> bytes | None:
        """A value, with the record beside it. Raises BackendError."""
        assert self._keeper is not None, "nobody is asked where the marks are settled"
        value, record = await self._keeper.get_with_mark(key, self.name)
        if not self._saw(record):
            self._wake.set()
        return value

    # Changing.

    async def change(self, alter: Callable[[Marks], Marks]) -> Marks:
        """Let everyone know of a purge; the marks after it. Raises BackendError."""
        if self._keeper is None:
            self._adopt(alter(self.marks))
            return self.marks
        for _ in range(_ATTEMPTS_MAX):
            record = await self._keeper.mark(self.name)
            self._saw(record)
            marks = alter(self.marks)
            if await self._keeper.change_mark(self.name, record, fresh := dumped(marks)):
                self._adopt(marks, fresh)
                return marks
        raise BackendUnavailable(
            "store", "change_mark", f"{self.name} changed {_ATTEMPTS_MAX} times meanwhile; try again"
        )

    async def _put_back(self, keeper: MarkKeeper, record: bytes | None) -> None:
        """Write again what a flush or an eviction took. A damaged record may have said anything: then all is flushed."""
        marks = self.marks
        if record is not None and _read(record) is None:
            now_s = self._clock()
            marks = marks.flushed(max(marks.number + 1, int(now_s)), now_s=now_s)
            log.error("purges_damaged", effect="everything is flushed", epoch=marks.epoch)
        if await keeper.change_mark(self.name, record, fresh := dumped(marks)):
            self._adopt(marks, fresh)

    def _saw(self, record: bytes | None) -> bool:
        """Go by a record that was read; False if it is behind what is known."""
        if record == self._record:
            return True
        marks = Marks() if record is None else _read(record)
        if marks is None or marks.number < self.marks.number:
            return False
        self._adopt(marks, record)
        return True

    def _adopt(self, marks: Marks, record: bytes | None = None) -> None:
        self._record = record
        if marks == self.marks:
            return
        self.marks = marks
        self._ring_of = self._ring = None
        self._near.clear()
        log.info("purges_known", purges=marks.number, epoch=marks.epoch)


def _read(record: bytes) -> Marks | None:
    try:
        return loaded(record)
    except ValueError:
        return None
