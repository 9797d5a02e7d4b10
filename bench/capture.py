"""What a passing answer costs, and what turning a kept one costs: `python bench/capture.py`. Microseconds, best of five.

A chunk is acknowledged after `feed`, so `feed` is on the client's way and may take 15 us; `settle` is not.
"""

from __future__ import annotations

import json
import sys
import timeit
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ai_cache_extproc.dialects.framing.sse import encode
from ai_cache_extproc.dialects.openai_chat import OpenAIChat
from ai_cache_extproc.model import Captured, Mode, RequestHead, ResponseHead

ROUNDS = 5
CALLS = 20
USAGE = {"prompt_tokens": 9, "completion_tokens": 300, "total_tokens": 309}
HEAD = {"id": "chatcmpl-1", "created": 1_763_697_600, "model": "gpt-4o-mini", "system_fingerprint": "fp_1"}
REQUEST = RequestHead("POST", "/v1/chat/completions", "llm", {})
DIALECT = OpenAIChat(sse_line_bytes_max=1024 * 1024)
QUESTION = DIALECT.read({"messages": [{}]}, raw=b"", head=REQUEST)


def frame(delta: object, finish: str | None = None, **members: object) -> bytes:
    """One event as OpenAI sends it."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return encode(json.dumps(HEAD | {"object": "chat.completion.chunk", "choices": [choice], "usage": None} | members))


def frames(count: int, text: str) -> list[bytes]:
    """A whole stream, one event in each chunk."""
    opening = frame({"role": "assistant", "content": ""})
    closing = [frame({}, "stop"), frame({}, choices=[], usage=USAGE), encode("[DONE]")]
    return [opening, *(frame({"content": text}) for _ in range(count)), *closing]


def microseconds(call: Callable[[], object], *, calls: int = CALLS) -> float:
    """The best time of one call over the rounds."""
    return min(timeit.repeat(call, repeat=ROUNDS, number=calls)) / calls * 1e6


def feed_all(content_type: str, chunks: list[bytes]) -> bytes:
    """Capture a whole answer; its bytes, without which it was not whole."""
    capture = DIALECT.capture(QUESTION, ResponseHead(200, {"content-type": content_type}))
    last = len(chunks) - 1
    whole = [capture.feed(chunk, end_of_stream=at == last) for at, chunk in enumerate(chunks)]
    assert whole[-1]
    return capture.body()


def in_chunks(body: bytes, size: int) -> list[bytes]:
    """The same bytes in chunks of one size."""
    return [body[start : start + size] for start in range(0, len(body), size)]


def feeding() -> None:
    """Print what one `feed` costs for chunks of several kinds, the capture's begin and its body included."""
    stream = frames(300, " word")
    body = b"".join(stream)
    hostile = frames(300, "data: [DONE]\n\n" * 8)
    cases = {
        "stream, one event a chunk": (stream, "text/event-stream"),
        "stream, 16 KiB a chunk": (in_chunks(body * 8, 16_384), "text/event-stream"),
        "stream, one byte a chunk": (in_chunks(body, 1), "text/event-stream"),
        "stream that speaks of [DONE]": (hostile, "text/event-stream"),
        "JSON, 16 KiB a chunk": (in_chunks(b" " * 1024 * 1024, 16_384), "application/json"),
    }
    print(f"{'feed':>30} {'bytes a chunk':>14} {'us a chunk':>11}")
    for name, (chunks, content_type) in cases.items():
        cost = microseconds(partial(feed_all, content_type, chunks)) / len(chunks)
        print(f"{name:>30} {sum(map(len, chunks)) // len(chunks):>14} {cost:>11.2f}")


def turning() -> None:
    """Print what settling and replaying an answer of 300 events costs."""
    stream = b"".join(frames(300, " word"))
    asked = {
        mode: DIALECT.read({"messages": [{}], "stream": mode is Mode.STREAM}, raw=b"", head=REQUEST)
        for mode in (Mode.JSON, Mode.STREAM)
    }
    kept = {Mode.STREAM: Captured(Mode.STREAM, "text/event-stream", stream, 0, 1, 1)}
    merged = DIALECT.replay(asked[Mode.JSON], [kept[Mode.STREAM]])
    assert merged is not None
    kept[Mode.JSON] = Captured(Mode.JSON, merged.content_type, merged.body, 0, 1, 1)
    print(f"{'an answer of 300 events':>30} {'bytes':>14} {'us':>11}")
    for mode, captured in kept.items():
        size, other = len(captured.body), asked[Mode.JSON if mode is Mode.STREAM else Mode.STREAM]
        judged = microseconds(partial(DIALECT.settle, asked[mode], captured, tool_calls=True))
        same = microseconds(partial(DIALECT.replay, asked[mode], [captured]))
        turned = microseconds(partial(DIALECT.replay, other, [captured]))
        for name, cost in (("settle", judged), ("replay as it is", same), (f"replay as {other.mode}", turned)):
            print(f"{f'{mode}: {name}':>30} {size:>14} {cost:>11.1f}")


if __name__ == "__main__":
    feeding()
    turning()
