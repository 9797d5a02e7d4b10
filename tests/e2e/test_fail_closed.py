"""`failure_mode_allow: false`: what a client gets when Envoy may not go on without the sidecar."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator

import pytest

from ai_cache_extproc.cli.demo_client import Answer, ask
from tests.support.gateway import Gateway
from tests.support.upstream import chat, completion_frames, stream


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway that fails closed, and otherwise is as shipped."""
    with Gateway(tmp_path_factory.mktemp("closed"), filter_says={"failure_mode_allow": False}) as running:
        yield running


def asked(gateway: Gateway, question: str) -> Answer:
    """One question as JSON."""
    return ask(gateway.port, question, model="m", stream=False, key="sk-1")


def test_it_serves_as_any_other(closed: Gateway) -> None:
    """While the sidecar works nothing differs."""
    assert ["MISS", "HIT"] == [asked(closed, "What is a star?").cache_status for _ in range(2)]


def test_a_frozen_sidecar_is_a_504(closed: Gateway) -> None:
    """Envoy waits for `message_timeout` and no longer; then the request is refused, and the upstream not asked."""
    before = len(closed.upstream.received)
    closed.sidecar.send(signal.SIGSTOP)
    try:
        refused = asked(closed, "What is a planet?")
    finally:
        closed.sidecar.send(signal.SIGCONT)
    assert (504, "", b"") == (refused.status, refused.cache_status, refused.body)
    assert before == len(closed.upstream.received)


def test_a_stream_is_cut_when_it_dies(closed: Gateway) -> None:
    """What Envoy has begun to send it cannot take back: the client sees a stream without its end."""
    closed.upstream.fresh(lambda _: stream(completion_frames(), pause_s=0.1))
    body = json.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": "Why?"}]}).encode()
    with socket.create_connection(("127.0.0.1", closed.port), timeout=10) as client:
        head = "POST /v1/chat/completions HTTP/1.1\r\nhost: llm\r\nauthorization: Bearer sk-1\r\n"
        client.sendall(f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
        received = b""
        while b"data: " not in received:
            received += client.recv(65_536)
        closed.sidecar.stop(signal.SIGKILL)
        while more := client.recv(65_536):
            received += more
    assert received.startswith(b"HTTP/1.1 200")
    assert b"[DONE]" not in received
    assert not received.endswith(b"0\r\n\r\n")
    closed.start_sidecar()
    closed.wait_for_sidecar()
    closed.upstream.fresh(chat)


def test_a_dead_sidecar_is_a_500(closed: Gateway) -> None:
    """Nobody answers, and nobody is asked; once it is back, what it kept is a hit."""
    before = len(closed.upstream.received)
    closed.sidecar.stop(signal.SIGKILL)
    assert [500, 500] == [asked(closed, "What is a moon?").status for _ in range(2)]
    assert before == len(closed.upstream.received)
    closed.start_sidecar()
    closed.wait_for_sidecar()
    assert "HIT" == asked(closed, "What is a star?").cache_status
