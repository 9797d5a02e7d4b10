"""Shadow mode: what matching by meaning would have served, compared with what the upstream said, behind everyone's back.

Nothing here serves, and nobody waits for it. What it learns are counts, and a few decisions without their texts.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

import structlog

from ai_cache_extproc.cache.backlog import Backlog
from ai_cache_extproc.cache.comparing import Comparing
from ai_cache_extproc.cache.guards.classes import classify
from ai_cache_extproc.cache.semantic import Semantic
from ai_cache_extproc.cache.writeback import Fill
from ai_cache_extproc.config.rules import Rule
from ai_cache_extproc.dialects.base import ConversingDialect
from ai_cache_extproc.errors import BackendError
from ai_cache_extproc.meaning import Asked, Judged
from ai_cache_extproc.model import Captured, Entry, Hit
from ai_cache_extproc.telemetry.metrics import Metrics
from ai_cache_extproc.telemetry.shadow import Pair, Shadows, Verdict

log = structlog.get_logger()

WAITING_MAX = 100
WAITING_BYTES_MAX = 16 * 1024 * 1024
DECISIONS_MAX = 2000
SAMPLE_S_MAX = 10.0
"""For one sample: a service that does not answer must not hold up the others for long."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A neighbour that would have been served, and what its answer was worth. Holds no text.

    klass, language, is_long: how the questions differ (`guards/classes.py`). at_s: seconds since the epoch.
    """

    rule: str
    similarity: float
    klass: str
    language: str
    is_long: bool
    verdict: Verdict
    at_s: float

    def document(self) -> dict[str, object]:
        """As `aicache calibrate` reads it."""
        return {
            "rule": self.rule,
            "similarity": round(self.similarity, 6),
            "class": self.klass,
            "language": self.language,
            "is_long": self.is_long,
            "verdict": self.verdict,
            "at_s": round(self.at_s, 3),
        }


@dataclass(frozen=True, slots=True, eq=False)
class _Sample:
    """A fresh answer. known: another answer to the very same question, that is to be compared with it."""

    fill: Fill
    entry: Entry
    known: Entry | None

    @property
    def size_bytes(self) -> int:
        return self.entry.size_bytes + (0 if self.known is None else self.known.size_bytes)


class Shadow:
    """A bounded queue of samples, and what empties it one by one."""

    def __init__(
        self,
        semantic: Semantic,
        *,
        metrics: Metrics,
        clock: Callable[[], float],
        chance: Callable[[], float],
        waiting_max: int = WAITING_MAX,
        decisions_max: int = DECISIONS_MAX,
    ) -> None:
        """clock: seconds since the epoch. chance: 0..1, uniform."""
        self._semantic = semantic
        self._comparing = Comparing(semantic, metrics=metrics)
        self._metrics = metrics
        self._clock = clock
        self._chance = chance
        self._decisions: deque[Decision] = deque(maxlen=decisions_max)
        self._backlog = Backlog(self._look, self._fault, pieces_max=waiting_max, bytes_max=WAITING_BYTES_MAX)

    @property
    def found(self) -> Shadows:
        """What was counted."""
        return self._metrics.shadows

    def decisions(self, rule: str | None = None, *, most: int = DECISIONS_MAX) -> list[Decision]:
        """The last ones, the latest first."""
        return list(islice((each for each in reversed(self._decisions) if rule in (None, each.rule)), most))

    def rechecks(self, rule: Rule) -> bool:
        """Whether this exact hit is one of the few that go upstream, to learn how a model differs from itself."""
        shadow = rule.semantic.shadow
        return shadow is not None and self._chance() < shadow.baseline_sample

    def offer(self, fill: Fill, entry: Entry) -> None:
        """Take a fresh answer that is stored; one too many is dropped and counted."""
        shadow, miss, admitted = fill.rule.semantic.shadow, fill.miss, fill.admitted
        if shadow is None or admitted is None:
            return
        known = miss.known if miss.known is not None and miss.known.fresh(self._clock()) else None
        if known is None:
            # Serving would not have searched for these.
            is_searched = miss.lease is not None and miss.known is None and miss.reason is None
            if entry.asked is None or not is_searched or self._chance() >= shadow.sample:
                return
        if not self._backlog.take(_Sample(fill, entry, known)):
            self.found.dropped(fill.rule.name)

    async def run(self) -> None:
        """Empty the queue until cancelled."""
        await self._backlog.run()

    async def drain(self) -> None:
        """Wait until all that was offered was looked at, or given up."""
        await self._backlog.drain()

    async def _look(self, sample: _Sample) -> None:
        try:
            async with asyncio.timeout(SAMPLE_S_MAX):
                await self._compared(sample)
        except TimeoutError:
            self.found.looked_up(sample.fill.rule.name, "late")

    def _fault(self, sample: _Sample, error: Exception) -> None:
        self._metrics.exchange_fault()
        log.error("shadow_fault", key=sample.fill.miss.identity.id, exc_info=error)

    async def _compared(self, sample: _Sample) -> None:
        if sample.known is not None:
            await self._compare(sample, "exact", sample.known.fresh(self._clock()))
            return
        assert sample.entry.asked is not None
        found = await self._found(sample, sample.entry.asked)
        judged = found if isinstance(found, Judged) else found.judged
        assert judged is not None
        self.found.looked_up(sample.fill.rule.name, judged.result)
        if isinstance(found, Hit):
            assert found.entry.asked is not None
            verdict = await self._compare(sample, "semantic", (found.replay.source,), judged.similarity)
            self._note(sample, judged, (sample.entry.asked.text, found.entry.asked.text), verdict)

    async def _found(self, sample: _Sample, asked: Asked) -> Hit | Judged:
        """What serving would have come to. The question itself may be in the index by now."""
        fill = sample.fill
        assert fill.admitted is not None
        identity = fill.miss.identity
        try:
            return await self._semantic.find(fill.admitted, fill.question, identity, asked, but=identity.key)
        except BackendError as error:
            self._metrics.backend_error(error)
            return Judged("failed")

    async def _compare(
        self, sample: _Sample, pair: Pair, stored: tuple[Captured, ...], similarity: float | None = None
    ) -> Verdict:
        fill = sample.fill
        texts = [self._words(fill, captured) for captured in (*stored[:1], sample.entry.captures[-1])]
        verdict = await self._comparing.verdict(fill.rule.semantic, *texts) if len(texts) == 2 else "unsure"
        self.found.compare(fill.rule.name, pair, verdict, similarity=similarity)
        return verdict

    def _words(self, fill: Fill, captured: Captured) -> str | None:
        return fill.dialect.words(captured) if isinstance(fill.dialect, ConversingDialect) else None

    def _note(self, sample: _Sample, judged: Judged, texts: tuple[str, str], verdict: Verdict) -> None:
        assert judged.similarity is not None
        classed = classify(*texts)
        self._decisions.append(
            Decision(
                sample.fill.rule.name,
                judged.similarity,
                judged.klass,
                classed.language,
                classed.is_long,
                verdict,
                self._clock(),
            )
        )
