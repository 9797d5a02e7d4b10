"""A machine that sends any ProcessingRequest to any open stream, in bytes: every reply is one that Envoy may be sent.

About 2 000 steps with `make test`, 100 000 with `make soak`.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from ai_cache_extproc._generated import ext_proc_pb2 as wire
from ai_cache_extproc.cli.mutations import MAY_CHANGE
from ai_cache_extproc.config.model import Config
from ai_cache_extproc.errors import ProtocolViolation
from ai_cache_extproc.extproc.codec import decode, encode
from ai_cache_extproc.extproc.events import Event, Pending
from ai_cache_extproc.extproc.exchange import Exchange
from ai_cache_extproc.extproc.phases import Phase
from tests.exchange.conversation import ANSWER_BODY, PATH, STREAM, Core, core, request_body
from tests.support.soak import either

STEPS = 50
EXAMPLES = either(40, 2_000)

CONFIG = Config.model_validate(
    {
        "limits": {"answer_bytes_max": 2_000, "capture_bytes_max": 3_000, "request_bytes_max": 4_000},
        "envoy": {"message_timeout_ms": 500, "max_message_timeout_ms": 10_000},
        "lookup": {"flight_wait_ms": 20, "deadline_ms": 200},
        "rules": [{"name": "all", "ttl_s": 60, "stale_if_error_s": 600}],
    }
)

_PARTS = {
    "request_headers": "request_headers",
    "request_body": "request_body",
    "request_trailers": "request_trailers",
    "response_headers": "response_headers",
    "response_body": "response_body",
    "response_trailers": "response_trailers",
}
_HEADER_PARTS = {"request_headers", "response_headers"}
_NEVER = wire.ProcessingMode.BodySendMode.Value("BUFFERED")

bodies = st.one_of(
    st.builds(lambda seed, stream: request_body(seed=seed, stream=stream).chunk, st.integers(0, 2), st.booleans()),
    st.binary(max_size=30),
    st.just(b'{"messages":[],"messages":[]}'),
    st.just(b"x" * 5_000),
)
answers = st.sampled_from([*STREAM, ANSWER_BODY, b"", b"x", b"data: [DONE]\n\n", b"y" * 2_500])
words = st.sampled_from(["", "gzip", "no-store", "no-cache", "max-age=0", "only-if-cached", "\xff\x00", "a\r\nb: c"])
modes = st.integers(0, 6)


@dataclass(eq=False)
class Stream:
    """One ext_proc stream as Envoy sees it."""

    exchange: Exchange
    is_over: bool = False
    extensions: int = 0
    configured: set[int] = field(default_factory=set)


class Sidecar(RuleBasedStateMachine):
    """Envoy at its worst: parts in any order and number, on several streams at once."""

    streams: Bundle[Stream] = Bundle("streams")

    @initialize()
    def start(self) -> None:
        """A core over a memory store."""
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.parts: Core = self.runner.run(self.stack.enter_async_context(core(CONFIG)))
        self.open: list[Stream] = []

    @rule(target=streams)
    def opened(self) -> Stream:
        """Envoy opens a stream."""
        stream = Stream(self.parts.exchange())
        self.open.append(stream)
        return stream

    @rule(stream=consumes(streams))
    def closed(self, stream: Stream) -> None:
        """Envoy ends a stream, at whatever point."""
        stream.exchange.close()
        self.open.remove(stream)

    @rule(seconds=st.sampled_from([1, 59.999, 61, 700]))
    def elapsed(self, seconds: float) -> None:
        """Time passes for entries."""
        self.parts.clock.now_s += seconds

    @rule(
        stream=streams,
        path=st.sampled_from([PATH, PATH, PATH, "/v1/messages", "/other", "", "\xff?key=a&key"]),
        method=st.sampled_from(["POST", "POST", "GET", ""]),
        cache_control=words,
        encoding=words,
        end_of_stream=st.booleans(),
        configured=st.none() | st.tuples(modes, modes),
    )
    def request_headers(
        self,
        *,
        stream: Stream,
        path: str,
        method: str,
        cache_control: str,
        encoding: str,
        end_of_stream: bool,
        configured: tuple[int, int] | None,
    ) -> None:
        """The request line and headers, as usual or odd."""
        request = wire.ProcessingRequest()
        headers = request.request_headers.headers.headers
        fields = {":method": method, ":path": path, ":authority": "llm.test", "content-type": "application/json"}
        fields |= {"authorization": "Bearer secret", "cache-control": cache_control, "content-encoding": encoding}
        for name, value in fields.items():
            if value:
                headers.add(key=name, raw_value=value.encode("latin-1"))
        request.request_headers.end_of_stream = end_of_stream
        if configured is not None:
            # Numbers that no version of Envoy has are kept by protobuf, and must not be a fault either.
            stream.configured |= set(configured)
            request.protocol_config.request_body_mode, request.protocol_config.response_body_mode = configured  # type: ignore[assignment]  # any number
        self.send(stream, request)

    @rule(stream=streams, question=st.integers(0, 1), is_stream=st.booleans(), is_whole=st.booleans())
    def call(self, stream: Stream, question: int, *, is_stream: bool, is_whole: bool) -> None:
        """A whole exchange as it should be, or cut before its end, so that there is something to hit."""
        self.request_headers(
            stream=stream, path=PATH, method="POST", cache_control="", encoding="", end_of_stream=False, configured=None
        )
        self.request_part(stream, request_body(seed=question, stream=is_stream).chunk, end_of_stream=True)
        kind = "text/event-stream" if is_stream else "application/json"
        self.response_headers(stream=stream, status="200", kind=kind, field="", end_of_stream=False)
        chunks = STREAM if is_stream else (ANSWER_BODY,)
        for chunk in chunks if is_whole else chunks[:-1]:
            self.response_part(stream, chunk, end_of_stream=False)
        if is_whole:
            self.response_part(stream, b"", end_of_stream=True)

    @rule(question=st.integers(0, 1), is_stream=st.booleans(), is_whole=st.booleans())
    def passed_by(self, question: int, *, is_stream: bool, is_whole: bool) -> None:
        """The same on a stream of its own, which ends then: the next one who asks gets a hit."""
        stream = Stream(self.parts.exchange())
        self.call(stream, question, is_stream=is_stream, is_whole=is_whole)
        stream.exchange.close()
        assert self.runner.run(self.parts.writeback.drain(5))

    @rule(stream=streams, body=bodies, end_of_stream=st.booleans())
    def request_part(self, stream: Stream, body: bytes, *, end_of_stream: bool) -> None:
        """A piece of a question."""
        self.send(stream, wire.ProcessingRequest(request_body=wire.HttpBody(body=body, end_of_stream=end_of_stream)))

    @rule(
        stream=streams,
        status=st.sampled_from(["200", "200", "204", "429", "500", "", "x00", "99999"]),
        kind=st.sampled_from(["application/json", "text/event-stream", "text/html", ""]),
        field=words,
        end_of_stream=st.booleans(),
    )
    def response_headers(self, *, stream: Stream, status: str, kind: str, field: str, end_of_stream: bool) -> None:
        """The status and headers of an answer."""
        request = wire.ProcessingRequest()
        headers = request.response_headers.headers.headers
        for name, value in ((":status", status), ("content-type", kind), ("content-encoding", field), ("vary", field)):
            if value:
                headers.add(key=name, raw_value=value.encode("latin-1"))
        request.response_headers.end_of_stream = end_of_stream
        self.send(stream, request)

    @rule(stream=streams, body=answers, end_of_stream=st.booleans())
    def response_part(self, stream: Stream, body: bytes, *, end_of_stream: bool) -> None:
        """A piece of an answer."""
        self.send(stream, wire.ProcessingRequest(response_body=wire.HttpBody(body=body, end_of_stream=end_of_stream)))

    @rule(stream=streams, of_answer=st.booleans())
    def trailers(self, stream: Stream, *, of_answer: bool) -> None:
        """Trailers, of either direction."""
        request = wire.ProcessingRequest()
        (request.response_trailers if of_answer else request.request_trailers).SetInParent()
        self.send(stream, request)

    @rule(noise=st.binary(max_size=40))
    def noise(self, noise: bytes) -> None:
        """Bytes that are no message are a violation, or some message."""
        try:
            decode(noise)
        except ProtocolViolation:
            return

    @invariant()
    def budget_is_bounded(self) -> None:
        """What is being collected stays inside the budget."""
        if hasattr(self, "parts"):
            taken = self.parts.counted("aicache_inflight_bytes")
            assert 0 <= taken <= CONFIG.limits.capture_bytes_max

    def teardown(self) -> None:
        """When all streams have ended, nothing is held."""
        if not hasattr(self, "parts"):
            return
        try:
            for stream in self.open:
                stream.exchange.close()
            assert self.runner.run(self.parts.writeback.drain(5))
            assert 0 == len(self.parts.flights)
            assert 0 == self.parts.counted("aicache_inflight_bytes")
            self.runner.run(self.stack.aclose())
        finally:
            self.runner.close()

    def send(self, stream: Stream, request: wire.ProcessingRequest) -> None:
        """Drive a stream as the server does, and look at every reply; no exception but a violation is caught."""
        if stream.is_over:
            return
        event = decode(request.SerializeToString(), stream.exchange.wanted)
        assert event is not None
        before = stream.exchange.phase
        for raw in self.runner.run(self.replies(stream, event)):
            assert_legal(stream, request, raw, before)

    async def replies(self, stream: Stream, event: Event) -> list[bytes]:
        """All that goes to Envoy for one message."""
        said: list[bytes] = []
        left_out: list[str] = []
        try:
            outcome = stream.exchange.handle(event)
            while isinstance(outcome, Pending):
                if outcome.first is not None:
                    said.append(encode(outcome.first))
                outcome = await outcome.finish()
        except ProtocolViolation:
            outcome = stream.exchange.give_up(event)
            assert Phase.PASSING is stream.exchange.phase
        said.append(encode(outcome, left_out.append))
        assert [] == left_out
        # What write-back and flights have to do, they may do now.
        await asyncio.sleep(0)
        return said


def assert_legal(stream: Stream, request: wire.ProcessingRequest, raw: bytes, before: Phase) -> None:
    """Assert that Envoy may be sent this reply to this message."""
    reply = wire.ProcessingResponse.FromString(raw)
    asked, kind = request.WhichOneof("request"), reply.WhichOneof("response")
    assert asked is not None
    if reply.HasField("override_message_timeout"):
        stream.extensions += 1
        assert kind is None
        assert 1 == stream.extensions
        assert 1 <= reply.override_message_timeout.ToMilliseconds() <= CONFIG.envoy.max_message_timeout_ms
        return
    if kind == "immediate_response":
        assert_answer(stream, request, reply, before)
        return
    assert _PARTS[asked] == kind
    if reply.HasField("mode_override"):
        assert asked in _HEADER_PARTS
        override = reply.mode_override
        # What the operator has configured may be repeated; the sidecar itself never asks for it.
        asked_for = {override.request_body_mode, override.response_body_mode} - stream.configured
        assert _NEVER not in asked_for
        assert wire.ProcessingMode.SEND == override.request_header_mode
    if asked in _HEADER_PARTS:
        mutation = getattr(reply, asked).response.header_mutation
        names = [option.header.key for option in mutation.set_headers] + list(mutation.remove_headers)
        assert all(re.fullmatch(MAY_CHANGE, name) for name in names), names
        assert_values(mutation)


def assert_answer(
    stream: Stream, request: wire.ProcessingRequest, reply: wire.ProcessingResponse, before: Phase
) -> None:
    """Assert that an answer in Envoy's place is one that the client may get, and at a point where it may."""
    answer = reply.immediate_response
    asked = request.WhichOneof("request")
    if answer.status.code == 504:
        # RFC 9111, 5.2.1.7.
        assert b"only_if_cached" in answer.body
    else:
        assert 200 == answer.status.code
        assert (Phase.READING, "request_body") == (before, asked) or (
            (Phase.FORWARDED, "response_headers") == (before, asked)
            and any(header.raw_value in {b"429", b"500"} for header in request.response_headers.headers.headers)
        )
        assert answer.body in {ANSWER_BODY, b"".join(STREAM)} or b"[DONE]" in answer.body or b"chatcmpl" in answer.body
    assert Phase.ANSWERED is stream.exchange.phase
    assert_values(answer.headers)
    stream.is_over = True


def assert_values(mutation: wire.HeaderMutation) -> None:
    """Assert that no value could end a header early."""
    for option in mutation.set_headers:
        assert not re.search(rb"[\r\n\0]", option.header.raw_value)
        assert option.header.key == option.header.key.lower()


Sidecar.TestCase.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)


class TestProcessingRequests(Sidecar.TestCase):  # type: ignore[misc, valid-type]  # Hypothesis makes it
    """Any sequence of messages on any number of streams."""
