"""What tracing adds to a call, in microseconds of the thread that serves: `python -m bench.spans`.

Nobody listens at the collector's address: what sending takes is another thread's, and is left out as far as one
interpreter can. Each row is the least of some repetitions.
"""

from __future__ import annotations

import asyncio
import logging
import timeit
from collections.abc import Callable

from ai_cache_extproc.cache.pins import model_of
from ai_cache_extproc.model import Captured, Mode, Usage
from ai_cache_extproc.telemetry import genai
from ai_cache_extproc.telemetry.tracecontext import read_context
from ai_cache_extproc.telemetry.traces import Attribute, Spans, open_spans

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
CALLS = 400
"""Fewer than a batch, which wakes the thread that sends."""
REPEATS = 20
OURS: dict[str, Attribute] = {
    "outcome": "hit",
    "dialect": "openai_chat",
    "rule": "default",
    "age_s": 3,
    "lookup_ms": 0.123,
    "handed_over": False,
}
ASKED: dict[str, Attribute] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-test",
}
BODY = b'{"id": "1", "model": "gpt-test", "choices": [{"message": {"content": "%s"}}]}' % (b"a ball of gas " * 70)
ANSWER = Captured(
    Mode.JSON, "application/json", BODY, created_s=0.0, expires_s=1.0, elapsed_s=1.0, usage=Usage(10, 20, 0)
)


async def microseconds(call: Callable[[Spans], object]) -> float:
    """Of one call, over spans of its own for each repetition."""
    best = float("inf")
    for _ in range(REPEATS):
        opening = open_spans(
            url="http://127.0.0.1:9/v1/traces",
            headers={},
            service_name="bench",
            ratio=1.0,
            timeout_s=0.1,
            interval_s=60.0,
            queue_max=2 * CALLS,
            gen_ai=True,
        )
        async with opening as spans:
            best = min(best, timeit.timeit(lambda spans=spans: call(spans), number=CALLS))  # type: ignore[misc]
    return best / CALLS * 1e6


def plain(spans: Spans) -> None:
    """One sampled span, without the attributes of the conventions."""
    ended = spans.end(spans.begin(), CALLER, OURS)
    assert ended is not None
    ended.send()


def with_conventions(spans: Spans) -> None:
    """One with them."""
    ended = spans.end(spans.begin(), CALLER, OURS | ASKED)
    assert ended is not None
    ended.send(genai.answered(model_of(ANSWER)) | genai.spared(ANSWER.usage))


CALLER = read_context(TRACEPARENT)


async def main() -> None:
    """Measure and print."""
    logging.disable(logging.CRITICAL)
    read_us = min(timeit.repeat(lambda: read_context(TRACEPARENT), number=CALLS, repeat=REPEATS)) / CALLS * 1e6
    span_us, more_us = await microseconds(plain), await microseconds(with_conventions)
    print(f"a traceparent read                   {read_us:6.1f} us")
    print(f"a sampled span                       {span_us:6.1f} us")
    print(f"the conventions' attributes, besides {more_us - span_us:6.1f} us ({len(BODY)} bytes of answer)")


if __name__ == "__main__":
    asyncio.run(main())
