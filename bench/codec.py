"""What it costs to read and write Envoy's messages: `python bench/codec.py`. Microseconds, best of five rounds.

Beside our codec stand the bare trimmed message and the full one of envoy-data-plane (betterproto2) on the same bytes.
"""

from __future__ import annotations

import sys
import timeit
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ai_cache_extproc._generated import ext_proc_pb2 as wire
from ai_cache_extproc.extproc.codec import decode, encode
from ai_cache_extproc.extproc.events import BodyMode, Continue, ExtendTimeout, Immediate, Metadata, Modes, Part, Reply

with warnings.catch_warnings():
    # Importing envoy-data-plane warns about how it uses pydantic.
    warnings.simplefilter("ignore", DeprecationWarning)
    from envoy_data_plane.envoy.service.ext_proc.v3 import ProcessingRequest, ProcessingResponse

ROUNDS = 5
SECONDS_PER_ROUND = 0.2

REQUEST_HEADERS = {
    ":method": "POST",
    ":path": "/v1/chat/completions",
    ":authority": "llm.example.com",
    ":scheme": "http",
    "user-agent": "OpenAI/Python 3.52.0",
    "accept": "application/json",
    "accept-encoding": "gzip, deflate",
    "content-type": "application/json",
    "content-length": "559",
    "authorization": "Bearer sk-" + "a" * 48,
    "x-forwarded-proto": "http",
    "x-request-id": "00000000-0000-0000-0000-000000000000",
    "x-stainless-lang": "python",
    "x-stainless-os": "Linux",
    "x-stainless-arch": "x64",
    "x-stainless-runtime": "CPython",
    "x-stainless-async": "false",
    "x-stainless-package-version": "3.52.0",
    "x-stainless-retry-count": "0",
    "x-stainless-read-timeout": "600",
}
HIT_HEADERS = (
    ("content-type", "application/json"),
    ("x-ai-cache-status", "HIT"),
    ("x-ai-cache-age", "12"),
    ("x-ai-cache-key", "0" * 32),
    ("age", "12"),
    ("cache-status", "ai-cache; hit; ttl=3588"),
)
METADATA: Metadata = {"result": "hit", "key": "0" * 32, "dialect": "openai_chat", "rule": "default", "age_s": 12}

HEADERS_REPLY = Continue(
    Part.REQUEST_HEADERS,
    remove_headers=("accept-encoding",),
    modes=Modes(BodyMode.BUFFERED_PARTIAL, response_headers=True),
)
HIT = Immediate(200, HIT_HEADERS, b"a" * 1059, "ai-cache.hit", METADATA)


def headers_message(count: int) -> bytes:
    """A first message with so many headers."""
    message = wire.ProcessingRequest()
    for name, value in list(REQUEST_HEADERS.items())[:count]:
        message.request_headers.headers.headers.add(key=name, raw_value=value.encode())
    message.attributes["envoy.filters.http.ext_proc"].fields["xds.route_name"].string_value = "llm"
    message.protocol_config.SetInParent()
    return message.SerializeToString()


def microseconds(call: Callable[[], object]) -> float:
    """The best time of one call over the rounds."""
    timer = timeit.Timer(call)
    calls, seconds = timer.autorange()
    calls = max(1, int(calls * SECONDS_PER_ROUND / seconds))
    return min(timer.repeat(ROUNDS, calls)) / calls * 1e6


def show(what: str, codec: float, bare: float, full: float) -> None:
    """One line of the table."""
    print(f"{what:>26} {codec:>8.2f} {bare:>8.2f} {full:>8.1f}")


def main() -> None:
    """Print one line per message."""
    body = wire.ProcessingRequest(request_body=wire.HttpBody(body=b"a" * 559, end_of_stream=True))
    chunk = wire.ProcessingRequest(response_body=wire.HttpBody(body=b"a" * 200))
    incoming = {
        "request headers, 11": headers_message(11),
        "request headers, 20": headers_message(20),
        "request body, 559 bytes": body.SerializeToString(),
        "answer chunk, 200 bytes": chunk.SerializeToString(),
    }
    outgoing: dict[str, Reply | ExtendTimeout] = {
        "reply to request headers": HEADERS_REPLY,
        "reply to an answer chunk": Continue(Part.RESPONSE_BODY),
        "hit, 1059 bytes": HIT,
    }
    print(f"{'us':>26} {'codec':>8} {'bare':>8} {'full':>8}")
    for what, message in incoming.items():
        show(
            what,
            microseconds(partial(decode, message)),
            microseconds(partial(wire.ProcessingRequest.FromString, message)),
            microseconds(partial(ProcessingRequest.parse, message)),
        )
    for what, reply in outgoing.items():
        ours = wire.ProcessingResponse.FromString(encode(reply))
        theirs = ProcessingResponse.parse(encode(reply))
        show(
            what,
            microseconds(partial(encode, reply)),
            microseconds(ours.SerializeToString),
            microseconds(partial(bytes, theirs)),
        )


if __name__ == "__main__":
    main()
