"""Spans of exchanges, sent to an OpenTelemetry collector. Needs the extra `otel`: only `traces.open_spans` imports this.

Sending is the business of a thread with a bounded queue: it delays no exchange, and fails none.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from ai_cache_extproc import __version__
from ai_cache_extproc.telemetry import genai
from ai_cache_extproc.telemetry.tracecontext import TraceContext
from ai_cache_extproc.telemetry.traces import NOTHING_MORE, Attribute

SPAN_NAME = "ai-cache"
PREFIX = "aicache."
"""Before the name of every attribute that is not of the conventions."""
BATCH_MAX = 512


class OtlpSpans:
    """Spans for one collector."""

    def __init__(
        self,
        *,
        url: str,
        headers: Mapping[str, str],
        service_name: str,
        ratio: float,
        timeout_s: float,
        interval_s: float,
        queue_max: int,
        gen_ai: bool,
    ) -> None:
        """As `traces.open_spans`."""
        self.gen_ai = gen_ai
        self._timeout_s = timeout_s
        # The process ends as the composition root says, which calls `close`.
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(ratio)),
            resource=Resource.create({"service.name": service_name, "service.version": __version__}),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(
                OTLPSpanExporter(endpoint=url, headers=dict(headers), timeout=timeout_s),
                max_queue_size=queue_max,
                max_export_batch_size=min(BATCH_MAX, queue_max),
                schedule_delay_millis=interval_s * 1000,
            )
        )
        self._tracer = self._provider.get_tracer("ai_cache_extproc", __version__)

    def begin(self) -> int:
        """The time now."""
        return time.time_ns()

    def end(self, begun_ns: int, caller: TraceContext | None, attributes: Mapping[str, Attribute]) -> OtlpSpan | None:
        """A span of the caller's trace, if the caller samples it; without a caller the ratio decides."""
        if caller is not None and not caller.is_sampled:
            return None
        span = self._tracer.start_span(
            SPAN_NAME,
            # An empty context, not the present one: what else runs in this task is no parent.
            context=Context() if caller is None else _context_of(caller),
            kind=SpanKind.SERVER,
            attributes=_named(attributes),
            start_time=begun_ns,
        )
        return OtlpSpan(span) if span.get_span_context().trace_flags.sampled else None

    async def close(self) -> None:
        """Send what waits, for no longer than one batch may take; the rest is lost."""
        # A thread that does not keep the process alive: a collector that hangs must not.
        closing = threading.Thread(target=self._provider.shutdown, name="close-spans", daemon=True)
        closing.start()
        await asyncio.to_thread(closing.join, self._timeout_s)


class OtlpSpan:
    """A span that is over and sampled."""

    def __init__(self, span: Span) -> None:
        self.trace_id = f"{span.get_span_context().trace_id:032x}"
        self._span = span
        self._ended_ns = time.time_ns()

    def send(self, more: Mapping[str, Attribute] = NOTHING_MORE) -> None:
        """Let it go, with the time at which it was over."""
        self._span.set_attributes(_named(more))
        self._span.end(self._ended_ns)


def _named(attributes: Mapping[str, Attribute]) -> dict[str, str | int | float | bool]:
    return {
        name if name.startswith(genai.PREFIX) else PREFIX + name: value
        for name, value in attributes.items()
        if value is not None
    }


def _context_of(caller: TraceContext) -> Context:
    context = SpanContext(
        int(caller.trace_id, 16),
        int(caller.span_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
        trace_state=TraceState.from_header([caller.state]) if caller.state else None,
    )
    return set_span_in_context(NonRecordingSpan(context), Context())
