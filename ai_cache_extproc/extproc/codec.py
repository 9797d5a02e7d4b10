"""Wire to events, replies to wire. With the server the only room that knows Envoy's messages.

Header values go out in `raw_value` only (Envoy shows a `value` as an empty header), and only those that
Envoy takes: it answers 500 to a bad one, in spite of fail-open.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import assert_never, cast

from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import Value

from ai_cache_extproc._generated import ext_proc_pb2 as wire
from ai_cache_extproc.errors import ProtocolViolation
from ai_cache_extproc.extproc.events import (
    BodyMode,
    ConfiguredModes,
    Continue,
    Echo,
    Event,
    ExtendTimeout,
    Headers,
    Immediate,
    Metadata,
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
from ai_cache_extproc.model import NOTHING_WANTED, RequestHead, ResponseHead, Wanted
from ai_cache_extproc.telemetry.tracecontext import TRACEPARENT, TRACESTATE, read_context

METADATA_NAMESPACE = "ai_cache"
ATTRIBUTES_NAMESPACE = "envoy.filters.http.ext_proc"
ROUTE_ATTRIBUTE = "xds.route_name"
CLUSTER_ATTRIBUTE = "xds.cluster_name"

_SEND = wire.ProcessingMode.SEND
_SKIP = wire.ProcessingMode.SKIP
_APPEND = wire.HeaderValueOption.APPEND_IF_EXISTS_OR_ADD
_OVERWRITE = wire.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD

_BODY_MODES = {mode.value: mode for mode in BodyMode}

_REQUEST_FIRST = tuple(
    bytes([number << 3 | 2])
    for number in (
        wire.ProcessingRequest.REQUEST_HEADERS_FIELD_NUMBER,
        wire.ProcessingRequest.REQUEST_BODY_FIELD_NUMBER,
    )
)
"""How a message begins that shows a part of the request: the field's tag, since fields are written in their order."""
_REMEMBERED_BYTES_MAX = 4096
_TRACEPARENT = b"\x0a\x0b" + TRACEPARENT.encode() + b"\x1a\x37"
"""How a header of this name begins whose value has 55 bytes. With its line feed it is in no value of a header."""
_NO_TRACE = b"00-" + b"f" * 32 + b"-" + b"f" * 16 + b"-00"
_NO_CALLER = read_context(_NO_TRACE.decode())

# RFC 9110, 5.6.2: a token. Pseudo-headers are none, and no reply sets one.
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# Envoy refuses every control character but the tab, not only CR, LF and NUL.
_NOT_IN_A_VALUE = re.compile(r"[^\t\x20-\x7e\x80-\xff]")


def decode(message: bytes, wanted: Wanted = NOTHING_WANTED) -> Event | None:
    """Read one ProcessingRequest; None when it shows no part that is known here.

    wanted: which attributes and metadata the request's headers are to come with, of those that Envoy sent.
    Raises ProtocolViolation if the bytes are no such message.
    """
    if len(message) > _REMEMBERED_BYTES_MAX or not message.startswith(_REQUEST_FIRST):
        return _decode(message, wanted)
    at = message.find(_TRACEPARENT) if message.startswith(_REQUEST_FIRST[0]) else -1
    return _decode_remembering(message, wanted) if at < 0 else _decode_traced(message, wanted, at + len(_TRACEPARENT))


def _decode_traced(message: bytes, wanted: Wanted, at: int) -> Event | None:
    """Read headers with a trace, whose value begins at `at`. Requests that differ in nothing else are read once."""
    end = at + len(_NO_TRACE)
    if TRACESTATE.encode() in message or len(message) < end:
        return _decode(message, wanted)
    event = _decode_remembering(message[:at] + _NO_TRACE + message[end:], wanted)
    if type(event) is not RequestHeaders or event.caller != _NO_CALLER:
        # What was found is no header, so nothing may be put in its place.
        return _decode(message, wanted)
    caller = read_context(message[at:end].decode("latin-1"))
    return RequestHeaders(event.head, event.end_of_stream, event.configured, caller)


def _decode(message: bytes, wanted: Wanted) -> Event | None:
    request = wire.ProcessingRequest()
    try:
        request.ParseFromString(message)
    except DecodeError as error:
        raise ProtocolViolation(f"{len(message)} bytes that are no ProcessingRequest") from error
    match request.WhichOneof("request"):
        case "response_body":
            return ResponseBody(request.response_body.body, request.response_body.end_of_stream)
        case "request_headers":
            return _request_headers(request, wanted)
        case "request_body":
            return RequestBody(request.request_body.body, request.request_body.end_of_stream)
        case "response_headers":
            return _response_headers(request)
        case "request_trailers":
            return RequestTrailers()
        case "response_trailers":
            return ResponseTrailers()
        case _:
            return None


# What Envoy forwards of one client's headers, and of a question that is asked again, is the same bytes every time.
# Events are frozen, so that one can serve every request that it came with.
_decode_remembering = lru_cache(maxsize=1024)(_decode)


def _request_headers(request: wire.ProcessingRequest, wanted: Wanted) -> RequestHeaders:
    pseudo, fields = _fields(request.request_headers.headers)
    traceparent, tracestate = fields.pop(TRACEPARENT, ""), fields.pop(TRACESTATE, "")
    head = RequestHead(
        method=pseudo.get(":method", ""),
        path=pseudo.get(":path", ""),
        authority=pseudo.get(":authority", ""),
        headers=fields,
        route=_attribute(request, ROUTE_ATTRIBUTE),
        cluster=_attribute(request, CLUSTER_ATTRIBUTE),
    )
    if wanted is not NOTHING_WANTED:
        head = replace(head, attributes=_attributes(request, wanted), metadata=_metadata(request, wanted))
    configured = None
    if request.HasField("protocol_config"):
        modes = request.protocol_config
        configured = _configured(modes.request_body_mode, modes.response_body_mode)
    caller = read_context(traceparent, tracestate) if traceparent else None
    return RequestHeaders(head, request.request_headers.end_of_stream, configured, caller)


def _response_headers(request: wire.ProcessingRequest) -> ResponseHeaders:
    message = request.response_headers
    pseudo, fields = _fields(message.headers)
    status = pseudo.get(":status", "")
    # Anything but three digits is a status that no answer is kept for.
    known = len(status) == 3 and status.isascii() and status.isdigit()
    head = ResponseHead(int(status) if known else 0, fields, _attribute(request, CLUSTER_ATTRIBUTE))
    return ResponseHeaders(head, message.end_of_stream)


def _fields(header_map: wire.HeaderMap) -> tuple[dict[str, str], dict[str, str]]:
    """Split pseudo-headers from header fields; values as latin-1, which keeps every byte."""
    pseudo: dict[str, str] = {}
    fields: dict[str, str] = {}
    for header in header_map.headers:
        name = header.key.lower()
        value = header.raw_value.decode("latin-1") or header.value.encode().decode("latin-1")
        if name[:1] == ":":
            pseudo[name] = value
        elif name in fields:
            fields[name] = f"{fields[name]}, {value}"
        else:
            fields[name] = value
    return pseudo, fields


def _attribute(request: wire.ProcessingRequest, name: str) -> str:
    # A missing key of a protobuf map reads as an empty message.
    return request.attributes[ATTRIBUTES_NAMESPACE].fields[name].string_value


def _attributes(request: wire.ProcessingRequest, wanted: Wanted) -> dict[str, str]:
    """The attributes that have one value; numbers and switches as text."""
    fields = request.attributes[ATTRIBUTES_NAMESPACE].fields
    texts = {name: _text(_json(fields[name])) for name in wanted.attributes if name in fields}
    return {name: text for name, text in texts.items() if text is not None}


def _text(value: object) -> str | None:
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case float():
            return str(int(value)) if value.is_integer() else repr(value)
        case _:
            return None


def _metadata(request: wire.ProcessingRequest, wanted: Wanted) -> dict[str, object]:
    """What stands at the wanted places, nested as it came; all else in the namespaces is left out."""
    namespaces = request.metadata_context.filter_metadata
    found: dict[str, object] = {}
    for namespace, *path in wanted.metadata:
        if namespace not in namespaces:
            continue
        value = Value(struct_value=namespaces[namespace])
        for key in path:
            # A field of what is no mapping reads as an empty value, whose JSON is null.
            value = value.struct_value.fields[key]
        plain = _json(value)
        if plain is not None:
            _place(found, (namespace, *path), plain)
    return found


def _place(found: dict[str, object], path: tuple[str, ...], value: object) -> None:
    *above, last = path
    for key in above:
        # What was placed there by a shorter path is the mapping that this value was found in.
        found = cast("dict[str, object]", found.setdefault(key, {}))
    found[last] = value


def _json(value: Value) -> object:
    """A value as JSON has it; numbers are floats."""
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "number_value":
            return value.number_value
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return {name: _json(inner) for name, inner in value.struct_value.fields.items()}
        case "list_value":
            return [_json(inner) for inner in value.list_value.values]
        case _:
            return None


@lru_cache(maxsize=64)
def _configured(request_body: int, response_body: int) -> ConfiguredModes:
    # A mode that is unknown here is served like Envoy's GRPC mode, as full duplex: chunks go back as they came.
    full_duplex = BodyMode.FULL_DUPLEX_STREAMED
    return ConfiguredModes(
        _BODY_MODES.get(request_body, full_duplex),
        _BODY_MODES.get(response_body, full_duplex),
    )


def ignore_left_out(name: str) -> None:
    """Tell nobody."""


def encode(reply: Reply | ExtendTimeout, left_out: Callable[[str], None] = ignore_left_out) -> bytes:
    """Serialise a reply.

    A header whose name or value Envoy would refuse is left out, and `left_out` is called with its name.
    """
    match reply:
        case Continue():
            return _continue(reply, left_out)
        case Immediate():
            return _immediate(reply, left_out)
        case Echo():
            return _echo(reply)
        case ExtendTimeout():
            return _extend_timeout(reply.milliseconds)
        case _:
            assert_never(reply)


def _continue(reply: Continue, left_out: Callable[[str], None]) -> bytes:
    remove = _tokens(reply.remove_headers, left_out)
    if not (reply.set_headers or reply.append_headers or reply.metadata):
        return _constant(reply.part, remove, reply.modes)
    response = _passing(reply.part, remove, reply.modes)
    if reply.part is Part.REQUEST_HEADERS or reply.part is Part.RESPONSE_HEADERS:
        message = response.request_headers if reply.part is Part.REQUEST_HEADERS else response.response_headers
        mutation = message.response.header_mutation
        _write_headers(mutation, reply.set_headers, _OVERWRITE, left_out)
        _write_headers(mutation, reply.append_headers, _APPEND, left_out)
    if reply.metadata:
        _write_metadata(response, reply.metadata)
    return response.SerializeToString()


@lru_cache(maxsize=256)
def _constant(part: Part, remove_headers: tuple[str, ...], modes: Modes | None) -> bytes:
    return _passing(part, remove_headers, modes).SerializeToString()


def _passing(part: Part, remove_headers: tuple[str, ...], modes: Modes | None) -> wire.ProcessingResponse:
    response = wire.ProcessingResponse()
    match part:
        case Part.REQUEST_HEADERS | Part.RESPONSE_HEADERS:
            message = response.request_headers if part is Part.REQUEST_HEADERS else response.response_headers
            message.SetInParent()
            if remove_headers:
                message.response.header_mutation.remove_headers.extend(remove_headers)
            if modes is not None:
                _write_modes(response.mode_override, modes)
        case Part.REQUEST_BODY:
            response.request_body.SetInParent()
        case Part.RESPONSE_BODY:
            response.response_body.SetInParent()
        case Part.REQUEST_TRAILERS:
            response.request_trailers.SetInParent()
        case Part.RESPONSE_TRAILERS:
            response.response_trailers.SetInParent()
        case _:
            assert_never(part)
    return response


def _immediate(reply: Immediate, left_out: Callable[[str], None]) -> bytes:
    response = wire.ProcessingResponse()
    message = response.immediate_response
    message.status.code = wire.StatusCode.ValueType(reply.status)
    message.body = reply.body
    message.details = reply.details
    _write_headers(message.headers, reply.headers, _OVERWRITE, left_out)
    if reply.metadata:
        _write_metadata(response, reply.metadata)
    return response.SerializeToString()


def _echo(reply: Echo) -> bytes:
    response = wire.ProcessingResponse()
    message = response.request_body if reply.part is Part.REQUEST_BODY else response.response_body
    chunk = message.response.body_mutation.streamed_response
    chunk.SetInParent()
    chunk.body = reply.chunk
    chunk.end_of_stream = reply.end_of_stream
    return response.SerializeToString()


def _extend_timeout(milliseconds: int) -> bytes:
    response = wire.ProcessingResponse()
    response.override_message_timeout.FromMilliseconds(milliseconds)
    return response.SerializeToString()


def _write_modes(override: wire.ProcessingMode, modes: Modes) -> None:
    # DEFAULT means "as configured" for headers and trailers, while body modes have no such number:
    # every field is spelled out, so that what applies can be read here alone.
    override.request_header_mode = _SEND
    override.response_header_mode = _SEND if modes.response_headers else _SKIP
    override.request_body_mode = wire.ProcessingMode.BodySendMode.ValueType(modes.request_body)
    override.response_body_mode = wire.ProcessingMode.BodySendMode.ValueType(modes.response_body)
    override.request_trailer_mode = _SEND if modes.request_trailers else _SKIP
    override.response_trailer_mode = _SEND if modes.response_trailers else _SKIP


def _write_headers(
    mutation: wire.HeaderMutation,
    headers: Headers,
    action: wire.HeaderValueOption.HeaderAppendAction.ValueType,
    left_out: Callable[[str], None],
) -> None:
    add = mutation.set_headers.add
    for name, value in headers:
        if not (_is_token(name) and _is_value(value)):
            left_out(name)
            continue
        option = add()
        option.append_action = action
        header = option.header
        header.key = name
        header.raw_value = value.encode("latin-1")


def _tokens(names: tuple[str, ...], left_out: Callable[[str], None]) -> tuple[str, ...]:
    for name in names:
        if not _is_token(name):
            left_out(name)
    return tuple(filter(_is_token, names))


@lru_cache(maxsize=256)
def _is_token(name: str) -> bool:
    return _TOKEN.fullmatch(name) is not None


def _is_value(value: str) -> bool:
    return (value.isascii() and value.isprintable()) or _NOT_IN_A_VALUE.search(value) is None


def _write_metadata(response: wire.ProcessingResponse, metadata: Metadata) -> None:
    fields = response.dynamic_metadata.fields[METADATA_NAMESPACE].struct_value.fields
    for name, value in metadata.items():
        if isinstance(value, str):
            fields[name].string_value = value
        else:
            fields[name].number_value = value
