"""W3C Trace Context (https://www.w3.org/TR/trace-context/): which trace a request belongs to, as its headers say."""

from __future__ import annotations

import re
from contextvars import ContextVar
from dataclasses import dataclass

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"

_SHAPE = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 1


@dataclass(frozen=True, slots=True)
class TraceContext:
    """A caller's span. trace_id: 32 hex digits, span_id: 16. state: `tracestate` as it came."""

    trace_id: str
    span_id: str
    is_sampled: bool
    state: str = ""


def read_context(traceparent: str, tracestate: str = "") -> TraceContext | None:
    """The context that a request carries; None where it has none that is valid, as the standard asks for."""
    shape = _SHAPE.fullmatch(traceparent)
    # A version that is not known may say more; the known one may not.
    if shape is None or (shape[1] == "00" and shape[5]):
        return None
    return TraceContext(shape[2], shape[3], bool(int(shape[4], 16) & _SAMPLED), tracestate)


current: ContextVar[str] = ContextVar("trace_id", default="")
"""The trace id of the exchange that this task serves, for every line it logs; empty where it has none."""
