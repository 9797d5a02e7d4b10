"""What the cache asks of a store: bytes under a key with a lifetime. Nothing here knows what the bytes are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, runtime_checkable

from ai_cache_extproc.model import Hearing


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
        """Put a value in place of any other; ttl_s > 0, inf for ever. One over the store's bound raises BackendRejected."""
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

    async def identity_key(self, proposed: bytes | None = None) -> bytes:
        """The 32-byte identity key: the one that is kept, else `proposed`, else a new one, which is kept then."""
        ...


@runtime_checkable
class MarkKeeper(Protocol):
    """A store that keeps marks for all who share it: small values that are never evicted to make room. Raises as a Store does."""

    async def get_with_mark(self, key: str, mark: str) -> tuple[bytes | None, bytes | None]:
        """A value, as `get` does, and the mark of that name: as it was when the value was read, or later."""
        ...

    async def mark(self, mark: str) -> bytes | None:
        """The mark of that name."""
        ...

    async def change_mark(self, mark: str, old: bytes | None, new: bytes) -> bool:
        """Put `new` in the place of `old`, None for none; false if something else stands there."""
        ...


@dataclass(frozen=True, slots=True)
class Scan:
    """Some keys, and where to go on; cursor: "" after the last ones."""

    keys: tuple[str, ...]
    cursor: str


@runtime_checkable
class Scanning(Protocol):
    """A store whose keys can be walked in small steps. Raises as a Store does."""

    async def scan(self, prefix: str, *, cursor: str, count: int) -> Scan:
        """About `count` keys, of which those that begin with `prefix` are given; cursor: "" to begin.

        A key that is there during the whole walk is given at least once. Raises ValueError for a cursor of no walk.
        """
        ...

    async def heads(self, keys: Sequence[str], *, bytes_max: int) -> list[bytes]:
        """The first bytes of the value of each key; b"" where there is none."""
        ...


class Claim(Enum):
    """What became of asking for a lease."""

    TAKEN = "it is ours"
    HELD = "another has it"
    REFUSED = "the answers of this key are not kept, so nobody need wait"


@runtime_checkable
class LeaseKeeper(Protocol):
    """A store through which processes agree on who asks the upstream. Raises as a Store does."""

    async def claim_lease(self, key: str, holder: bytes, *, ttl_s: float) -> Claim:
        """Take the lease that is called `key`, unless another holds it; ours already, it is ours still."""
        ...

    async def release_lease(self, key: str, holder: bytes) -> None:
        """Give the lease back, if it is still ours."""
        ...

    async def refuse_lease(self, key: str, *, ttl_s: float) -> None:
        """Let everyone who claims it know that the answer is of a kind that is not kept."""
        ...


class ChangeListener(Protocol):
    """Who wants to know of changes by anyone, this process included."""

    def changed(self, keys: tuple[str, ...] | None) -> None:
        """Keys of entries or leases were written or have gone; None: any number of them."""
        ...

    def hearing(self, hearing: Hearing) -> None:
        """What will be heard from here on."""
        ...


@runtime_checkable
class ChangeFeed(Protocol):
    """A store that tells of changes."""

    def follow(self, listener: ChangeListener) -> None:
        """Tell this listener, beginning with what is heard at this moment."""
        ...


@runtime_checkable
class Tended(Protocol):
    """A store that keeps connections up beside those who ask it."""

    async def tend(self) -> None:
        """Run until cancelled."""
        ...
