"""What one exchange comes to, told once in metrics and once in a log line. Never content, never credentials."""

from __future__ import annotations

from dataclasses import dataclass

from ai_cache_extproc.model import Bypass, Hit, Miss, Reason
from ai_cache_extproc.telemetry import logs
from ai_cache_extproc.telemetry.metrics import Metrics, Result


@dataclass(slots=True)
class Story:
    """Filled in as the exchange goes; an exchange without a result was no LLM call and is not told."""

    metrics: Metrics
    dialect: str = ""
    rule: str = ""
    result: Result | None = None
    reason: Reason | None = None
    key: str = ""
    age_s: int | None = None
    similarity: float | None = None
    lookup_ms: float = 0
    handed_over: bool = False

    def about(self, *, dialect: str, rule: str) -> None:
        """Say what is asked, and under which rule."""
        self.dialect = dialect
        self.rule = rule

    def hit(self, hit: Hit) -> None:
        """Answered from the cache."""
        self.key = hit.identity.id
        self.age_s = hit.age_s
        self.similarity = hit.similarity
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
        """One log line, when the exchange is over."""
        if self.result is not None:
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

    def _count(self, result: Result) -> None:
        self.result = result
        self.metrics.exchange(self.dialect, self.rule, result)
