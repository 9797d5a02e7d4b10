"""What one exchange comes to, told once in metrics, in a log line and in a span. Never content, never credentials."""

from __future__ import annotations

from dataclasses import dataclass

from ai_cache_extproc.config.prices import Tariff
from ai_cache_extproc.model import Bypass, Hit, Miss, Reason
from ai_cache_extproc.telemetry import logs, tracecontext
from ai_cache_extproc.telemetry.metrics import Metrics, Result
from ai_cache_extproc.telemetry.tracecontext import TraceContext
from ai_cache_extproc.telemetry.traces import Spans


@dataclass(slots=True)
class Story:
    """Filled in as the exchange goes; an exchange without a result was no LLM call and is not told."""

    metrics: Metrics
    spans: Spans | None = None
    caller: TraceContext | None = None
    begun_ns: int = 0
    dialect: str = ""
    rule: str = ""
    result: Result | None = None
    reason: Reason | None = None
    key: str = ""
    age_s: int | None = None
    similarity: float | None = None
    lookup_ms: float = 0
    handed_over: bool = False

    def begin(self, caller: TraceContext | None) -> None:
        """The exchange begins, perhaps in the trace of its caller."""
        self.caller = caller
        tracecontext.current.set("" if caller is None else caller.trace_id)
        if self.spans is not None:
            self.begun_ns = self.spans.begin()

    def about(self, *, dialect: str, rule: str) -> None:
        """Say what is asked, and under which rule."""
        self.dialect = dialect
        self.rule = rule

    def hit(self, hit: Hit, tariff: Tariff) -> None:
        """Answered from the cache. tariff: of the model that answered."""
        self.key = hit.identity.id
        self.age_s = hit.age_s
        self.similarity = hit.similarity
        source = hit.replay.source
        usage = source.usage
        self.metrics.savings.hit(
            tariff.label,
            tariff.currency,
            usage=usage,
            cost=0.0 if usage is None else tariff.cost(usage),
            seconds=source.elapsed_s - self.lookup_ms / 1000,
        )
        self._count("hit")

    def saved(self, hit: Hit) -> None:
        """Missed, and then answered from the cache after all, because the upstream failed."""
        self.result = "hit"
        self.age_s = hit.age_s
        self.metrics.saved()

    def miss(self, miss: Miss) -> None:
        """Went upstream after a lookup."""
        self.key = miss.identity.id
        self.reason = miss.reason
        self._count("miss")

    def bypass(self, bypass: Bypass) -> None:
        """Went upstream without the cache."""
        self.reason = bypass.reason
        self.metrics.bypassed(bypass.reason)
        self._count("bypass")

    def not_kept(self, reason: Reason) -> None:
        """Missed, and the answer was not fit to keep."""
        self.reason = reason
        self.metrics.stored("dropped" if reason is Reason.QUEUE_FULL else "refused", reason)

    def tell(self) -> None:
        """One span and one log line, when the exchange is over."""
        if self.result is not None:
            if self.spans is not None:
                self._end_span(self.spans)
            logs.tell(
                "exchange",
                {
                    "result": self.result,
                    "reason": self.reason,
                    "dialect": self.dialect,
                    "rule": self.rule,
                    "key": self.key,
                    "age_s": self.age_s,
                    "similarity": self.similarity,
                    "lookup_ms": round(self.lookup_ms, 3),
                    "handed_over": self.handed_over,
                },
            )

    def _end_span(self, spans: Spans) -> None:
        attributes = {
            "outcome": self.result,
            "reason": self.reason,
            "dialect": self.dialect or None,
            "rule": self.rule or None,
            "age_s": self.age_s,
            "similarity": self.similarity,
            "lookup_ms": round(self.lookup_ms, 3),
            "handed_over": self.handed_over,
        }
        trace_id = spans.end(self.begun_ns, self.caller, attributes)
        if trace_id:
            tracecontext.current.set(trace_id)

    def _count(self, result: Result) -> None:
        self.result = result
        self.metrics.exchange(self.dialect, self.rule, result)
