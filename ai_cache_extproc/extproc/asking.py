"""The wait of an exchange for the cache: one lookup, and the waits for others that may come of it."""

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

    def _wait(self, turn: Seat | Held, identity: Identity) -> Pending:
        """Wait for whoever asks the upstream already."""
        pipeline, admitted, budget = self._services.pipeline, self._reading.admitted, self._config.lookup

        async def finish() -> Reply | Pending:
            outcome = await self._timed(pipeline.wait(admitted, self._question, turn, identity, budget=budget))
            self._reading.turn = None
            return self._found(outcome)

        return Pending(self._extension(), finish)

    def _found(self, outcome: Hit | Miss | Bypass) -> Reply | Pending:
        return self.go_ahead(outcome) if isinstance(outcome, Hit) and outcome.due else self._over(outcome)

    async def _timed(self, waiting: Awaitable[Outcome]) -> Outcome:
        started = self._services.monotonic()
        outcome = await waiting
        self._waited_s += self._services.monotonic() - started
        return outcome

    def _over(self, outcome: Hit | Miss | Bypass) -> Reply:
        self._story.lookup_ms = self._waited_s * 1000
        self._services.metrics.lookup(self._waited_s)
        return self._conclude(outcome)

    def _extension(self) -> ExtendTimeout | None:
        """More time from Envoy, where a wait for another may outlast its message timeout."""
        lookup, envoy = self._config.lookup, self._config.envoy
        wait_ms = int(flight_wait_s(lookup, self._question) * 1000) + lookup.deadline_ms
        if wait_ms < envoy.message_timeout_ms:
            return None
        # Half of Envoy's own timeout covers the way of the reply.
        wait_ms += envoy.message_timeout_ms // 2
        return ExtendTimeout(min(wait_ms, envoy.max_message_timeout_ms))
