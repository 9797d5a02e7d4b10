"""Spans, as a collector receives them over OTLP/HTTP."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from ai_cache_extproc import __version__
from ai_cache_extproc.errors import ConfigError
from ai_cache_extproc.telemetry.tracecontext import TraceContext
from ai_cache_extproc.telemetry.traces import Spans, open_spans
from tests.support.collector import Collector

CALLER = TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", is_sampled=True, state="vendor=1")
SETTINGS: Mapping[str, Any] = {
    "headers": {},
    "service_name": "cache",
    "ratio": 1.0,
    "timeout_s": 2.0,
    "interval_s": 0.02,
    "queue_max": 100,
    "gen_ai": False,
}


def spans_to(url: str, **settings: Any) -> AbstractAsyncContextManager[Spans]:
    """Spans for a collector at `url`."""
    return open_spans(url=f"{url}/v1/traces", **{**SETTINGS, **settings})


def send(spans: Spans, caller: TraceContext | None) -> str:
    """Send a span if it is sampled; the id of its trace."""
    ended = spans.end(spans.begin(), caller, {"outcome": "hit"})
    if ended is None:
        return ""
    ended.send()
    return ended.trace_id


async def test_a_span_is_a_child_of_its_caller() -> None:
    """It says what it was told, from begin to end, in the caller's trace, on the server's side."""
    with Collector() as collector:
        async with spans_to(collector.url, headers={"authorization": "Bearer t"}) as spans:
            began_ns = spans.begin()
            ended = spans.end(began_ns, CALLER, {"outcome": "hit", "gen_ai.request.model": "gpt-4o", "reason": None})
            assert ended is not None
            ended.send({"age_s": 3, "similarity": None})
        (sent,) = collector.wait_for(1)
        assert (CALLER.trace_id, CALLER.trace_id, CALLER.span_id) == (ended.trace_id, sent.trace_id, sent.parent_id)
        assert ("ai-cache", Span.SPAN_KIND_SERVER, "vendor=1") == (
            sent.span.name,
            sent.span.kind,
            sent.span.trace_state,
        )
        assert {"aicache.outcome": "hit", "gen_ai.request.model": "gpt-4o", "aicache.age_s": 3} == sent.attributes
        assert began_ns == sent.span.start_time_unix_nano <= sent.span.end_time_unix_nano
        assert ("cache", __version__) == (sent.resource["service.name"], sent.resource["service.version"])
        assert ["/v1/traces"] == [post.path for post in collector.posts]
        assert "Bearer t" == collector.posts[0].headers["authorization"]


async def test_what_the_caller_does_not_sample_is_not_sent() -> None:
    """The caller's flag decides, whatever the ratio."""
    unsampled = TraceContext(CALLER.trace_id, CALLER.span_id, is_sampled=False)
    with Collector() as collector:
        async with spans_to(collector.url, ratio=1.0) as spans:
            assert spans.end(spans.begin(), unsampled, {"outcome": "miss"}) is None
        assert [] == collector.spans


@pytest.mark.parametrize("ratio", [0.0, 1.0], ids=["none", "all"])
async def test_without_a_caller_the_ratio_decides(ratio: float) -> None:
    """A trace of our own has a new id each time; with a caller that samples the ratio has no say."""
    with Collector() as collector:
        async with spans_to(collector.url, ratio=ratio) as spans:
            told = [send(spans, None) for _ in range(3)]
            send(spans, CALLER)
        sent = collector.wait_for(1 + 3 * int(ratio))
        assert [*filter(None, told), CALLER.trace_id] == [each.trace_id for each in sent]
        assert 3 * int(ratio) == len(set(filter(None, told)))
        assert all(not each.parent_id for each in sent[:-1])


@pytest.mark.parametrize("faulty", ["refuses", "hangs", "away"])
async def test_a_collector_that_fails_costs_nobody_anything(faulty: str) -> None:
    """Spans are given in no time and dropped; the end waits no longer than one batch may take."""
    with Collector(status=400 if faulty == "refuses" else 200, hang_s=600 if faulty == "hangs" else 0) as collector:
        url = "http://127.0.0.1:9" if faulty == "away" else collector.url
        opening = spans_to(url, timeout_s=0.3, queue_max=4)
        spans = await opening.__aenter__()
        for _ in range(50):
            send(spans, CALLER)
        await asyncio.sleep(0.05)
        # The collector that hangs does so until it is left, or for longer than a test may take.
        await opening.__aexit__(None, None, None)
        assert len(collector.posts) <= 2


async def test_a_missing_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the setting, what is missing and the command."""
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    monkeypatch.delitem(sys.modules, "ai_cache_extproc.telemetry.otel", raising=False)
    with pytest.raises(ConfigError) as caught:
        await spans_to("http://collector.test:4318").__aenter__()
    expected = "tracing.endpoint: needs opentelemetry.sdk.trace, which is not installed; "
    assert expected + "pip install 'ai-cache-extproc[otel]'" == str(caught.value)
