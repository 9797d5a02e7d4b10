"""Spans through a real Envoy: a client's traceparent, the sidecar, and a collector that decodes what it is sent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.support.collector import Collector
from tests.support.gateway import Gateway

TRACE = "4bf92f3577b34da6a3ce929d0e0e47{:02x}"
SPAN = "00f067aa0ba902b7"
PROMPT = "canary-prompt: what is a star?"
KEY = "canary-secret"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    """A collector for all tests of this file."""
    with Collector() as running:
        yield running


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Gateway]:
    """A gateway whose sidecar sends spans to the collector, with what the environment asks for."""
    tracing = {"endpoint": collector.url, "interval_ms": 20, "authorization": "Bearer to-the-collector"}
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "http,gen_ai_latest_experimental")
        with Gateway(tmp_path_factory.mktemp("gateway"), {"tracing": tracing}) as running:
            yield running


def ask(gateway: Gateway, **headers: str) -> str:
    """Ask the one question; the status that its answer is labelled with."""
    question: dict[str, Any] = {"model": "gpt-test", "messages": [{"role": "user", "content": PROMPT}]}
    named = {"authorization": f"Bearer {KEY}", **{name.replace("_", "-"): value for name, value in headers.items()}}
    answer = httpx2.post(f"{gateway.url}/v1/chat/completions", json=question, headers=named, timeout=20)
    assert 200 == answer.status_code
    return answer.headers["x-ai-cache-status"]


def test_each_call_is_a_span_of_its_callers_trace(gateway: Gateway, collector: Collector) -> None:
    """A miss, a hit and a bypass: three spans, each in its caller's trace; what is not sampled is not sent."""
    outcomes = [ask(gateway, traceparent=f"00-{TRACE.format(0)}-{SPAN}-01", tracestate="vendor=1")]
    gateway.entries()
    outcomes.append(ask(gateway, traceparent=f"00-{TRACE.format(1)}-{SPAN}-00"))
    outcomes.append(ask(gateway, traceparent=f"00-{TRACE.format(2)}-{SPAN}-01"))
    outcomes.append(ask(gateway, traceparent=f"00-{TRACE.format(3)}-{SPAN}-01", cache_control="no-store"))
    assert ["MISS", "HIT", "HIT", "BYPASS"] == outcomes
    sent = sorted(collector.wait_for(3), key=lambda each: each.trace_id)
    assert [TRACE.format(number) for number in (0, 2, 3)] == [each.trace_id for each in sent]
    assert {SPAN} == {each.parent_id for each in sent}
    assert {Span.SPAN_KIND_SERVER} == {each.span.kind for each in sent}
    miss, hit, bypass = (each.attributes for each in sent)
    assert ("miss", "openai_chat", "default") == tuple(
        miss[f"aicache.{name}"] for name in ("outcome", "dialect", "rule")
    )
    assert ("hit", 0) <= (hit["aicache.outcome"], hit["aicache.age_s"])
    assert ("bypass", "no_store") == (bypass["aicache.outcome"], bypass["aicache.reason"])
    assert "vendor=1" == sent[0].span.trace_state
    assert {"Bearer to-the-collector"} == {post.headers["authorization"] for post in collector.posts}


def test_usage_is_said_once(gateway: Gateway, collector: Collector) -> None:
    """The miss has the tokens under the conventions' names, the hit under ours; both say what was called."""
    gateway.upstream.fresh()
    before = len(collector.spans)
    for _ in range(2):
        ask(gateway, traceparent=f"00-{TRACE.format(7)}-{SPAN}-01", authorization=f"Bearer {KEY}-2")
        gateway.entries()
    miss, hit = (each.attributes for each in collector.wait_for(before + 2)[before:])
    called = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-test",
        "gen_ai.response.model": "gpt-test",
    }
    assert ("miss", "hit") == (miss["aicache.outcome"], hit["aicache.outcome"])
    assert called.items() <= miss.items()
    assert called.items() <= hit.items()
    assert (4, 5) == (miss["gen_ai.usage.input_tokens"], miss["gen_ai.usage.output_tokens"])
    assert (4, 5) == (hit["aicache.saved_input_tokens"], hit["aicache.saved_output_tokens"])
    assert not [name for name in hit if name.startswith("gen_ai.usage.")]


def test_the_upstream_sees_the_trace_as_the_client_sent_it(gateway: Gateway) -> None:
    """The sidecar reads the headers of a trace and leaves them alone."""
    traceparent = f"00-{TRACE.format(9)}-{SPAN}-01"
    gateway.upstream.fresh()
    ask(gateway, traceparent=traceparent, cache_control="no-cache")
    assert traceparent == gateway.upstream.received[-1].headers["traceparent"]


def test_log_lines_have_the_trace(gateway: Gateway, collector: Collector) -> None:
    """The line of an exchange names the caller's trace, or the one that its span began."""
    ask(gateway, traceparent=f"00-{TRACE.format(4)}-{SPAN}-01")
    before = len(collector.spans)
    ask(gateway)
    began = {each.trace_id for each in collector.wait_for(before + 1) if not each.parent_id}
    # One more exchange's worth of patience: lines wait a moment and leave together.
    gateway.sidecar.stop()
    lines = [json.loads(line) for line in Path(gateway.sidecar.log).read_text().splitlines()]
    logged = [line["trace_id"] for line in lines if line["event"] == "exchange"]
    assert TRACE.format(4) in logged
    assert began <= set(logged)
    gateway.start_sidecar()


def test_spans_hold_no_content_and_no_credentials(gateway: Gateway, collector: Collector) -> None:
    """Whatever was sent so far: neither the question nor the key of the client is in it."""
    written = b"".join(post.body for post in collector.posts)
    assert written
    assert b"canary" not in written
    assert "canary" not in gateway.sidecar.log.read_text()


def test_a_collector_that_is_away_fails_no_request(tmp_path: Path) -> None:
    """Answers come as ever, and the sidecar stops in its time."""
    with Gateway(tmp_path, {"tracing": {"endpoint": "http://127.0.0.1:9", "interval_ms": 20}}) as gateway:
        assert "MISS" == ask(gateway)
        gateway.entries()
        assert ["HIT"] * 5 == [ask(gateway) for _ in range(5)]
        assert 0 == gateway.sidecar.stop()
        log = gateway.sidecar.log.read_text()
    assert "Traceback" not in log
    assert "canary" not in log
