"""The codec's own decisions: what it makes of odd messages, what it leaves out, what it serialises once."""

from __future__ import annotations

import pytest

from ai_cache_extproc._generated import ext_proc_pb2 as wire
from ai_cache_extproc.errors import ProtocolViolation
from ai_cache_extproc.extproc.codec import decode, encode
from ai_cache_extproc.extproc.events import (
    BodyMode,
    ConfiguredModes,
    Continue,
    Echo,
    Event,
    ExtendTimeout,
    Immediate,
    Modes,
    Part,
    Reply,
    RequestBody,
    RequestHeaders,
    RequestTrailers,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
)
from ai_cache_extproc.model import RequestHead, ResponseHead


def read(reply: Reply | ExtendTimeout) -> wire.ProcessingResponse:
    """What Envoy reads."""
    return wire.ProcessingResponse.FromString(encode(reply))


def event_of(message: wire.ProcessingRequest) -> Event | None:
    """What we read."""
    return decode(message.SerializeToString())


def headers_message(*headers: tuple[str, bytes]) -> wire.HttpHeaders:
    """Headers as Envoy sends them: names in lower case, values raw."""
    return wire.HttpHeaders(
        headers=wire.HeaderMap(headers=[wire.HeaderValue(key=name, raw_value=value) for name, value in headers])
    )


def status_of(*values: bytes) -> int:
    """The status that is read from these `:status` fields."""
    event = event_of(
        wire.ProcessingRequest(response_headers=headers_message(*((":status", value) for value in values)))
    )
    assert isinstance(event, ResponseHeaders)
    return event.head.status


def test_request_headers_are_split_and_joined() -> None:
    """Pseudo-headers leave the fields, repeated fields become one, values keep every byte."""
    message = wire.ProcessingRequest(
        request_headers=headers_message(
            (":method", b"POST"),
            (":scheme", b"https"),
            (":path", b"/v1/chat/completions?a=b"),
            (":authority", b"llm.test:8080"),
            ("accept", b"text/event-stream"),
            ("X-Mixed", b"caf\xe9"),
            ("accept", b"application/json"),
            ("x-empty", b""),
        )
    )
    fields = {"accept": "text/event-stream, application/json", "x-mixed": "caf\xe9", "x-empty": ""}
    head = RequestHead("POST", "/v1/chat/completions?a=b", "llm.test:8080", fields)
    assert RequestHeaders(head, end_of_stream=False) == event_of(message)


def test_a_header_may_come_in_value_instead_of_raw_value() -> None:
    """Envoy fills one of the two; both mean the same bytes."""
    message = wire.ProcessingRequest()
    message.request_headers.headers.headers.add(key="x-user", value="caf\u00e9")
    raw = wire.ProcessingRequest(request_headers=headers_message(("x-user", "caf\u00e9".encode())))
    assert event_of(raw) == event_of(message)


def test_headers_without_anything_are_an_event() -> None:
    """An empty head stands for a request that no rule and no dialect can match."""
    message = wire.ProcessingRequest(request_headers=wire.HttpHeaders(end_of_stream=True))
    assert RequestHeaders(RequestHead("", "", "", {}), end_of_stream=True) == event_of(message)


def test_the_route_is_read_from_the_filters_attributes() -> None:
    """Only the attribute of that name, of that filter, is the route."""
    message = wire.ProcessingRequest(request_headers=wire.HttpHeaders())
    routes = []
    for namespace, name in (
        ("another.filter", "xds.route_name"),
        ("envoy.filters.http.ext_proc", "xds.cluster_name"),
        ("envoy.filters.http.ext_proc", "xds.route_name"),
    ):
        message.attributes[namespace].fields[name].string_value = name
        event = event_of(message)
        assert isinstance(event, RequestHeaders)
        routes.append(event.head.route)
    assert ["", "", "xds.route_name"] == routes


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (0, BodyMode.NONE),
        (1, BodyMode.STREAMED),
        (2, BodyMode.BUFFERED),
        (3, BodyMode.BUFFERED_PARTIAL),
        (4, BodyMode.FULL_DUPLEX_STREAMED),
        (5, BodyMode.FULL_DUPLEX_STREAMED),
        (77, BodyMode.FULL_DUPLEX_STREAMED),
        (-1, BodyMode.FULL_DUPLEX_STREAMED),
    ],
)
def test_configured_modes_are_read(number: int, expected: BodyMode) -> None:
    """A mode that is not known here is served as full duplex: its chunks are given back as they came."""
    mode = wire.ProcessingMode.BodySendMode.ValueType(number)
    message = wire.ProcessingRequest(
        request_headers=wire.HttpHeaders(),
        protocol_config=wire.ProtocolConfiguration(request_body_mode=mode, response_body_mode=mode),
    )
    event = event_of(message)
    assert isinstance(event, RequestHeaders)
    assert ConfiguredModes(expected, expected) == event.configured


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([b"200"], 200),
        ([b"503"], 503),
        ([], 0),
        ([b""], 0),
        ([b"20"], 0),
        ([b"2000"], 0),
        ([b"2e2"], 0),
        ([b"-20"], 0),
        ([b"\xb2\xb2\xb2"], 0),
        ([b" 20"], 0),
    ],
)
def test_a_status_is_three_digits_or_nothing(values: list[bytes], expected: int) -> None:
    """An answer whose status cannot be read has status 0, which is never kept."""
    assert expected == status_of(*values)


def test_response_headers_are_read() -> None:
    """The answer's fields, and whether a body follows."""
    message = wire.ProcessingRequest(response_headers=headers_message((":status", b"204"), ("x-a", b"1")))
    message.response_headers.end_of_stream = True
    assert ResponseHeaders(ResponseHead(204, {"x-a": "1"}), end_of_stream=True) == event_of(message)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (wire.ProcessingRequest(request_body=wire.HttpBody(body=b"\0\xff")), RequestBody(b"\0\xff", False)),
        (wire.ProcessingRequest(request_body=wire.HttpBody(end_of_stream=True)), RequestBody(b"", True)),
        (wire.ProcessingRequest(response_body=wire.HttpBody(body=b"x")), ResponseBody(b"x", False)),
        (wire.ProcessingRequest(response_body=wire.HttpBody(body=b"x", end_of_stream=True)), ResponseBody(b"x", True)),
        (wire.ProcessingRequest(request_trailers=wire.HttpTrailers()), RequestTrailers()),
        (wire.ProcessingRequest(response_trailers=wire.HttpTrailers()), ResponseTrailers()),
        (wire.ProcessingRequest(), None),
    ],
)
def test_bodies_and_trailers_are_read(message: wire.ProcessingRequest, expected: Event | None) -> None:
    """Bytes as they are, the end as it is said; no part is no event."""
    assert expected == event_of(message)


@pytest.mark.parametrize("message", [b"\xff", b"\x12\x05\x00", b"\x12\x06\x0a\x04\x0a\x02\xff\xfe"])
def test_bytes_that_are_no_message_are_refused(message: bytes) -> None:
    """The text says how long they were and nothing of what they were."""
    with pytest.raises(ProtocolViolation, match=f"^{len(message)} bytes that are no ProcessingRequest$"):
        decode(message)


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (Part.REQUEST_HEADERS, b"\x0a\x00"),
        (Part.RESPONSE_HEADERS, b"\x12\x00"),
        (Part.REQUEST_BODY, b"\x1a\x00"),
        (Part.RESPONSE_BODY, b"\x22\x00"),
        (Part.REQUEST_TRAILERS, b"\x2a\x00"),
        (Part.RESPONSE_TRAILERS, b"\x32\x00"),
    ],
)
def test_a_plain_acknowledgement_is_two_bytes_serialised_once(part: Part, expected: bytes) -> None:
    """The same object serves every chunk of every stream."""
    assert expected == encode(Continue(part))
    assert encode(Continue(part)) is encode(Continue(part))


def test_a_reply_with_modes_is_serialised_once() -> None:
    """The reply to request headers is the same for every LLM call."""
    modes = Modes(request_body=BodyMode.BUFFERED_PARTIAL, response_headers=True)
    first, second = (
        encode(Continue(Part.REQUEST_HEADERS, remove_headers=("accept-encoding",), modes=modes)) for _ in range(2)
    )
    assert first is second
    reply = wire.ProcessingResponse.FromString(first)
    assert ["accept-encoding"] == reply.request_headers.response.header_mutation.remove_headers


def test_a_mode_override_says_all_six() -> None:
    """Headers and trailers are SEND or SKIP, never DEFAULT; bodies have no unchanged value anyway."""
    mode = wire.ProcessingMode
    override = read(Continue(Part.REQUEST_HEADERS, modes=Modes(BodyMode.BUFFERED_PARTIAL, response_headers=True)))
    expected = mode(
        request_header_mode=mode.SEND,
        response_header_mode=mode.SEND,
        request_body_mode=mode.BUFFERED_PARTIAL,
        response_body_mode=mode.NONE,
        request_trailer_mode=mode.SKIP,
        response_trailer_mode=mode.SKIP,
    )
    assert expected == override.mode_override
    override = read(
        Continue(
            Part.RESPONSE_HEADERS,
            modes=Modes(request_trailers=True, response_body=BodyMode.STREAMED, response_trailers=True),
        )
    )
    expected = mode(
        request_header_mode=mode.SEND,
        response_header_mode=mode.SKIP,
        request_body_mode=mode.NONE,
        response_body_mode=mode.STREAMED,
        request_trailer_mode=mode.SEND,
        response_trailer_mode=mode.SEND,
    )
    assert expected == override.mode_override


def test_headers_are_set_appended_and_removed() -> None:
    """Set overwrites, append adds a field; both travel in raw_value alone."""
    reply = Continue(
        Part.RESPONSE_HEADERS,
        set_headers=(("x-ai-cache-status", "MISS"),),
        append_headers=(("cache-status", 'ai-cache; detail="caf\xe9"'),),
        remove_headers=("x-a",),
        metadata={"result": "miss", "lookup_ms": 1.5, "age_s": 3},
    )
    message = read(reply)
    mutation = message.response_headers.response.header_mutation
    action = wire.HeaderValueOption
    assert [
        ("x-ai-cache-status", "", b"MISS", action.OVERWRITE_IF_EXISTS_OR_ADD),
        ("cache-status", "", b'ai-cache; detail="caf\xe9"', action.APPEND_IF_EXISTS_OR_ADD),
    ] == [(o.header.key, o.header.value, o.header.raw_value, o.append_action) for o in mutation.set_headers]
    assert ["x-a"] == mutation.remove_headers
    fields = message.dynamic_metadata.fields
    assert ["ai_cache"] == list(fields)
    shown = {
        name: value.string_value or value.number_value for name, value in fields["ai_cache"].struct_value.fields.items()
    }
    assert {"result": "miss", "lookup_ms": 1.5, "age_s": 3.0} == shown


@pytest.mark.parametrize("part", [part for part in Part if not part.value.endswith("headers")])
def test_headers_and_modes_stay_out_of_other_parts(part: Part) -> None:
    """A body or trailers reply carries metadata and nothing else."""
    reply = Continue(
        part,
        set_headers=(("a", "b"),),
        append_headers=(("c", "d"),),
        remove_headers=("e",),
        modes=Modes(),
        metadata={"reason": "cut"},
    )
    expected = wire.ProcessingResponse.FromString(encode(Continue(part)))
    expected.dynamic_metadata.fields["ai_cache"].struct_value.fields["reason"].string_value = "cut"
    assert expected == read(reply)


def test_an_immediate_response_is_whole() -> None:
    """Status, headers, body, details and metadata."""
    message = read(
        Immediate(200, (("content-type", "application/json"), ("age", "7")), b"{}", "ai-cache.hit", {"result": "hit"})
    )
    answer = message.immediate_response
    assert (200, b"{}", "ai-cache.hit") == (answer.status.code, answer.body, answer.details)
    assert [("content-type", b"application/json", 2), ("age", b"7", 2)] == [
        (option.header.key, option.header.raw_value, option.append_action) for option in answer.headers.set_headers
    ]
    assert "hit" == message.dynamic_metadata.fields["ai_cache"].struct_value.fields["result"].string_value


def test_an_immediate_response_needs_no_metadata() -> None:
    """Without metadata none is sent."""
    assert not read(Immediate(503, (), b"", "ai-cache.stale")).HasField("dynamic_metadata")


GOOD_VALUES = ["", "a", "a\tb", "caf\xe9", "\xa0", " a "]
BAD_VALUES = ["a\r\nb: c", "a\rb", "a\nb", "a\0b", "a\x1bb", "a\x7fb", "a\u0100", "\u20ac", "\ud800"]
BAD_NAMES = ["", "a b", "a:b", ":path", "a\r\nb", "a\0b", "caf\xe9", "\u20ac"]


@pytest.mark.parametrize("value", GOOD_VALUES)
def test_values_that_envoy_takes_are_sent(value: str) -> None:
    """Any byte but control characters, and the tab among them."""
    answer = read(Immediate(200, (("x-a", value),), b"", "")).immediate_response
    assert [value.encode("latin-1")] == [option.header.raw_value for option in answer.headers.set_headers]


@pytest.mark.parametrize(
    ("name", "value"), [*(("x-bad", value) for value in BAD_VALUES), *((name, "value") for name in BAD_NAMES)]
)
def test_a_header_that_envoy_refuses_is_left_out(name: str, value: str) -> None:
    """The others still go, in every place where headers go, and the caller hears the name."""
    headers = (("x-first", "1"), (name, value), ("x-last", "2"))
    for reply in (
        Immediate(200, headers, b"", ""),
        Continue(Part.REQUEST_HEADERS, set_headers=headers),
        Continue(Part.RESPONSE_HEADERS, append_headers=headers),
    ):
        heard: list[str] = []
        message = wire.ProcessingResponse.FromString(encode(reply, heard.append))
        mutations = (
            message.immediate_response.headers,
            message.request_headers.response.header_mutation,
            message.response_headers.response.header_mutation,
        )
        assert ["x-first", "x-last"] == [o.header.key for mutation in mutations for o in mutation.set_headers]
        assert [name] == heard
        assert encode(reply) == message.SerializeToString()


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_envoy_refuses_is_not_removed(name: str) -> None:
    """Envoy answers 500 to a bad name in remove_headers as well."""
    heard: list[str] = []
    reply = Continue(Part.REQUEST_HEADERS, remove_headers=("x-a", name))
    message = wire.ProcessingResponse.FromString(encode(reply, heard.append))
    assert ["x-a"] == message.request_headers.response.header_mutation.remove_headers
    assert [name] == heard


@pytest.mark.parametrize("part", [Part.REQUEST_BODY, Part.RESPONSE_BODY])
@pytest.mark.parametrize(("chunk", "end"), [(b"chunk", False), (b"", True), (b"", False)])
def test_an_echo_gives_the_chunk_back(part: Part, chunk: bytes, end: bool) -> None:
    """Also an empty one: Envoy waits for the very chunks that it sent."""
    message = read(Echo(part, chunk, end))
    body = message.request_body if part is Part.REQUEST_BODY else message.response_body
    assert part.value.replace(" ", "_") == message.WhichOneof("response")
    assert "streamed_response" == body.response.body_mutation.WhichOneof("mutation")
    assert wire.StreamedBodyResponse(body=chunk, end_of_stream=end) == body.response.body_mutation.streamed_response


@pytest.mark.parametrize(("milliseconds", "seconds", "nanos"), [(1, 0, 1_000_000), (5_250, 5, 250_000_000)])
def test_a_timeout_travels_alone(milliseconds: int, seconds: int, nanos: int) -> None:
    """Envoy takes it only from a message that holds nothing else."""
    message = read(ExtendTimeout(milliseconds))
    assert ["override_message_timeout"] == [field.name for field, _ in message.ListFields()]
    assert (seconds, nanos) == (message.override_message_timeout.seconds, message.override_message_timeout.nanos)
