"""The store of a process whose own could not be opened: it refuses everything, and says why."""

from __future__ import annotations

from typing import NoReturn

from ai_cache_extproc.errors import BackendUnavailable
from ai_cache_extproc.stores.base import StoreStats


class UnavailableStore:
    """A Store and KeyKeeper whose every operation raises BackendUnavailable."""

    def __init__(self, name: str, reason: str) -> None:
        """name: of the store that it stands for. reason: why that one could not be opened."""
        self.name = name
        self._reason = reason

    async def get(self, key: str) -> bytes | None:  # noqa: ARG002
        """Refuse."""
        self._refuse("get")

    async def set(self, key: str, value: bytes, *, ttl_s: float) -> None:  # noqa: ARG002
        """Refuse."""
        self._refuse("set")

    async def delete(self, key: str) -> bool:  # noqa: ARG002
        """Refuse."""
        self._refuse("delete")

    async def check(self) -> None:
        """Refuse."""
        self._refuse("check")

    async def stats(self) -> StoreStats:
        """Refuse."""
        self._refuse("stats")

    async def identity_key(self, proposed: bytes | None = None) -> bytes:  # noqa: ARG002
        """Refuse."""
        self._refuse("identity_key")

    def _refuse(self, operation: str) -> NoReturn:
        raise BackendUnavailable(self.name, operation, f"not opened at start ({self._reason}); restart to try again")
