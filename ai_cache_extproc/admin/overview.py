"""What the admin page asks for again and again: what happened in the last minutes, out of the history kept here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from ai_cache_extproc.admin.access import json_answer
from ai_cache_extproc.admin.figures import POINTS_MAX, document
from ai_cache_extproc.admin.history import Figures, History
from ai_cache_extproc.config.model import Config

FRESH_S = 1.0
"""A reading serves everybody who asks within this time, however many pages are open."""
SECONDS_MAX = 86_400

log = structlog.get_logger()


class Overview:
    """The history, and the page's view of it."""

    def __init__(
        self,
        look: Callable[[], Awaitable[Figures]],
        *,
        clock: Callable[[], float],
        thresholds: Callable[[], Mapping[str, float]],
        history: History | None = None,
    ) -> None:
        """look: what has been counted. clock: seconds since the epoch. thresholds: the similarity that each rule asks for."""
        self._look = look
        self._clock = clock
        self._thresholds = thresholds
        self._history = history or History()
        self._read_s = float("-inf")
        self._reading: Figures = {}

    async def keep(self) -> None:
        """Take samples for ever."""
        await self._history.keep(self._sample, self._clock)

    async def answer(self, request: Request) -> Response:
        """Totals and series of the last `seconds`; without them since the start, the series as far as they reach back."""
        seconds = _seconds(request.query_params.get("seconds"))
        now = await self._now()
        view = self._history.since(self._read_s - seconds if seconds else float("-inf"), points_max=POINTS_MAX)
        figures = document(view, now, self._read_s, whole=not seconds)
        return json_answer(figures | {"seconds": seconds, "thresholds": self._thresholds()})

    async def _now(self) -> Figures:
        if not 0 <= self._clock() - self._read_s < FRESH_S:
            await self._sample()
            # Others have their turn before what was read is put together.
            await asyncio.sleep(0)
        return self._reading

    async def _sample(self) -> Figures:
        try:
            self._reading = await self._look()
        except (OSError, ValueError) as error:
            log.warning("history_gap", reason=str(error) or type(error).__name__)
        self._read_s = self._clock()
        return self._reading


def thresholds_of(config: Config, default: float | None) -> dict[str, float]:
    """By rule, the similarity from which on it takes questions for the same. default: the embedder's; None if not known."""
    asked = ((rule.name, rule.semantic.similarity_threshold) for rule in config.rules if rule.is_semantic)
    found = ((name, default if threshold is None else threshold) for name, threshold in asked)
    return {name: threshold for name, threshold in found if threshold is not None}


def _seconds(text: str | None) -> int | None:
    if text is None:
        return None
    if text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= SECONDS_MAX:
        return int(text)
    raise HTTPException(400, f"'seconds' must be from 1 to {SECONDS_MAX}")
