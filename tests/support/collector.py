"""An OpenTelemetry collector's HTTP receiver (OTLP), which keeps the spans that it is sent. On a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

WAIT_S_MAX = 20


@dataclass(frozen=True, slots=True)
class Sent:
    """A span as it arrived, with what is said of its sender."""

    span: Span
    resource: Mapping[str, object]

    @property
    def trace_id(self) -> str:
        """32 hex digits."""
        return self.span.trace_id.hex()

    @property
    def parent_id(self) -> str:
        """16 hex digits, or nothing."""
        return self.span.parent_span_id.hex()

    @property
    def attributes(self) -> Mapping[str, object]:
        """By name."""
        return _members(self.span.attributes)


@dataclass(frozen=True, slots=True)
class Post:
    """One request."""

    path: str
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


class Collector:
    """A context manager. status: what every batch is answered; hang_s: how long it waits before that."""

    def __init__(self, *, status: int = 200, hang_s: float = 0) -> None:
        self.posts: list[Post] = []
        self._status = status
        self._hang = threading.Event()
        self._hang_s = hang_s
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def url(self) -> str:
        """The endpoint, without a path."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def spans(self) -> list[Sent]:
        """All spans so far, in the order of their ends."""
        found: list[Sent] = []
        for post in list(self.posts):
            request = ExportTraceServiceRequest.FromString(post.body)
            for sender in request.resource_spans:
                resource = _members(sender.resource.attributes)
                found += [Sent(span, resource) for scope in sender.scope_spans for span in scope.spans]
        return found

    def wait_for(self, count: int) -> list[Sent]:
        """The spans, once there are so many."""
        give_up = time.monotonic() + WAIT_S_MAX
        while len(spans := self.spans) < count:
            assert time.monotonic() < give_up, f"{len(spans)} spans of {count}"
            time.sleep(0.01)
        return spans

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hang.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                collector.posts.append(Post(self.path, headers, body))
                collector._hang.wait(collector._hang_s)
                self.send_response(collector._status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *words: object) -> None:
                """Nothing is written."""

        return Handler


def _members(pairs: Iterable[KeyValue]) -> dict[str, object]:
    members: dict[str, object] = {}
    for pair in pairs:
        kind = pair.value.WhichOneof("value")
        members[pair.key] = None if kind is None else getattr(pair.value, kind)
    return members
