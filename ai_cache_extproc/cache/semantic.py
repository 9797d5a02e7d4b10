"""The match by meaning: embed the window, look for neighbours in its partition, let the guards judge the nearest.

A neighbour only proposes. What answers is an entry of the store, and only if it says itself that it was asked in the same
partition: an index that lies, or mixes up its points, costs hits and nothing else. (In the layouts of other programs the
index is the store: `payloads.py`.)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING
from zlib import crc32

import structlog

from ai_cache_extproc.cache.admission import Admitted
from ai_cache_extproc.cache.freshness import hit_of
from ai_cache_extproc.cache.guards.rule import Mode, Verdict, decide
from ai_cache_extproc.cache.keysource import HasKeyring
from ai_cache_extproc.cache.payloads import Payloads
from ai_cache_extproc.cache.understanding import compared, partition
from ai_cache_extproc.cache.verifying import Verifying
from ai_cache_extproc.cache.wrong import WrongPairs
from ai_cache_extproc.config.rules import Rule
from ai_cache_extproc.config.semantic import Semantic as Settings
from ai_cache_extproc.errors import BackendError, BackendRejected, ConfigError
from ai_cache_extproc.meaning import Asked, Judged, Unfit, Window
from ai_cache_extproc.model import Alias, Entry, Hit, Identity, Match, Question
from ai_cache_extproc.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from ai_cache_extproc.embedders.base import Embedder
    from ai_cache_extproc.indexes.base import Index, Vector

log = structlog.get_logger()

GUARDS_VERSION = 1
"""Of the code that lets a pair pass: aliases of another one are misses, so it grows with every change that takes hits away."""
RETRY_S = 1.0
_SIMILARITY_MAX = 1.001
"""A cosine computed in single precision may be a little above 1; one beyond it is no cosine."""


@dataclass(frozen=True, slots=True)
class _Nearly:
    """A candidate that lacks a little similarity and nothing else. hit: what it comes to if the verifier says yes."""

    judged: Judged
    hit: Hit
    stored: str


class Semantic:
    """Entries by meaning. `run` keeps the index prepared; before it is, nothing is found."""

    def __init__(
        self,
        *,
        embedder: Embedder,
        index: Index,
        payloads: Payloads,
        keys: HasKeyring,
        wrong: WrongPairs,
        verifying: Verifying | None = None,
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        """verifying: None where nobody is asked about pairs that are nearly similar enough. clock: seconds since the epoch."""
        self.embedder = embedder
        self.index = index
        self._payloads = payloads
        self._keys = keys
        self._wrong = wrong
        self.verifying = verifying
        self._metrics = metrics
        self._clock = clock
        self._is_prepared = False
        self.problem = "not checked yet"
        """What is wrong with the index; "" while it works."""
        self._doubt = asyncio.Event()

    def asked(self, admitted: Admitted, question: Question) -> Asked | Unfit | None:
        """What a question is matched by; why it is not; None where its rule or its API leaves meaning aside. Pure."""
        keyring = self._keys.current
        if keyring is None or self.threshold(admitted.rule.semantic) is None:
            return None
        window = compared(admitted, question)
        if not isinstance(window, Window):
            return window
        if len(window.text) > self.embedder.chars_max:
            return Unfit.TOO_LONG
        return Asked(partition(keyring, admitted, question, window, embedder=self.embedder.identity), window.text)

    def threshold(self, settings: Settings) -> float | None:
        """From which cosine on; None for a model that nobody has an idea of."""
        configured = settings.similarity_threshold
        return self.embedder.default_threshold if configured is None else configured

    def thresholds(self, rules: Sequence[Rule]) -> Mapping[str, float]:
        """Those of the rules that match by meaning, by name."""
        known = ((rule.name, self.threshold(rule.semantic)) for rule in rules if rule.is_semantic)
        return {name: threshold for name, threshold in known if threshold is not None}

    async def find(
        self, admitted: Admitted, question: Question, identity: Identity, asked: Asked, *, but: str = ""
    ) -> Hit | Judged:
        """The first neighbour that passes, or what the nearest one lacked. Raises BackendError.

        but: the key of one that is not looked at.
        """
        vector = await self.vector(asked.text)
        best: Judged | None = None
        nearly: _Nearly | None = None
        top_k = admitted.rule.semantic.top_k
        matches = await self.neighbours(asked, vector, top_k=top_k + bool(but))
        for match in [match for match in matches if match.key != but][:top_k]:
            judged = await self._judge(admitted, question, identity, asked, match)
            if isinstance(judged, Hit):
                return judged
            if isinstance(judged, _Nearly):
                nearly, judged = nearly or judged, judged.judged
            best = best or judged
        # One of them at most, so that a lookup has a known length.
        if nearly is not None and await self._is_verified(asked.text, nearly.stored):
            return nearly.hit
        return best or Judged("empty")

    async def _is_verified(self, asked: str, stored: str) -> bool:
        from ai_cache_extproc.verifiers.base import Subject  # noqa: PLC0415 - hardly anyone has one

        return self.verifying is not None and await self.verifying.ask(asked, stored, Subject.QUESTIONS) is True

    async def vector(self, text: str) -> Vector:
        """The vector of one text. Raises BackendError."""
        vector: Vector = (await self.embedder.embed([text]))[0]
        return vector

    async def neighbours(self, asked: Asked, vector: Vector, *, top_k: int) -> list[Match]:
        """The nearest in the partition, best first. Raises BackendError."""
        try:
            matches = await self.index.search(asked.partition, vector, top_k=top_k)
        except BackendError as error:
            self.problem = str(error)
            self._doubt.set()
            raise
        # A comparison with NaN is false.
        return [match for match in matches if -_SIMILARITY_MAX <= match.similarity <= _SIMILARITY_MAX]

    async def _judge(
        self, admitted: Admitted, question: Question, identity: Identity, asked: Asked, match: Match
    ) -> Hit | Judged | _Nearly:
        settings = admitted.rule.semantic
        similarity = min(match.similarity, 1.0)
        source = self._payloads.source(admitted, identity, match)
        if source is None:
            return Judged("gone", similarity)
        # Both are asked of the store in one tick.
        entry, is_wrong = await asyncio.gather(
            self._payloads.entry(source, asked, match), self._is_wrong(identity, source)
        )
        if entry is None or entry.asked is None:
            return Judged("gone", similarity)
        verdict = self.verdict(settings, asked.text, entry.asked.text, similarity)
        if is_wrong:
            return Judged("vetoed", similarity, verdict.klass, "wrong")
        below = verdict.needed - settings.verify_below
        is_nearly = self.verifying is not None and not verdict.serve and verdict.guard is None and similarity >= below
        if not verdict.serve and not is_nearly:
            result = "below" if verdict.guard is None else "vetoed"
            return Judged(result, similarity, verdict.klass, verdict.guard or "")
        alias = self._alias(settings, source, entry, similarity)
        hit = hit_of(admitted, question, identity, replace(entry, alias=alias), self._clock())
        if hit is None:
            # It expired, is too old for this client, or cannot answer in this mode.
            return Judged("gone", similarity, verdict.klass)
        hit = replace(hit, judged=Judged("hit", similarity, verdict.klass))
        return _Nearly(Judged("below", similarity, verdict.klass), hit, entry.asked.text) if is_nearly else hit

    async def _is_wrong(self, identity: Identity, source: Identity) -> bool:
        """Whether somebody said that these two do not mean the same. Raises BackendError."""
        return source.id != identity.id and await self._wrong.holds(identity.id, source.id)

    def verdict(self, settings: Settings, asked: str, stored: str, similarity: float) -> Verdict:
        """Whether two texts of this similarity mean the same."""
        threshold = self.threshold(settings)
        assert threshold is not None, "nothing is asked without one"
        return decide(asked, stored, similarity, threshold=threshold, mode=Mode(settings.guards), shift=settings.shift)

    def version(self, settings: Settings) -> int:
        """Of all that lets a pair pass under a rule: an alias of another version answers no more."""
        verifier = self.verifying.identity if self.verifying is not None and settings.verify_below else ""
        return _version(settings, self.embedder.identity, self.threshold(settings), verifier)

    def admits(self, rule: Rule, alias: Alias) -> bool:
        """Whether what let an alias pass lets it pass still."""
        return rule.is_semantic and rule.semantic.shadow is None and self.version(rule.semantic) == alias.guards

    def _alias(self, settings: Settings, source: Identity, entry: Entry, similarity: float) -> Alias:
        return Alias(
            source.key,
            source.digest,
            similarity,
            self.version(settings),
            dialect=entry.dialect,
            model=entry.model,
            rule=entry.rule,
            created_s=entry.created_s,
            expires_s=entry.expires_s,
            tags=entry.tags,
            purges=entry.purges,
        )

    async def run(self) -> None:
        """Prepare the index, and again when a search fails, until cancelled."""
        while True:
            self._doubt.clear()
            try:
                await self._prepare()
            except BackendError as error:
                self.problem = str(error)
                self._metrics.backend_error(error)
                log.warning("index_not_prepared", backend=error.backend, operation=error.operation, reason=error.reason)
                await asyncio.sleep(RETRY_S)
                continue
            await self._doubt.wait()
            # What failed once may fail for everyone: not each of them has it looked at.
            await asyncio.sleep(RETRY_S)

    async def _prepare(self) -> None:
        if self.embedder.dimensions is None:
            await self.embedder.check()
        dimensions = self.embedder.dimensions
        if dimensions is None:
            raise BackendRejected(self.embedder.name, "embed", "its vectors have no length")
        await self.index.prepare(dimensions)
        self.problem = ""
        if not self._is_prepared:
            self._is_prepared = True
            log.info("semantic_ready", embedder=self.embedder.identity, index=self.index.name, dimensions=dimensions)


def check_thresholds(embedder: Embedder, settings: dict[str, Settings]) -> None:
    """Warn of thresholds that are estimates. settings: by rule. Raises ConfigError where there is not even one."""
    for rule, semantic in settings.items():
        if semantic.similarity_threshold is not None:
            continue
        if embedder.default_threshold is None:
            raise ConfigError(
                f'rules["{rule}"].semantic.similarity_threshold',
                f"is needed: nobody has an idea of {embedder.identity}; `aicache calibrate` finds one",
            )
        if not embedder.is_calibrated:
            log.warning(
                "threshold_estimated",
                rule=rule,
                embedder=embedder.identity,
                similarity_threshold=embedder.default_threshold,
                fix="run `aicache calibrate` and write the similarity_threshold that it gives",
            )


@lru_cache(maxsize=256)
def _version(settings: Settings, embedder: str, threshold: float | None, verifier: str) -> int:
    said: tuple[object, ...] = (GUARDS_VERSION, settings.guards, settings.shift, threshold, embedder)
    if verifier:
        said = (*said, settings.verify_below, verifier)
    return crc32(repr(said).encode())
