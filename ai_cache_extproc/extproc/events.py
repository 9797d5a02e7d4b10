"""What Envoy told us (events) and what we tell Envoy (replies). Frozen, no protobuf, no I/O."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum

from ai_cache_extproc.model import RequestHead, ResponseHead
from ai_cache_extproc.telemetry.tracecontext import TraceContext


class Part(StrEnum):
    """The parts of an exchange that Envoy shows, in the order in which they pass."""

    REQUEST_HEADERS = "request headers"
    REQUEST_BODY = "request body"
    REQUEST_TRAILERS = "request trailers"
    RESPONSE_HEADERS = "response headers"
    RESPONSE_BODY = "response body"
    RESPONSE_TRAILERS = "response trailers"


class BodyMode(IntEnum):
    """How Envoy sends a body (`ProcessingMode.BodySendMode`, same numbers)."""

    NONE = 0
    STREAMED = 1
    BUFFERED = 2
    BUFFERED_PARTIAL = 3
    FULL_DUPLEX_STREAMED = 4


@dataclass(frozen=True, slots=True)
class Modes:
    """A `mode_override`. Envoy has no "unchanged" for body modes, so all six fields always travel.

    Request headers have been sent by then; their field repeats SEND.
    """

    request_body: BodyMode = BodyMode.NONE
    request_trailers: bool = False
    response_headers: bool = False
    response_body: BodyMode = BodyMode.NONE
    response_trailers: bool = False


@dataclass(frozen=True, slots=True)
class ConfiguredModes:
    """The body modes that the operator wrote into the filter (`protocol_config`, first message only)."""

    request_body: BodyMode = BodyMode.NONE
    response_body: BodyMode = BodyMode.NONE


@dataclass(frozen=True, slots=True)
class RequestHeaders:
    """`configured` is None where Envoy sent no protocol_config (before 1.34).

    caller: the trace that the request belongs to. Its headers are left out of the head, which is looked up by others.
    """

    head: RequestHead
    end_of_stream: bool
    configured: ConfiguredModes | None = None
    caller: TraceContext | None = None

    part = Part.REQUEST_HEADERS


@dataclass(frozen=True, slots=True)
class RequestBody:
    """In BUFFERED modes the whole body at once; end_of_stream=False then means it is cut at Envoy's limit."""

    chunk: bytes
    end_of_stream: bool

    part = Part.REQUEST_BODY


@dataclass(frozen=True, slots=True)
class RequestTrailers:
    """The request ended with trailers; the body before them was not marked as ended."""

    part = Part.REQUEST_TRAILERS


@dataclass(frozen=True, slots=True)
class ResponseHeaders:
    """end_of_stream: an answer without a body (204, HEAD, content-length 0)."""

    head: ResponseHead
    end_of_stream: bool

    part = Part.RESPONSE_HEADERS


@dataclass(frozen=True, slots=True)
class ResponseBody:
    """One chunk as the upstream sent it; an end of its own often comes as an empty chunk."""

    chunk: bytes
    end_of_stream: bool

    part = Part.RESPONSE_BODY


@dataclass(frozen=True, slots=True)
class ResponseTrailers:
    """The answer ended with trailers; no chunk before them was marked as the last."""

    part = Part.RESPONSE_TRAILERS


Event = RequestHeaders | RequestBody | RequestTrailers | ResponseHeaders | ResponseBody | ResponseTrailers

Headers = tuple[tuple[str, str], ...]
Metadata = Mapping[str, str | int | float]
"""Dynamic metadata under the namespace `ai_cache`."""


@dataclass(frozen=True, slots=True)
class Continue:
    """Let this part pass. set_headers overwrite; append_headers add a field (`Cache-Status`).

    Headers and `modes` are only meaningful for the two headers parts.
    """

    part: Part
    set_headers: Headers = ()
    append_headers: Headers = ()
    remove_headers: tuple[str, ...] = ()
    modes: Modes | None = None
    metadata: Metadata | None = None


@dataclass(frozen=True, slots=True)
class Immediate:
    """Answer the client in the upstream's place. details shows as %RESPONSE_CODE_DETAILS%."""

    status: int
    headers: Headers
    body: bytes
    details: str
    metadata: Metadata | None = None


@dataclass(frozen=True, slots=True)
class Echo:
    """Give a FULL_DUPLEX_STREAMED chunk back as it came."""

    part: Part
    chunk: bytes
    end_of_stream: bool


@dataclass(frozen=True, slots=True)
class ExtendTimeout:
    """`override_message_timeout`, alone in its message; Envoy takes one per part. milliseconds: at least 1."""

    milliseconds: int


Reply = Continue | Immediate | Echo


@dataclass(frozen=True, slots=True)
class Pending:
    """The reply takes a lookup. `first` is sent before `finish` is awaited."""

    first: ExtendTimeout | None
    finish: Callable[[], Awaitable[Reply | Pending]]
