"""Streams that break other caches and must not break this one: kept, and given back byte for byte."""

from __future__ import annotations

import json

import pytest

from tests.support.gateway import Gateway
from tests.support.load import ask
from tests.support.upstream import Received, Script, completion, completion_frames, stream

FRAMES = completion_frames(["A ", "星", "星", " of gas."])
WHOLE = b"".join(FRAMES)


def azure() -> list[bytes]:
    """Azure's additions: a first chunk about the prompt, and one about the content, both without a delta."""
    prompt = {"choices": [], "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": {}}]}
    content: dict[str, object] = {
        "choices": [{"index": 0, "finish_reason": None, "content_filter_results": {}, "content_filter_offsets": {}}]
    }
    about = [
        b"data: " + json.dumps({"id": "", "object": "", "model": "", "created": 0} | each).encode() + b"\n\n"
        for each in (prompt, content)
    ]
    return [about[0], *FRAMES[:2], about[1], *FRAMES[2:]]


def literal(frames: list[bytes]) -> list[bytes]:
    """Frames whose characters are not escaped, so that UTF-8 is there to be split."""
    return [frame.decode().encode().replace(b"\\u661f", "星".encode()) for frame in frames]


def at_the_end(frames: list[bytes]) -> Script:
    """A stream whose length is known: its end comes with the last bytes, not after them."""
    body = b"".join(frames)
    return [b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n" % len(body) + body]


CASES: dict[str, Script] = {
    "role-only first chunk": stream(FRAMES, pause_s=0.002),
    "azure": stream(azure()),
    "usage": stream(completion_frames(usage=True)),
    "comments": stream([b": keep-alive\n\n", *FRAMES[:3], b": ping\n\n", *FRAMES[3:]]),
    "crlf": stream([frame.replace(b"\n", b"\r\n") for frame in FRAMES]),
    "cr": stream([frame.replace(b"\n", b"\r") for frame in FRAMES]),
    "no space after the colon": stream([frame.replace(b"data: ", b"data:") for frame in FRAMES]),
    "one byte at a time": stream([WHOLE[at : at + 1] for at in range(len(WHOLE))]),
    "utf-8 split anywhere": stream(
        [b"".join(literal(FRAMES))[at : at + 7] for at in range(0, len(b"".join(literal(FRAMES))), 7)], pause_s=0.001
    ),
    "crlf split between": stream([piece for frame in FRAMES for piece in (frame[:-2] + b"\r", b"\n", b"\r\n")]),
    "all at once": stream([WHOLE]),
    "end of stream on the last frame": at_the_end(FRAMES),
    "id and retry fields": stream([b"id: 1\nretry: 10\n" + FRAMES[0], *FRAMES[1:]]),
}


@pytest.mark.parametrize("name", CASES)
async def test_kept_and_replayed(gateway: Gateway, name: str) -> None:
    """MISS then HIT with equal bytes, one call to the upstream, one entry."""
    script = CASES[name]
    # Answers differ by question, so that each case has an entry of its own.
    gateway.upstream.fresh(lambda _: script)
    before = gateway.entries()
    first = await ask(gateway.port, f"kept {name}", stream=True)
    assert before + 1 == gateway.entries()
    second = await ask(gateway.port, f"kept {name}", stream=True)
    assert ["MISS", "HIT"] == [first[1], second[1]]
    assert first[2] == second[2]
    assert 1 == len(gateway.upstream.received)


async def test_json_in_pieces(gateway: Gateway) -> None:
    """A JSON answer in chunks, with and without trailers, is kept."""

    def pieces(received: Received) -> Script:
        body = completion()
        ending = b"0\r\nx-sum: 1\r\n\r\n" if "trailers" in received.body.decode() else b"0\r\n\r\n"
        chunks = b"".join(
            b"%x\r\n%b\r\n" % (len(body[at : at + 50]), body[at : at + 50]) for at in range(0, len(body), 50)
        )
        return [
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n" + chunks + ending
        ]

    gateway.upstream.fresh(pieces)
    for text in ("pieces", "pieces with trailers"):
        first, second = await ask(gateway.port, text), await ask(gateway.port, text)
        assert ["MISS", "HIT"] == [first[1], second[1]]
