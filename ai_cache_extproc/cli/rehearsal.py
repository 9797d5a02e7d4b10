"""A cache that is asked a log of requests instead of by Envoy: the sidecar's own exchanges over a store in memory.

Only three things are not the sidecar's: the clock, which goes by the log; the upstream, whose answers are assumed
(`assumed.py`); and the budgets of a lookup, which would say more of this machine than of the log.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import orjson
from prometheus_client import CollectorRegistry

from ai_cache_extproc.cache.admission import Admitted, admit
from ai_cache_extproc.cache.collection import CaptureBudget
from ai_cache_extproc.cache.parts import Cache, Meaning, put_together
from ai_cache_extproc.cli.assumed import KEY_MEMBER, AssumedDialects
from ai_cache_extproc.cli.request_lines import Requested
from ai_cache_extproc.config.embedders import Embedder as EmbedderSettings
from ai_cache_extproc.config.indexes import EmbeddedIndex
from ai_cache_extproc.config.model import Config
from ai_cache_extproc.config.rules import Pin, Rule
from ai_cache_extproc.config.snapshot import Snapshot
from ai_cache_extproc.embedders import open_embedder
from ai_cache_extproc.extproc.events import (
    Continue,
    Event,
    Immediate,
    Pending,
    Reply,
    RequestBody,
    RequestHeaders,
    ResponseBody,
    ResponseHeaders,
)
from ai_cache_extproc.extproc.exchange import Exchange
from ai_cache_extproc.extproc.phases import Phase
from ai_cache_extproc.extproc.services import Services
from ai_cache_extproc.indexes import open_index
from ai_cache_extproc.keys.identity import Keyring
from ai_cache_extproc.model import Bypass, RequestHead, ResponseHead
from ai_cache_extproc.stores.memory import MemoryStore
from ai_cache_extproc.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from ai_cache_extproc.embedders.base import Embedder

EmbedderOpener = Callable[[EmbedderSettings], "AbstractAsyncContextManager[Embedder]"]
Result = Literal["hit", "miss", "bypass", "unknown", "untouched"]

_STORE_BYTES = 2**40
_LOOKUP_MS = 60_000
_WRITES_S_MAX = 60.0
_POINTS_MAX = 2_000_000
_AUTHORITY = "localhost"
_ASSUMED_CREDENTIAL = "Bearer of the log"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the cache would have done. rule: empty where none applies. layer: of a hit.

    reason: why it was bypassed, or why the answer to a miss was not kept. `unknown`: it would have been looked up, and the
    log does not say what was asked.
    """

    result: Result
    rule: str = ""
    layer: str = ""
    reason: str = ""


class LogClock:
    """Seconds since the epoch, as the log has them."""

    def __init__(self, now_s: float = 0.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        """The time of the request that is asked."""
        return self.now_s

    def move(self, to_s: float) -> None:
        """Go on; lines that are out of order do not turn it back."""
        self.now_s = max(self.now_s, to_s)


@dataclass(frozen=True, slots=True)
class _Keys:
    current: Keyring | None


class Rehearsal:
    """One cache, empty at first. Ask it the requests in their order."""

    def __init__(self, config: Config, cache: Cache, metrics: Metrics, clock: LogClock) -> None:
        self.clock = clock
        self._snapshot = Snapshot(config)
        self._cache = cache
        self._services = Services(
            dialects=AssumedDialects(config.limits.sse_line_bytes_max),
            pipeline=cache.pipeline,
            budget=CaptureBudget(metrics),
            metrics=metrics,
            monotonic=clock,
        )

    async def ask(self, asked: Requested, *, named: str = "") -> Outcome:
        """What would have come of this request. named: the rule that Envoy's route names."""
        head = _head(asked)
        if asked.body is not None:
            return await self._follow(head, asked.body, asked, named)
        admitted = admit(
            head, end_of_stream=False, snapshot=self._snapshot, dialects=self._services.dialects, named=named
        )
        if isinstance(admitted, Admitted):
            if asked.key:
                return await self._follow(head, orjson.dumps({KEY_MEMBER: asked.key}), asked, named)
            return Outcome("unknown", admitted.rule.name)
        if isinstance(admitted, Bypass):
            return Outcome("bypass", self._rule_of(head, named), reason=admitted.reason)
        return Outcome("untouched")

    async def _follow(self, head: RequestHead, body: bytes, asked: Requested, named: str) -> Outcome:
        """As Envoy shows it, part by part."""
        exchange = Exchange(self._snapshot, self._services, named)
        try:
            said = await _said(exchange, RequestHeaders(head, end_of_stream=not body))
            if exchange.phase is Phase.READING:
                said = await _said(exchange, RequestBody(body, end_of_stream=True))
            if not exchange.answered:
                said = await self._answered(exchange, asked)
        finally:
            exchange.close()
        await self._cache.drain(_WRITES_S_MAX)
        outcome = _outcome(said)
        if outcome.rule or outcome.result == "untouched":
            return outcome
        return replace(outcome, rule=self._rule_of(head, named))

    def _rule_of(self, head: RequestHead, named: str) -> str:
        rule = self._snapshot.rule_for(head, named)
        return "" if rule is None else rule.name

    async def _answered(self, exchange: Exchange, asked: Requested) -> Reply:
        """The upstream answers, as it did or as it is assumed to."""
        fields = {"content-type": "application/json"} | dict(asked.answer_headers or {})
        said = await _said(exchange, ResponseHeaders(ResponseHead(asked.status, fields), end_of_stream=False))
        if exchange.phase is Phase.CAPTURING:
            await _said(exchange, ResponseBody(b"-", end_of_stream=True))
        return said


@asynccontextmanager
async def rehearsing(config: Config, *, opener: EmbedderOpener = open_embedder) -> AsyncIterator[Rehearsal]:
    """A cache under this configuration. Opens no store, and no connection but to the document's embedder.

    Raises BackendError where that does not answer.
    """
    clock, config = LogClock(), _without_budgets(config)
    async with (
        _meaning(config, clock, opener) as meaning,
        _running(config, clock, meaning) as rehearsal,
    ):
        yield rehearsal


@asynccontextmanager
async def _running(config: Config, clock: LogClock, meaning: Meaning | None) -> AsyncIterator[Rehearsal]:
    metrics = Metrics(CollectorRegistry())
    store = MemoryStore(bytes_max=_STORE_BYTES, clock=clock)
    # The same log gives the same figures.
    chance = random.Random(0).random  # noqa: S311 - for jitter
    keyring = Keyring(random.Random(0).randbytes(32), config.key_prefix)  # noqa: S311 - for a store that nobody else sees
    cache = put_together(
        config,
        store,
        _Keys(keyring),
        metrics=metrics,
        clock=clock,
        monotonic=clock,
        chance=chance,
        meaning=meaning,
    )
    running = [asyncio.create_task(task) for task in cache.tasks()]
    # The index is prepared in its first turn.
    await asyncio.sleep(0)
    try:
        yield Rehearsal(config, cache, metrics, clock)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


@asynccontextmanager
async def _meaning(config: Config, clock: LogClock, opener: EmbedderOpener) -> AsyncIterator[Meaning | None]:
    """The document's embedder, and an index in memory whatever the document has; None where no rule asks for them."""
    settings = config.embedder
    if settings is None or not any(rule.is_semantic for rule in config.rules):
        yield None
        return
    if getattr(settings, "chars_max", 0) is None:
        # How long a question may be is measured against the real budget.
        async with opener(settings) as embedder:
            settings = settings.model_copy(update={"chars_max": embedder.chars_max})
    async with opener(settings.model_copy(update={"timeout_ms": _LOOKUP_MS})) as embedder:
        await embedder.check()
        opening = open_index(
            EmbeddedIndex(rows_max=_POINTS_MAX),
            identity=embedder.identity,
            store=None,
            clock=clock,
            breaker_watch=_nobody,
        )
        async with opening as index:
            yield Meaning(embedder, index)


def _without_budgets(config: Config) -> Config:
    """The document, for an upstream that is where its rules want it and a lookup that has time."""
    lookup = config.lookup.model_copy(update={"deadline_ms": _LOOKUP_MS})
    return config.model_copy(update={"rules": tuple(map(_without_others, config.rules)), "lookup": lookup})


def _without_others(rule: Rule) -> Rule:
    """The rule, asking nobody else: there are no answers to compare. In shadow it serves exact hits only."""
    semantic = rule.semantic.model_copy(update={"deadline_ms": _LOOKUP_MS, "shadow": None, "verify_below": 0.0})
    served = {"layers": ("exact",)} if rule.semantic.shadow is not None else {}
    return rule.model_copy(update={"pin": Pin(), "semantic": semantic, **served})


def _nobody(_backend: str, _server: str, _state: object) -> None:
    pass


def _head(asked: Requested) -> RequestHead:
    """An access log has neither credentials nor types: the caller is assumed to be known, and to send JSON."""
    headers = asked.headers
    if asked.body is None:
        headers = {"content-type": "application/json", "authorization": _ASSUMED_CREDENTIAL} | dict(headers)
    return RequestHead(asked.method, asked.path, asked.authority or _AUTHORITY, headers, asked.route)


async def _said(exchange: Exchange, event: Event) -> Reply:
    outcome = exchange.handle(event)
    while isinstance(outcome, Pending):
        outcome = await outcome.finish()
    return outcome


def _outcome(said: Reply) -> Outcome:
    """What the reply tells access logs of it."""
    told = dict(said.metadata or {}) if isinstance(said, Immediate | Continue) else {}
    rule, reason = str(told.get("rule", "")), str(told.get("reason", ""))
    match told.get("status"):
        case "hit":
            return Outcome("hit", rule, "exact" if told.get("similarity") is None else "semantic")
        case "miss":
            return Outcome("miss", rule, reason=reason)
        case "bypass":
            return Outcome("bypass", rule, reason=reason)
        case _:
            return Outcome("untouched")
