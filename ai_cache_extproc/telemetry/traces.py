"""What the exchanges ask of whoever keeps spans; `otel.py` sends them to a collector."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Protocol

from ai_cache_extproc.errors import ConfigError
from ai_cache_extproc.telemetry.tracecontext import TraceContext

EXTRA = "pip install 'ai-cache-extproc[otel]'"

Attribute = str | int | float | bool | None
NOTHING_MORE: Mapping[str, Attribute] = MappingProxyType({})


class Ended(Protocol):
    """A span that is over and sampled."""

    trace_id: str

    def send(self, more: Mapping[str, Attribute] = NOTHING_MORE) -> None:
        """Let it go, once, with what has come to be known since it was over."""
        ...


class Spans(Protocol):
    """Where spans go. Never waits, never raises. Of attributes those that are None are left out.

    gen_ai: whether they have the attributes of the conventions for generative AI.
    """

    gen_ai: bool

    def begin(self) -> int:
        """The time at which a span begins: nanoseconds since the Unix epoch."""
        ...

    def end(self, begun_ns: int, caller: TraceContext | None, attributes: Mapping[str, Attribute]) -> Ended | None:
        """A span from then until now, to be sent; None where it is not sampled."""
        ...


@asynccontextmanager
async def open_spans(
    *,
    url: str,
    headers: Mapping[str, str],
    service_name: str,
    ratio: float,
    timeout_s: float,
    interval_s: float,
    queue_max: int,
    gen_ai: bool,
) -> AsyncIterator[Spans]:
    """Send spans to a collector at `url` while inside. Raises ConfigError where the library is not installed.

    ratio: of exchanges without a caller's trace. timeout_s: for a batch, and for the last ones at the end. gen_ai: as in
    `Spans`.
    """
    try:
        # The library is an extra, and takes a quarter of a second to import.
        from ai_cache_extproc.telemetry.otel import OtlpSpans  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ConfigError("tracing.endpoint", f"needs {error.name}, which is not installed; {EXTRA}") from error
    spans = OtlpSpans(
        url=url,
        headers=headers,
        service_name=service_name,
        ratio=ratio,
        timeout_s=timeout_s,
        interval_s=interval_s,
        queue_max=queue_max,
        gen_ai=gen_ai,
    )
    try:
        yield spans
    finally:
        await spans.close()
