"""Batches, kept item by item beside the whole: a new batch whose items are all known is a hit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from ai_cache_extproc.cache.admission import Admitted
from ai_cache_extproc.cache.exact import Exact
from ai_cache_extproc.cache.keysource import HasKeyring
from ai_cache_extproc.cache.understanding import locate
from ai_cache_extproc.dialects.base import BatchDialect
from ai_cache_extproc.model import Captured, Entry, Identity, Question


class Items:
    """Finds batches by their items."""

    def __init__(self, *, exact: Exact, keys: HasKeyring, clock: Callable[[], float]) -> None:
        """clock: seconds since the epoch."""
        self._exact = exact
        self._keys = keys
        self._clock = clock

    def identities(self, admitted: Admitted, question: Question) -> tuple[Identity, ...]:
        """Where the answer to each item is kept; none where the question is no batch."""
        keyring = self._keys.current
        if keyring is None or not isinstance(admitted.dialect, BatchDialect):
            return ()
        return tuple(locate(keyring, admitted, item) for item in admitted.dialect.items(question))

    async def read(self, admitted: Admitted, question: Question) -> Entry | None:
        """The batch as an entry, put together from its items; None if one is unknown. Raises BackendError."""
        identities = self.identities(admitted, question)
        if not identities:
            return None
        entries = await asyncio.gather(*(self._exact.known(identity) for identity in identities))
        captures = self._fresh(entries)
        assert isinstance(admitted.dialect, BatchDialect)
        joined = admitted.dialect.join(captures) if len(captures) == len(identities) else None
        if joined is None:
            return None
        return Entry(question.dialect, question.model, admitted.rule.name, (joined,))

    def _fresh(self, entries: Sequence[Entry | None]) -> list[Captured]:
        now_s = self._clock()
        return [captured for entry in entries if entry is not None for captured in entry.fresh(now_s)[:1]]
