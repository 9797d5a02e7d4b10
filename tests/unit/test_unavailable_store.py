"""The store that stands in for one that could not be opened."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from ai_cache_extproc.errors import BackendUnavailable
from ai_cache_extproc.stores.unavailable import UnavailableStore


@pytest.mark.parametrize(
    ("operation", "ask"),
    [
        ("get", lambda store: store.get("k")),
        ("set", lambda store: store.set("k", b"v", ttl_s=1)),
        ("delete", lambda store: store.delete("k")),
        ("check", lambda store: store.check()),
        ("stats", lambda store: store.stats()),
        ("identity_key", lambda store: store.identity_key()),
    ],
)
async def test_every_operation_is_refused_with_the_reason_of_the_start(
    operation: str, ask: Callable[[UnavailableStore], Awaitable[object]]
) -> None:
    """The error names the store that it stands for, the operation, the cause and the way out."""
    with pytest.raises(BackendUnavailable, match=r"disk I/O error.*restart") as caught:
        await ask(UnavailableStore("sqlite", "disk I/O error"))
    assert ("sqlite", operation) == (caught.value.backend, caught.value.operation)
