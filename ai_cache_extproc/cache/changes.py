"""What the store tells of changes, passed on: to the near cache, and to those who wait for another process."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from ai_cache_extproc.cache.near import Near
from ai_cache_extproc.cache.purges import Purges
from ai_cache_extproc.model import Hearing, Identity

LOOK_S = 0.025
"""How often to look at the store where it does not tell of changes."""
LOOK_HEARING_S = 0.5
"""The same where it does: leases that expire are told of late, when Redis comes across them."""


class Waiting:
    """A wait for a key or its lease, as a context, so that no change between a look and the wait is missed."""

    def __init__(self, changes: Changes, names: tuple[str, ...]) -> None:
        self._changes = changes
        self._names = names
        self._woken = asyncio.Event()

    def __enter__(self) -> Self:
        for name in self._names:
            self._changes.waiting.setdefault(name, set()).add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in self._names:
            waiting = self._changes.waiting[name]
            waiting.discard(self)
            if not waiting:
                del self._changes.waiting[name]

    def wake(self) -> None:
        """Something changed."""
        self._woken.set()

    async def change(self, timeout_s: float) -> None:
        """Return when the entry or its lease changed, and sometimes sooner; at the latest after timeout_s."""
        try:
            async with asyncio.timeout(min(timeout_s, self._changes.look_s)):
                await self._woken.wait()
        except TimeoutError:
            pass
        self._woken.clear()


class Changes:
    """A ChangeListener."""

    def __init__(self, near: Near, purges: Purges | None = None) -> None:
        self.waiting: dict[str, set[Waiting]] = {}
        self.look_s = LOOK_S
        self._near = near
        self._purges = purges
        self._mark = None if purges is None else purges.name

    def changed(self, keys: tuple[str, ...] | None) -> None:
        """Keys of entries or leases were written or have gone; None: any number of them."""
        if keys is None:
            self._near.clear()
            keys = (*self.waiting, *(() if self._mark is None else (self._mark,)))
        for key in keys:
            if key == self._mark and self._purges is not None:
                self._purges.changed()
            self._near.drop(key)
            for waiting in self.waiting.get(key, ()):
                waiting.wake()

    def hearing(self, hearing: Hearing) -> None:
        """What will be heard from here on."""
        self._near.hear(hearing)
        if self._purges is not None:
            self._purges.hear(hearing)
        self.look_s = LOOK_HEARING_S if hearing is Hearing.ALL else LOOK_S

    def wait_for(self, identity: Identity) -> Waiting:
        """A wait for an entry or its lease."""
        return Waiting(self, (identity.key, identity.flight))
