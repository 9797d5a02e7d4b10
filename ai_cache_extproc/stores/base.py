"""What the cache asks of a store: bytes under a key with a lifetime. Nothing here knows what the bytes are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class StoreStats:
    """How full a store is; bytes_max is 0 where the store has no bound of its own."""

    entries: int
    bytes: int
    bytes_max: int


class Store(Protocol):
    """Keys are ASCII strings. Every method raises BackendTimeout, BackendUnavailable or BackendRejected."""

    name: str

    async def get(self, key: str) -> bytes | None:
        """The value, or None when it is absent or past its lifetime."""
        ...

    async def set(self, key: str, value: bytes, *, ttl_s: float) -> None:
        """Put a value in place of any other; ttl_s > 0. A value over the store's bound raises BackendRejected."""
        ...

    async def delete(self, key: str) -> bool:
        """Remove a value; true if there was one."""
        ...

    async def check(self) -> None:
        """Return if the store works at this moment."""
        ...

    async def stats(self) -> StoreStats:
        """Count what is stored."""
        ...


class KeyKeeper(Protocol):
    """A store that keeps the identity key for everyone who shares it."""

    async def identity_key(self) -> bytes:
        """The 32-byte identity key; made up by the first who asks, the same for all after."""
        ...
