"""What one exchange comes to, told once in metrics, in a log line and in a span. Never content, never credentials."""

from __future__ import annotations

from dataclasses import dataclass, field

from ai_cache_extproc.cache.pins import model_of
from ai_cache_extproc.config.prices import Tariff
from ai_cache_extproc.meaning import Judged
from ai_cache_extproc.model import Bypass, Captured, Hit, Miss, Mode, Question, Reason
from ai_cache_extproc.telemetry import genai, logs, tracecontext
from ai_cache_extproc.telemetry.metrics import Metrics, Result
from ai_cache_extproc.telemetry.tracecontext import TraceContext
from ai_cache_extproc.telemetry.traces import Attribute, Ended, Spans

_MODEL_BYTES_MAX = 64 * 1024
"""A JSON answer beyond this is not read again to see which model gave it."""


@dataclass(slots=True)
class Story:
    """Filled in as the exchange goes; an exchange without a result was no LLM call and is not told."""

    metrics: Metrics
    spans: Spans | None = None
    caller: TraceContext | None = None
    begun_ns: int = 0
    dialect: str = ""
    provider: str = ""
    rule: str = ""
    result: Result | None = None
    reason: Reason | None = None
    key: str = ""
    age_s: int | None = None
    similarity: float | None = None
    judged: Judged | None = None
    lookup_ms: float = 0
    handed_over: bool = False
    answer: Captured | None = None
    _asked: dict[str, Attribute] = field(default_factory=dict)
    _ended: Ended | None = None

    def begin(self, caller: TraceContext | None) -> None:
        """The exchange begins, perhaps in the trace of its caller."""
        self.caller = caller
        tracecontext.current.set("" if caller is None else caller.trace_id)
        if self.spans is not None:
            self.begun_ns = self.spans.begin()

    def about(self, *, dialect: str, rule: str, cluster: str) -> None:
        """Say which API is asked, where, and under which rule. cluster: empty where Envoy does not say."""
        self.dialect = dialect
        self.provider = cluster or genai.vendor_of(dialect)
        self.rule = rule

    def asked(self, question: Question) -> None:
        """Say what is asked, as far as a span may."""
        if self.spans is not None and self.spans.gen_ai:
            self._asked = genai.asked(question)

    def hit(self, hit: Hit, tariff: Tariff) -> None:
        """Answered from the cache. tariff: of the model that answered."""
        self.key = hit.identity.id
        self.age_s = hit.age_s
        self.similarity = hit.similarity
        self.judged = hit.judged
        self.metrics.meaning.hit(self.rule, similarity=hit.similarity)
        source = self.answer = hit.replay.source
        usage = source.usage
        self.metrics.tokens.told("cache", self.provider, tariff.label, usage)
        self.metrics.savings.hit(
            tariff.label,
            tariff.currency,
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
        self.judged = miss.judged
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

    def understood(self, tariff: Tariff, answer: Captured) -> None:
        """Say what the upstream's answer took, be it kept or not; perhaps after the exchange. tariff: as in `hit`."""
        self.metrics.tokens.told("upstream", self.provider, tariff.label, answer.usage)
        self.answer = answer
        if self._ended is not None:
            self._send(self._ended)

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
                    **self._matched(),
                },
            )

    def _matched(self) -> dict[str, str | float | None]:
        """What matching by meaning came to, for each decision of its guards."""
        judged = self.judged
        if judged is None:
            return {}
        shown = {"semantic": judged.result, "similarity": judged.similarity}
        return shown | {"class": judged.klass or None, "guard": judged.guard or None}

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
            **self._matched(),
            **self._asked,
        }
        ended = spans.end(self.begun_ns, self.caller, attributes)
        if ended is None:
            return
        tracecontext.current.set(ended.trace_id)
        if self.handed_over and self._asked and self.answer is None:
            # What it took is known as soon as write-back has read it.
            self._ended = ended
        else:
            self._send(ended)

    def _send(self, ended: Ended) -> None:
        more: dict[str, Attribute] = {}
        answer = self.answer
        if self._asked and answer is not None:
            is_short = answer.mode is not Mode.JSON or len(answer.body) <= _MODEL_BYTES_MAX
            more = genai.answered(model_of(answer) if is_short else None)
            more |= genai.used(answer.usage) if self.handed_over else genai.spared(answer.usage)
        ended.send(more)

    def _count(self, result: Result) -> None:
        self.result = result
        self.metrics.exchange(self.dialect, self.rule, result)
