"""Tokens that answers took, by who gave them: the upstream, or the cache. Plain numbers, as in `metrics.py`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from prometheus_client.core import CounterMetricFamily, Metric

from ai_cache_extproc.model import Usage
from ai_cache_extproc.telemetry.family import Family

Source = Literal["upstream", "cache"]

TOKENS = Family(
    "aicache_tokens_total",
    "counter",
    "Tokens of answers, as the upstream counted them. source is upstream for answers that were collected whole after a miss, "
    "kept or not, and cache for hits, exact or semantic: what those did not take from the upstream. kind is input, output or "
    "cached (input from the upstream's own cache, not counted as input). provider is Envoy's cluster, else whose API it is. "
    "`model` is that of the row in `prices` that matches, else `other`.",
    ("source", "provider", "model", "kind"),
)
USAGES = (TOKENS,)

OTHER = "other"
PROVIDERS_MAX = 64
"""Names of clusters that become labels; those after them are `other`. Envoy's configuration bounds them, as a rule."""

_SOURCES: tuple[Source, ...] = ("upstream", "cache")
_KINDS = ("input", "output", "cached")


class Tokens:
    """The tallies. Call from the event loop's thread only."""

    def __init__(self) -> None:
        self._providers: set[str] = set()
        # For each source input, output and cached tokens.
        self._tallies: dict[tuple[str, str], dict[Source, list[int]]] = {}

    def told(self, source: Source, provider: str, model: str, usage: Usage | None) -> None:
        """Count the tokens of one answer. model: from a closed set. usage: None where it is not known.

        The series of the other source begin at 0 with it, so that their first answer is seen as an increase.
        """
        if usage is None:
            return
        key = (self._bounded(provider), model)
        sources = self._tallies.get(key)
        if sources is None:
            sources = self._tallies[key] = {each: [0, 0, 0] for each in _SOURCES}
        tally = sources[source]
        tally[0] += usage.input_tokens
        tally[1] += usage.output_tokens
        tally[2] += usage.cached_tokens

    def collect(self) -> Iterator[Metric]:
        """Turn the tallies into metric families."""
        family = CounterMetricFamily(TOKENS.name, TOKENS.help, labels=TOKENS.labels)
        for (provider, model), sources in self._tallies.items():
            for source, tally in sources.items():
                for kind, total in zip(_KINDS, tally, strict=True):
                    family.add_metric([source, provider, model, kind], total)
        yield family

    def _bounded(self, provider: str) -> str:
        if provider in self._providers:
            return provider
        if len(self._providers) == PROVIDERS_MAX:
            return OTHER
        self._providers.add(provider)
        return provider
