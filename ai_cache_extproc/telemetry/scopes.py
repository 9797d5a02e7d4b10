"""How many callers there are, and whether they keep their credentials. Holds hashes, never a credential."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

NewScope = Literal["token", "other"]

WINDOW_S = 3600.0
SCOPES_MAX = 20_000
"""In one window; about 2 MB with the window before."""

CALLS_MIN = 200
TOKENS_SHARE = 0.05
SCOPES_SHARE = 0.5


class ScopesSeen:
    """The scopes of this window and the one before; a scope that is in neither is new.

    Beyond SCOPES_MAX in a window, further ones are neither counted nor kept: both figures then mean "at least".
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        *,
        window_s: float = WINDOW_S,
        scopes_max: int = SCOPES_MAX,
    ) -> None:
        self._clock = clock
        self._window_s = window_s
        self._scopes_max = scopes_max
        self._present: set[int] = set()
        self._past: set[int] = set()
        self._until = clock() + window_s

    def saw(self, scope: bytes) -> bool:
        """Note a request of this scope; whether the scope is new."""
        self._turn()
        mark = hash(scope)
        if mark in self._present:
            return False
        if len(self._present) >= self._scopes_max:
            return False
        self._present.add(mark)
        return mark not in self._past

    def count(self) -> int:
        """How many scopes had a request in this window or the one before."""
        self._turn()
        return len(self._present | self._past)

    def _turn(self) -> None:
        now = self._clock()
        if now < self._until:
            return
        # After a whole window without a request, nobody of the window before was here in the last.
        self._past = self._present if now < self._until + self._window_s else set()
        self._present = set()
        self._until = now + self._window_s


def rotation(*, tokens: float, others: float, calls: float) -> str | None:
    """What the figures say about credentials that rotate, with the way out; None where they say nothing.

    tokens, others: new scopes by what they are known by (`aicache_scopes_new_total`). calls: hits and misses since then.
    """
    if calls < CALLS_MIN:
        return None
    way_out = "take the caller from what stays the same (`scope.identity`, docs/identity.md)"
    if tokens / calls > TOKENS_SHARE:
        return (
            f"{tokens:.0f} of {calls:.0f} LLM calls came with a JWT for the first time: tokens are renewed, and each "
            f"begins with an empty cache; {way_out}"
        )
    if (tokens + others) / calls > SCOPES_SHARE:
        return (
            f"{tokens + others:.0f} of {calls:.0f} LLM calls came from a caller not seen for an hour: either most "
            f"callers ask once, or their credentials change with each call; if these, {way_out}"
        )
    return None
