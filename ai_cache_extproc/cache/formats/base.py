"""How an entry becomes the bytes of a store, and an entry again."""

from __future__ import annotations

from typing import Protocol

from ai_cache_extproc.errors import BackendRejected
from ai_cache_extproc.model import Alias, Entry, Identity


class NotOurs(BackendRejected):
    """A value that is a miss here, and may well be of use to another program: it stays."""


class Format(Protocol):
    """One layout of values."""

    def encode(self, entry: Entry | Alias, identity: Identity) -> bytes:
        """The bytes to store under the identity's key. Raises BackendRejected for an entry that has none."""
        ...

    def decode(self, data: bytes, identity: Identity) -> Entry | Alias:
        """What was stored under the identity's key. Raises BackendRejected, or NotOurs to leave it there."""
        ...
