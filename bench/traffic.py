"""The bytes of every run: what the client asks and what the upstream answers, the same for all variants."""

from __future__ import annotations

import json
import time

MODEL = "gpt-4o-mini"
API_KEY = "sk-bench-7c1f0a94e2b85d36f7a1c0d9"
NUMBER_WIDTH = 12
STREAM_CHUNKS = 50
STAMPED_CHUNKS = STREAM_CHUNKS - 1
"""All but the last, which only says why the answer ends."""
STAMP_DIGITS = 20

_SYSTEM = (
    "You are the support assistant of an online shop. Answer in at most three sentences, "
    "politely, and only from the documents below. If they do not hold the answer, say so."
)
_CONTEXT = (
    "Parcels leave our store within two working days. A return is free within thirty days of "
    "delivery and must be announced on the orders page."
)

# What the OpenAI SDK for Python sends with every request, `host` and `content-length` apart; only that it would take
# gzip, which one of the variants would then spend its time on.
_SDK_HEADERS = (
    "Accept: application/json",
    "Accept-Encoding: identity",
    "Connection: keep-alive",
    "Content-Type: application/json",
    "User-Agent: OpenAI/Python 2.8.0",
    "X-Stainless-Lang: python",
    "X-Stainless-Package-Version: 2.8.0",
    "X-Stainless-OS: Linux",
    "X-Stainless-Arch: x64",
    "X-Stainless-Runtime: CPython",
    "X-Stainless-Runtime-Version: 3.11.7",
    "X-Stainless-Async: async:asyncio",
    "X-Stainless-Retry-Count: 0",
    "X-Stainless-Read-Timeout: 600",
    f"Authorization: Bearer {API_KEY}",
)


class Questions:
    """Requests that differ only in their number, so that all have the same length."""

    def __init__(self, topic: str, *, stream: bool = False) -> None:
        marker = "#" * NUMBER_WIDTH
        body = _request_body(f"{topic}, order {marker}: when will it arrive?", stream=stream)
        lines = ("POST /v1/chat/completions HTTP/1.1", "Host: llm.test", *_SDK_HEADERS)
        head = "\r\n".join((*lines, f"Content-Length: {len(body)}", "", "")).encode()
        self.before, self.after = (head + body).split(marker.encode())

    def request(self, number: int) -> bytes:
        """The whole HTTP/1.1 request number `number`."""
        return b"%b%0*d%b" % (self.before, NUMBER_WIDTH, number, self.after)


def _request_body(question: str, *, stream: bool) -> bytes:
    body: dict[str, object] = {
        "model": MODEL,
        "temperature": 0.2,
        "messages": [
            {"role": "system", "content": _SYSTEM},
            {"role": "user", "content": _CONTEXT},
            {"role": "user", "content": question},
        ],
    }
    if stream:
        body["stream"] = True
    return json.dumps(body, separators=(",", ":")).encode()


def json_answer(number: int) -> bytes:
    """A chat completion of about 1 kB. Its id holds `number`: two equal ids are one answer of the upstream."""
    text = "Your parcel left our store yesterday and reaches you within two working days. " * 8
    answer = {
        "id": f"chatcmpl-{number:0{NUMBER_WIDTH}d}",
        "object": "chat.completion",
        "created": 1_760_000_000,
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 120, "completion_tokens": 112, "total_tokens": 232},
        "system_fingerprint": "fp_0000000000",
    }
    return json.dumps(answer, separators=(",", ":")).encode()


def stream_event(number: int, index: int) -> bytes:
    """Event `index` of a streamed answer. The text of a middle event is the clock at this call.

    `time.monotonic_ns` reads one clock for all processes of the machine, so that the reader can subtract.
    """
    delta: dict[str, object] = {"content": f"{time.monotonic_ns():0{STAMP_DIGITS}d}"}
    finish = None
    if index == 0:
        delta["role"] = "assistant"
    if index == STREAM_CHUNKS - 1:
        delta, finish = {}, "stop"
    event = {
        "id": f"chatcmpl-{number:0{NUMBER_WIDTH}d}",
        "object": "chat.completion.chunk",
        "created": 1_760_000_000,
        "model": MODEL,
        "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}],
    }
    return b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n"
