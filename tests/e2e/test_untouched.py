"""Whatever is no answer of ours has the same status, headers and bytes as without the filter."""

from __future__ import annotations

import gzip
import json
import socket
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.gateway import Gateway
from tests.support.upstream import Answering, Received, Script, answer, chat, completion, completion_frames, stream
from tests.support.wire import Answered, chunked, converse, request

MIB = 1024 * 1024
CHAT = ("content-type: application/json", "authorization: Bearer k")


def question(size: int = 10, **members: object) -> bytes:
    """A chat completion's body with a message of `size` characters."""
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": "x" * size}]} | members).encode()


def echo_size(received: Received) -> Script:
    """Say how many bytes arrived and what they hash to."""
    return answer(json.dumps({"bytes": len(received.body), "hash": hash(received.body)}).encode())


def no_content(_: Received) -> Script:
    """An answer without a body."""
    return [b"HTTP/1.1 204 No Content\r\nx-from: upstream\r\n\r\n"]


def compressed(_: Received) -> Script:
    """Compress without being asked."""
    return answer(gzip.compress(completion(), mtime=0), headers=[("content-encoding", "gzip")])


def with_trailers(_: Received) -> Script:
    """A stream that ends in trailers."""
    return stream(completion_frames(), trailers=[("x-checksum", "abc")])


def failing(_: Received) -> Script:
    """An error of the upstream's own."""
    return answer(b'{"error":{"message":"overloaded"}}', status="503 Service Unavailable")


def strange(_: Received) -> Script:
    """A status and type that nobody expects."""
    return answer(b"<h1>teapot</h1>", status="418 I'm a teapot", content_type="text/html", headers=[("x-odd", "\xe9")])


@dataclass(frozen=True)
class Case:
    """A request and an upstream; label: what our header says of it, None where the sidecar must say nothing."""

    sent: bytes
    answering: Answering = chat
    label: str | None = None
    status: int = 200


CASES = {
    "get": Case(request(1, method="GET", path="/v1/models", sized=False), echo_size),
    "get on the chat path": Case(request(1, method="GET", sized=False), echo_size),
    "head": Case(request(1, method="HEAD", path="/v1/models", sized=False), echo_size),
    "other json": Case(request(1, path="/v1/audio/speech", body=question()), echo_size),
    "outside the routes": Case(request(1, path="/health", body=question()), echo_size),
    "50 MB upload": Case(
        request(1, path="/v1/files", body=b"x" * (50 * MIB), headers=("content-type: multipart/form-data",)), echo_size
    ),
    "20 MB chat": Case(request(1, body=question(20 * MIB)), echo_size, "BYPASS request_too_large"),
    "20 MB chat in chunks": Case(
        request(
            1,
            body=chunked(question(20 * MIB), 64 * 1024),
            sized=False,
            headers=(*CHAT, "transfer-encoding: chunked"),
        ),
        echo_size,
        "BYPASS request_too_large",
    ),
    "6 MB chat in chunks": Case(
        request(
            1,
            body=chunked(question(6 * MIB), 64 * 1024),
            sized=False,
            headers=(*CHAT, "transfer-encoding: chunked"),
        ),
        echo_size,
        "BYPASS request_too_large",
    ),
    "broken json": Case(request(1, body=b'{"model": "m", "messages": ['), echo_size, "BYPASS not_json"),
    "brackets": Case(request(1, body=b"[" * 100_000), echo_size, "BYPASS too_deep"),
    "empty chunked body": Case(
        request(
            1,
            body=b"0\r\n\r\n",
            sized=False,
            headers=(*CHAT, "transfer-encoding: chunked"),
        ),
        echo_size,
        "BYPASS not_json",
    ),
    "no body": Case(request(1), echo_size),
    "compressed request": Case(
        request(
            1,
            body=gzip.compress(question(), mtime=0),
            headers=(*CHAT, "content-encoding: gzip"),
        ),
        echo_size,
        "BYPASS request_encoded",
    ),
    "compressed unasked": Case(request(1, body=question(11)), compressed, "MISS answer_encoded"),
    "no content": Case(request(1, body=question(12)), no_content, "MISS status", 204),
    "answer with trailers": Case(request(1, body=question(13, stream=True)), with_trailers, "MISS"),
    "upstream 503": Case(request(1, body=question(14)), failing, "MISS status", 503),
    "teapot": Case(request(1, body=question(15)), strange, "MISS status", 418),
    "no credential": Case(
        request(1, body=question(16), headers=("content-type: application/json",)), chat, "BYPASS no_credential"
    ),
    "skip header": Case(
        request(
            1,
            body=question(17),
            headers=(*CHAT, "x-higress-skip-ai-cache: on"),
        ),
        chat,
        "BYPASS skip_header",
    ),
    "miss": Case(request(1, body=question(18)), chat, "MISS"),
    "stream miss": Case(request(1, body=question(19, stream=True)), chat, "MISS"),
}


def said(answered: Answered) -> str | None:
    """Our own words on an answer."""
    status, reason = answered.field("x-ai-cache-status"), answered.field("x-ai-cache-reason")
    return f"{status} {reason}" if reason else status


@pytest.mark.parametrize("name", CASES)
def test_same_as_without_the_filter(gateway: Gateway, name: str) -> None:
    """The answer with the filter is the answer without it, and the upstream got the same request."""
    case = CASES[name]
    gateway.upstream.fresh(case.answering)
    faults = gateway.envoy_stat("ext_proc.ai_cache.failure_mode_allowed$")
    plain = converse(gateway.plain_port, case.sent)
    filtered = converse(gateway.port, case.sent)
    assert case.status == filtered.code
    assert plain.compared() == filtered.compared()
    assert case.label == said(filtered)
    first, second = gateway.upstream.received
    assert (first.line, first.body) == (second.line, second.body)
    assert faults == gateway.envoy_stat("ext_proc.ai_cache.failure_mode_allowed$")


def test_requests_keep_their_headers(gateway: Gateway) -> None:
    """On the way upstream a question loses its accept-encoding and nothing else."""
    gateway.upstream.fresh()
    sent = request(
        1,
        body=question(20),
        headers=(*CHAT, "accept-encoding: gzip", "x-mine: 1"),
    )
    converse(gateway.plain_port, sent)
    converse(gateway.port, sent)
    plain, filtered = (
        {k: v for k, v in each.headers.items() if k != "x-request-id"} for each in gateway.upstream.received
    )
    assert "gzip" == plain.pop("accept-encoding")
    assert plain == filtered


def switching(received: Received) -> Script:
    """Accept a WebSocket upgrade."""
    assert "websocket" == received.headers["upgrade"]
    return [b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\r\n"]


@pytest.mark.parametrize("path", ["/v1/realtime", "/v1/chat/completions"])
def test_websockets_pass(gateway: Gateway, path: str) -> None:
    """An upgraded connection carries bytes both ways, also on a path that the sidecar knows."""
    gateway.upstream.fresh(switching)
    lines = (
        f"GET {path} HTTP/1.1",
        "host: x",
        "connection: Upgrade",
        "upgrade: websocket",
        "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
        "sec-websocket-version: 13",
        "authorization: Bearer k",
        "content-type: application/json",
    )
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as connection:
        connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n")
        head = connection.recv(4096)
        assert head.startswith(b"HTTP/1.1 101 ")
        connection.sendall(b"ping")
        assert b"ping" == connection.recv(4096)


def test_envoys_own_answers_pass(gateway: Gateway) -> None:
    """A 503 that Envoy makes itself, its upstream being gone, is the same with the filter and without."""
    gateway.upstream.fresh()
    gone = gateway.upstream.port
    gateway.upstream.__exit__(None, None, None)
    try:
        sent = request(1, body=question(21))
        plain, filtered = converse(gateway.plain_port, sent), converse(gateway.port, sent)
        assert 503 == filtered.code
        assert plain.compared() == filtered.compared()
        assert "MISS status" == said(filtered)
    finally:
        gateway.upstream = type(gateway.upstream)(port=gone)
        gateway.upstream.__enter__()


BUFFER = {
    "name": "envoy.filters.http.buffer",
    "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer",
        "max_request_bytes": MIB,
    },
}


def test_envoys_413_passes(tmp_path: Path) -> None:
    """A 413 that Envoy makes before the cache is the same with the filter and without."""
    with Gateway(tmp_path, before=[BUFFER]) as bounded:
        sent = request(1, body=question(2 * MIB))
        plain, filtered = converse(bounded.plain_port, sent), converse(bounded.port, sent)
        assert 413 == filtered.code
        assert plain.compared() == filtered.compared()
        assert [] == bounded.upstream.received
