"""What every exchange of a process shares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ai_cache_extproc.cache.collection import CaptureBudget
from ai_cache_extproc.cache.pipeline import Pipeline
from ai_cache_extproc.dialects import Dialects
from ai_cache_extproc.telemetry.metrics import Metrics
from ai_cache_extproc.telemetry.traces import Spans


@dataclass(frozen=True, slots=True)
class Services:
    """The cache, and what it is measured with. monotonic: seconds. spans: None where none are kept. told: static modes already logged."""

    dialects: Dialects
    pipeline: Pipeline
    budget: CaptureBudget
    metrics: Metrics
    monotonic: Callable[[], float]
    spans: Spans | None = None
    told: set[str] = field(default_factory=set)
