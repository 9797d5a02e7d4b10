"""The wait of an exchange for the cache: one lookup, the waits for others and the search by meaning that may come of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from ai_cache_extproc.cache.flights import Seat
from ai_cache_extproc.cache.pipeline import flight_wait_s
from ai_cache_extproc.config.model import Config
from ai_cache_extproc.extproc.events import ExtendTimeout, Pending, Reply
from ai_cache_extproc.extproc.services import Services
from ai_cache_extproc.extproc.situations import Reading
from ai_cache_extproc.extproc.story import Story
from ai_cache_extproc.meaning import Asked
from ai_cache_extproc.model import Bypass, Held, Hit, Identity, Miss, Question

Outcome = TypeVar("Outcome")


class Asking:
    """For one question; `reading.turn` holds whatever must be given back should the stream end meanwhile."""

    def __init__(
        self,
        config: Config,
        services: Services,
        story: Story,
        reading: Reading,
        question: Question,
        *,
        conclude: Callable[[Hit | Miss | Bypass], Reply],
    ) -> None:
        """conclude: what to reply once the cache has said what it knows."""
        self._config = config
        self._services = services
        self._story = story
        self._reading = reading
        self._question = question
        self._conclude = conclude
        self._waited_s = 0.0
        self._is_extended = False

    def look_up(self, identity: Identity) -> Pending:
        """Ask the store as the first to ask, or wait for who was."""
        pipeline, admitted, budget = self._services.pipeline, self._reading.admitted, self._config.lookup
        turn = pipeline.alone(identity) if admitted.wish.only_if_cached else pipeline.join(identity)
        self._reading.turn = turn
        if isinstance(turn, Seat):
            return self._wait(turn, identity)

        async def finish() -> Reply | Pending:
            outcome = await self._timed(pipeline.lookup(admitted, self._question, identity, turn, budget=budget))
            self._reading.turn = None
            if isinstance(outcome, Held):
                self._reading.turn = outcome.lease
                return self._wait(outcome, identity)
            return self._found(outcome)

        return Pending(None, finish)

    def go_ahead(self, hit: Hit) -> Pending:
        """Let one request go upstream ahead of an expiry; which one, the pipeline decides."""
        pipeline, budget = self._services.pipeline, self._config.lookup

        async def finish() -> Reply:
            outcome = await self._timed(pipeline.refresh(hit, budget=budget))
            return self._over(outcome)

        return Pending(None, finish)

    def _search(self, miss: Miss, asked: Asked) -> Pending:
        """Ask the index for a question of the same meaning."""
        pipeline, admitted = self._services.pipeline, self._reading.admitted
        deadline_ms = self._config.semantic_deadline_ms(admitted.rule)
        self._reading.turn = miss.lease

        async def finish() -> Reply:
            searching = pipeline.search(admitted, self._question, miss, asked, deadline_ms=deadline_ms)
            outcome = await self._timed(searching)
            self._reading.turn = None
            return self._over(outcome)

        return Pending(self._extension(deadline_ms), finish)

    def _wait(self, turn: Seat | Held, identity: Identity) -> Pending:
        """Wait for whoever asks the upstream already."""
        pipeline, admitted, budget = self._services.pipeline, self._reading.admitted, self._config.lookup

        async def finish() -> Reply | Pending:
            outcome = await self._timed(pipeline.wait(admitted, self._question, turn, identity, budget=budget))
            self._reading.turn = None
            return self._found(outcome)

        lookup, semantic_ms = self._config.lookup, self._config.semantic_deadline_ms(admitted.rule)
        wait_ms = int(flight_wait_s(lookup, self._question) * 1000) + lookup.deadline_ms
        return Pending(self._extension(wait_ms + semantic_ms), finish)

    def _found(self, outcome: Hit | Miss | Bypass) -> Reply | Pending:
        if isinstance(outcome, Hit):
            return self.go_ahead(outcome) if outcome.due else self._over(outcome)
        if isinstance(outcome, Miss):
            asked = self._services.pipeline.asked(self._reading.admitted, self._question, outcome)
            if asked is not None:
                return self._search(outcome, asked)
        return self._over(outcome)

    async def _timed(self, waiting: Awaitable[Outcome]) -> Outcome:
        started = self._services.monotonic()
        outcome = await waiting
        self._waited_s += self._services.monotonic() - started
        return outcome

    def _over(self, outcome: Hit | Miss | Bypass) -> Reply:
        self._story.lookup_ms = self._waited_s * 1000
        self._services.metrics.lookup(self._waited_s)
        return self._conclude(outcome)

    def _extension(self, wait_ms: int) -> ExtendTimeout | None:
        """More time from Envoy, where what is left to wait may outlast its message timeout; it grants one request."""
        envoy = self._config.envoy
        if self._is_extended or wait_ms + self._waited_s * 1000 < envoy.message_timeout_ms:
            return None
        self._is_extended = True
        # Half of Envoy's own timeout covers the way of the reply.
        wait_ms += envoy.message_timeout_ms // 2
        return ExtendTimeout(min(wait_ms, envoy.max_message_timeout_ms))
