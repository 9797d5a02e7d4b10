"""The trace that an exchange belongs to: its span, its log lines, and what is not looked up by it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import structlog

from ai_cache_extproc._generated import ext_proc_pb2 as wire
from ai_cache_extproc.errors import ProtocolViolation
from ai_cache_extproc.extproc.codec import decode
from ai_cache_extproc.extproc.events import Immediate, RequestHeaders
from ai_cache_extproc.extproc.exchange import Exchange
from ai_cache_extproc.model import Wanted
from ai_cache_extproc.telemetry import logs, tracecontext
from ai_cache_extproc.telemetry.tracecontext import TraceContext
from ai_cache_extproc.telemetry.traces import NOTHING_MORE, Attribute
from tests.exchange.conversation import (
    Core,
    answer_json,
    core,
    miss_then_store,
    reply_to,
    request_body,
    request_headers,
)

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
CALLER = TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", is_sampled=True, state="vendor=1")
OWN = "0af7651916cd43dd8448eb211c80319c"


@dataclass
class KeptSpan:
    """One that is over. sent: what came to be known since, None until it is let go."""

    trace_id: str
    sent: Mapping[str, Attribute] | None = None

    def send(self, more: Mapping[str, Attribute] = NOTHING_MORE) -> None:
        assert self.sent is None
        self.sent = more


@dataclass
class Kept:
    """Spans that go nowhere. trace_id: of every span that has no caller, empty for what is not sampled."""

    trace_id: str = OWN
    gen_ai: bool = False
    ended: list[tuple[int, TraceContext | None, Mapping[str, Attribute]]] = field(default_factory=list)
    spans: list[KeptSpan] = field(default_factory=list)

    def begin(self) -> int:
        return 17

    def end(self, begun_ns: int, caller: TraceContext | None, attributes: Mapping[str, Attribute]) -> KeptSpan | None:
        trace_id = self.trace_id if caller is None else caller.trace_id
        if not trace_id:
            return None
        self.ended.append((begun_ns, caller, attributes))
        self.spans.append(KeptSpan(trace_id))
        return self.spans[-1]


@pytest.fixture
def stream() -> Iterator[io.TextIOWrapper]:
    """Where the JSON lines of a test go; logging is as it was afterwards."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    logs.configure("info", "json", stream=stream)
    yield stream
    logs.configure("info", "console", stream=io.StringIO())
    structlog.reset_defaults()
    tracecontext.current.set("")


def traced(parts: Core, spans: Kept | None) -> Exchange:
    """An exchange whose spans are kept."""
    return Exchange(parts.snapshot, replace(parts.services, spans=spans))


async def ask_as(exchange: Exchange, caller: TraceContext | None, **headers: Any) -> object:
    """Send a question in a caller's trace."""
    exchange.handle(replace(request_headers(**headers), caller=caller))
    return await reply_to(exchange, request_body())


def told(stream: io.TextIOWrapper) -> list[dict[str, object]]:
    """The lines of exchanges so far."""
    logs._lines.flush() if logs._lines else None
    assert isinstance(stream.buffer, io.BytesIO)
    lines = [json.loads(line) for line in stream.buffer.getvalue().splitlines()]
    return [line for line in lines if line["event"] == "exchange"]


async def test_each_outcome_has_its_span() -> None:
    """From the request's headers to the end, with what became of it and nothing of what was said."""
    spans = Kept()
    async with core() as parts:
        missed = traced(parts, spans)
        await ask_as(missed, CALLER)
        answer_json(missed)
        missed.close()
        await parts.writeback.drain(5)
        for caller, headers in ((CALLER, {}), (None, {"cache_control": "no-store"})):
            exchange = traced(parts, spans)
            await ask_as(exchange, caller, **headers)
            exchange.close()
            exchange.close()
    assert [{}, {}, {}] == [span.sent for span in spans.spans]
    common = {"dialect": "openai_chat", "rule": "default", "similarity": None}
    (_, _, miss), (began_ns, caller, hit), (_, none, bypass) = spans.ended
    assert (17, CALLER, None) == (began_ns, caller, none)
    assert {**common, "outcome": "miss", "reason": None, "age_s": None, "handed_over": True} == _untimed(miss)
    assert {**common, "outcome": "hit", "reason": None, "age_s": 0, "handed_over": False} == _untimed(hit)
    assert ("bypass", "no_store", None) == (bypass["outcome"], bypass["reason"], bypass["dialect"])


def _untimed(attributes: Mapping[str, Attribute]) -> dict[str, Attribute]:
    return {name: value for name, value in attributes.items() if name != "lookup_ms"}


async def test_other_traffic_has_no_span() -> None:
    """What is no LLM call is nobody's business."""
    spans = Kept()
    async with core() as parts:
        exchange = traced(parts, spans)
        exchange.handle(replace(request_headers(path="/index.html"), caller=CALLER))
        exchange.close()
    assert [] == spans.ended


@pytest.mark.parametrize(
    ("caller", "spans", "trace_id"),
    [
        pytest.param(CALLER, None, CALLER.trace_id, id="caller-without-spans"),
        pytest.param(CALLER, Kept(), CALLER.trace_id, id="caller-and-spans"),
        pytest.param(None, Kept(), OWN, id="a-trace-of-its-own"),
        pytest.param(None, Kept(trace_id=""), None, id="not-sampled"),
        pytest.param(None, None, None, id="none"),
    ],
)
async def test_the_line_of_an_exchange_has_its_trace(
    stream: io.TextIOWrapper, caller: TraceContext | None, spans: Kept | None, trace_id: str | None
) -> None:
    """Whether spans are kept or not, a line can be joined with the caller's trace."""
    async with core() as parts:
        exchange = traced(parts, spans)
        await ask_as(exchange, caller)
        exchange.close()
        (line,) = told(stream)
        assert trace_id == line.get("trace_id")


async def test_no_line_has_the_trace_of_another(stream: io.TextIOWrapper) -> None:
    """An exchange without a caller follows one with a caller in the same task."""
    async with core() as parts:
        for caller in (CALLER, None):
            exchange = traced(parts, None)
            await ask_as(exchange, caller)
            structlog.get_logger().warning("aside")
            exchange.close()
        assert [CALLER.trace_id, None] == [line.get("trace_id") for line in told(stream)]
        assert isinstance(stream.buffer, io.BytesIO)
        asides = [json.loads(line) for line in stream.buffer.getvalue().splitlines() if b'"aside"' in line]
        assert [CALLER.trace_id, None] == [line.get("trace_id") for line in asides]


def _headers_message(*more: tuple[str, str]) -> bytes:
    fields = ((":method", "POST"), (":path", "/v1/chat/completions"), ("authorization", "Bearer t"), *more)
    headers = [wire.HeaderValue(key=name, raw_value=value.encode()) for name, value in fields]
    message = wire.HttpHeaders(headers=wire.HeaderMap(headers=headers))
    return wire.ProcessingRequest(request_headers=message).SerializeToString()


def test_the_trace_is_no_part_of_the_head() -> None:
    """Requests that differ in their traces are looked up alike."""
    plain = decode(_headers_message())
    with_trace = decode(_headers_message(("traceparent", TRACEPARENT), ("tracestate", "vendor=1")))
    assert isinstance(plain, RequestHeaders)
    assert isinstance(with_trace, RequestHeaders)
    assert (None, CALLER) == (plain.caller, with_trace.caller)
    assert plain.head == with_trace.head


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param([("traceparent", "nonsense")], id="nonsense"),
        pytest.param([("traceparent", TRACEPARENT), ("traceparent", TRACEPARENT)], id="twice"),
        pytest.param([("tracestate", "vendor=1")], id="state-alone"),
    ],
)
def test_a_trace_that_is_not_valid_is_none(fields: list[tuple[str, str]]) -> None:
    """What a client writes there is left out of the head all the same."""
    event = decode(_headers_message(*fields))
    assert isinstance(event, RequestHeaders)
    assert event.caller is None
    assert {"authorization": "Bearer t"} == event.head.headers


async def test_a_traced_question_is_hit_by_any_other() -> None:
    """Neither the fingerprint nor the scope knows the trace."""
    async with core() as parts:
        await miss_then_store(parts)
        exchange = traced(parts, None)
        assert isinstance(await ask_as(exchange, CALLER), Immediate)
        exchange.close()


def test_each_request_has_its_own_trace() -> None:
    """Headers that differ only there are read once, and each request keeps what it said."""
    other = f"00-{OWN}-00f067aa0ba902b8-00"
    first, second, none = (
        decode(_headers_message(("traceparent", text))) for text in (TRACEPARENT, other, "00-" + "0" * 52)
    )
    assert isinstance(first, RequestHeaders)
    assert isinstance(second, RequestHeaders)
    assert isinstance(none, RequestHeaders)
    assert first.head is second.head is none.head
    assert first.caller == replace(CALLER, state="")
    assert second.caller == TraceContext(OWN, "00f067aa0ba902b8", is_sampled=False)
    assert none.caller is None


def test_what_only_looks_like_a_trace_is_left_alone() -> None:
    """Metadata may hold any text: callers that differ in it are never taken for one."""
    wanted = Wanted(metadata=(("jwt", "name"),))
    names = ["\n\x0btraceparent\x1a7" + letter * 55 for letter in "ab"]
    events = []
    for name in names:
        message = wire.ProcessingRequest.FromString(_headers_message())
        message.metadata_context.filter_metadata["jwt"].update({"name": name})
        events.append(decode(message.SerializeToString(), wanted))
    heads = [event.head for event in events if isinstance(event, RequestHeaders)]
    assert [{"jwt": {"name": name}} for name in names] == [head.metadata for head in heads]


def test_a_message_that_ends_inside_its_trace_is_refused() -> None:
    """Nothing is put in its place that would make it whole."""
    whole = _headers_message(("traceparent", TRACEPARENT))
    with pytest.raises(ProtocolViolation):
        decode(whole[:-20])
