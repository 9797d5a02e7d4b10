"""What our codec reads and writes, checked with Envoy's full messages in the place of Envoy."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

import betterproto2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ai_cache_extproc._generated import ext_proc_pb2 as wire
from ai_cache_extproc.extproc.codec import decode, encode
from ai_cache_extproc.extproc.events import (
    BodyMode,
    Continue,
    Echo,
    ExtendTimeout,
    Headers,
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
from tests.property.envoy_messages import content_of_full, full, full_class, make

# Some of Envoy's fields are deprecated, and setting them says so.
pytestmark = pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")

REQUEST = "envoy.service.ext_proc.v3.ProcessingRequest"
RESPONSE = "envoy.service.ext_proc.v3.ProcessingResponse"
HTTP_HEADERS = "envoy.service.ext_proc.v3.HttpHeaders"
CONFIGURED = "envoy.service.ext_proc.v3.ProtocolConfiguration"

HEADER_NAMES = st.sampled_from(
    [":method", ":path", ":authority", ":scheme", ":status", "accept", "Accept", "cookie", "x-a", "", "host"]
)
HEADERS = st.lists(
    st.builds(lambda name, value: (name, value), HEADER_NAMES, st.binary(max_size=8) | st.sampled_from([b"200", b"7"])),
    max_size=8,
)


def header_map(headers: list[tuple[str, bytes]]) -> betterproto2.Message:
    """Headers as Envoy sends them."""
    return make(
        "envoy.config.core.v3.HeaderMap",
        headers=[make("envoy.config.core.v3.HeaderValue", key=n, raw_value=v) for n, v in headers],
    )


def joined(headers: list[tuple[str, bytes]], name: str) -> str | None:
    """All values of one field, in order."""
    values = [value.decode("latin-1") for key, value in headers if key.lower() == name]
    return ", ".join(values) if values else None


@given(HEADERS, st.booleans(), st.none() | st.tuples(st.integers(0, 5), st.integers(0, 5)), st.text(max_size=5))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_request_headers_become_their_event(
    headers: list[tuple[str, bytes]], end: bool, modes: tuple[int, int] | None, route: str
) -> None:
    """Pseudo-headers, fields, route and configured modes of Envoy's message stand in the event, and nothing else."""
    struct = full_class("google.protobuf.Struct").from_dict({"xds.route_name": route})
    message = make(
        REQUEST,
        request_headers=make(HTTP_HEADERS, headers=header_map(headers), end_of_stream=end),
        attributes={"envoy.filters.http.ext_proc": struct},
        protocol_config=None
        if modes is None
        else make(CONFIGURED, request_body_mode=modes[0], response_body_mode=modes[1]),
    )
    event = decode(bytes(message))
    assert isinstance(event, RequestHeaders)
    names = {name.lower() for name, _ in headers if not name.startswith(":")}
    assert {name: joined(headers, name) for name in names} == event.head.headers
    last = {name: value.decode("latin-1") for name, value in headers}
    expected = (*(last.get(name, "") for name in (":method", ":path", ":authority")), route, end)
    assert expected == (event.head.method, event.head.path, event.head.authority, event.head.route, event.end_of_stream)
    if modes is None:
        assert event.configured is None
    else:
        assert event.configured is not None
        assert tuple(min(mode, 4) for mode in modes) == (event.configured.request_body, event.configured.response_body)


@given(full(full_class(REQUEST)))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_request_becomes_the_event_of_its_part(message: betterproto2.Message) -> None:
    """Bodies keep their bytes and their end; a message without a part is no event."""
    field, content = betterproto2.which_one_of(message, "request")
    event = decode(bytes(message))
    if not field:
        assert event is None
        return
    assert event is not None
    assert field == event.part.value.replace(" ", "_")
    if isinstance(event, RequestBody | ResponseBody):
        assert content is not None
        assert (content.body, content.end_of_stream) == (event.chunk, event.end_of_stream)
    elif isinstance(event, RequestHeaders | ResponseHeaders):
        assert content is not None
        assert content.end_of_stream == event.end_of_stream
    else:
        assert isinstance(event, RequestTrailers | ResponseTrailers)


@given(HEADERS)
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_response_headers_become_their_event(headers: list[tuple[str, bytes]]) -> None:
    """A status that is no number of three digits is 0, and nothing is raised."""
    event = decode(bytes(make(REQUEST, response_headers=make(HTTP_HEADERS, headers=header_map(headers)))))
    assert isinstance(event, ResponseHeaders)
    status = dict(headers).get(":status", b"")
    assert (
        200 if status == b"200" else int(status) if status.isdigit() and len(status) == 3 else 0
    ) == event.head.status


TOKENS = st.text(st.sampled_from("abcxyz-09"), min_size=1, max_size=6)
GOOD_VALUES = st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]) | st.just("\t"), max_size=8)
REPLY_HEADERS = st.lists(st.tuples(TOKENS, GOOD_VALUES), max_size=3).map(tuple)
METADATA = st.none() | st.dictionaries(
    st.text(max_size=6),
    st.text(max_size=6) | st.integers(-(2**50), 2**50) | st.floats(allow_nan=False, allow_infinity=False),
    max_size=3,
)
REPLIES: st.SearchStrategy[Reply | ExtendTimeout] = st.one_of(
    st.builds(
        Continue,
        st.sampled_from(Part),
        set_headers=REPLY_HEADERS,
        append_headers=REPLY_HEADERS,
        remove_headers=st.lists(TOKENS, max_size=2).map(tuple),
        modes=st.none()
        | st.builds(
            Modes, st.sampled_from(BodyMode), st.booleans(), st.booleans(), st.sampled_from(BodyMode), st.booleans()
        ),
        metadata=METADATA,
    ),
    st.builds(
        Immediate,
        st.sampled_from([200, 404, 503]),
        REPLY_HEADERS,
        st.binary(max_size=30),
        st.text(max_size=6),
        METADATA,
    ),
    st.builds(Echo, st.sampled_from([Part.REQUEST_BODY, Part.RESPONSE_BODY]), st.binary(max_size=30), st.booleans()),
    st.builds(ExtendTimeout, st.integers(1, 10**7)),
)


@given(REPLIES)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_reply_is_read_by_envoys_messages(reply: Reply | ExtendTimeout) -> None:
    """What we write means to Envoy what the reply says."""
    message = full_class(RESPONSE).parse(encode(reply))
    assert expected_content(reply) == content_of_full(message, wire.ProcessingResponse.DESCRIPTOR)
    # Nothing is there that Envoy does not know.
    assert encode(reply) == bytes(message)


def expected_content(reply: Reply | ExtendTimeout) -> dict[str, object]:
    """The message that a reply stands for, field by field."""
    content: dict[str, object] = {}
    match reply:
        case ExtendTimeout():
            return {"override_message_timeout": dt.timedelta(milliseconds=reply.milliseconds)}
        case Echo():
            chunk = _without_zeros({"body": reply.chunk, "end_of_stream": reply.end_of_stream})
            field = reply.part.value.replace(" ", "_")
            return {field: {"response": {"body_mutation": {"streamed_response": chunk}}}}
        case Immediate():
            content["immediate_response"] = {
                "status": {"code": reply.status},
                **_without_zeros({"body": reply.body, "details": reply.details}),
                **({"headers": {"set_headers": _options(reply.headers, 2)}} if reply.headers else {}),
            }
        case Continue():
            content[reply.part.value.replace(" ", "_")] = _common(reply)
            if reply.modes is not None and reply.part.value.endswith("headers"):
                content["mode_override"] = _modes(reply.modes)
    if reply.metadata:
        content["dynamic_metadata"] = {"ai_cache": dict(reply.metadata)}
    return content


def _common(reply: Continue) -> dict[str, object]:
    if not reply.part.value.endswith("headers"):
        return {}
    options = _options(reply.set_headers, 2) + _options(reply.append_headers, 0)
    mutation = _without_zeros({"set_headers": options, "remove_headers": list(reply.remove_headers)})
    return {"response": {"header_mutation": mutation}} if mutation else {}


def _options(headers: Headers, action: int) -> list[dict[str, object]]:
    return [
        {
            "header": _without_zeros({"key": name, "raw_value": value.encode("latin-1")}),
            **_without_zeros({"append_action": action}),
        }
        for name, value in headers
    ]


def _modes(modes: Modes) -> dict[str, object]:
    flags = {
        "request_header_mode": True,
        "response_header_mode": modes.response_headers,
        "request_trailer_mode": modes.request_trailers,
        "response_trailer_mode": modes.response_trailers,
    }
    bodies = {"request_body_mode": int(modes.request_body), "response_body_mode": int(modes.response_body)}
    return {name: 1 if sent else 2 for name, sent in flags.items()} | _without_zeros(bodies)


def _without_zeros(content: Mapping[str, object]) -> dict[str, object]:
    """Proto3 does not send a field that is zero."""
    return {name: value for name, value in content.items() if value}
