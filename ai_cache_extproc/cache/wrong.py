"""Pairs of questions of which somebody said that they do not mean the same: neither answers for the other ever again.

A mark in the store for each, so that everyone who shares it knows. It outlives entries, aliases and purges.
"""

from __future__ import annotations

import math

from ai_cache_extproc.cache.keysource import HasKeyring
from ai_cache_extproc.keys.pairs import pair_name
from ai_cache_extproc.stores.base import MarkKeeper, Store

_SAID = b"1"


class WrongPairs:
    """Of one store. Every method raises BackendError."""

    def __init__(self, store: Store, keys: HasKeyring, *, prefix: str) -> None:
        self._store = store
        self._keys = keys
        self._prefix = prefix

    async def holds(self, one: str, other: str) -> bool:
        """Whether the pair of these ids is a wrong one. It is read with whatever else is asked of the store in this tick."""
        name = self._name(one, other)
        if isinstance(self._store, MarkKeeper):
            return await self._store.mark(name) is not None
        return await self._store.get(name) is not None

    async def add(self, one: str, other: str) -> None:
        """Let the pair never match again."""
        name = self._name(one, other)
        if isinstance(self._store, MarkKeeper):
            await self._store.change_mark(name, None, _SAID)
        else:
            await self._store.set(name, _SAID, ttl_s=math.inf)

    def _name(self, one: str, other: str) -> str:
        keyring = self._keys.current
        assert keyring is not None, "ids are made with one"
        return f"{self._prefix}wrong:{pair_name(keyring, one, other)}"
