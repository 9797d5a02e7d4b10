"""A chat call over gRPC as Envoy shows it, and the configuration of a sidecar that serves it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from ai_cache_extproc._generated import ext_proc_pb2 as wire
from tests.grpc.scripted import Call, ask
from tests.support.entries import TOKEN

QUESTION = b'{"model":"m","messages":[{"role":"user","content":"What is a star?"}]}'
ANSWER = (
    b'{"id":"c-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"A ball of gas."},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}'
)


def headers(*, credential: str | None = "one") -> wire.ProcessingRequest:
    """A chat call's headers."""
    fields = {":method": "POST", ":path": "/v1/chat/completions", ":authority": "llm.test"}
    fields |= {"content-type": "application/json"}
    if credential is not None:
        fields |= {"authorization": f"Bearer {credential}"}
    message = wire.ProcessingRequest()
    for name, value in fields.items():
        message.request_headers.headers.headers.add(key=name, raw_value=value.encode())
    return message


def answer_headers() -> wire.ProcessingRequest:
    """The headers of a JSON answer."""
    message = wire.ProcessingRequest()
    for name, value in ((":status", "200"), ("content-type", "application/json")):
        message.response_headers.headers.headers.add(key=name, raw_value=value.encode())
    return message


async def asked(call: Call, *, credential: str | None = "one") -> wire.ProcessingResponse:
    """Send a question; the reply to its body."""
    await ask(call, headers(credential=credential))
    body = wire.HttpBody(body=QUESTION, end_of_stream=True)
    reply = await ask(call, wire.ProcessingRequest(request_body=body))
    assert reply is not None
    return reply


async def answered(call: Call) -> wire.ProcessingResponse:
    """Let the upstream's whole answer pass; the reply to its headers."""
    reply = await ask(call, answer_headers())
    body = wire.HttpBody(body=ANSWER, end_of_stream=True)
    await ask(call, wire.ProcessingRequest(response_body=body))
    assert reply is not None
    return reply


def labels(reply: wire.ProcessingResponse) -> dict[str, str]:
    """The headers that a reply sets on the answer."""
    mutation = (
        reply.immediate_response.headers
        if reply.HasField("immediate_response")
        else reply.response_headers.response.header_mutation
    )
    return {option.header.key: option.header.raw_value.decode() for option in mutation.set_headers}


def written(folder: Path, settings: Mapping[str, object] | None = None) -> Path:
    """A configuration on free ports, with an SQLite file beside it."""
    document = {
        "listen": "127.0.0.1:0",
        "admin": "127.0.0.1:0",
        "admin_access": {"token": TOKEN},
        "store": {"path": str(folder / "cache.db")},
        "drain": {"streams_s": 5},
    }
    path = folder / "aicache.json"
    path.write_text(json.dumps(document | dict(settings or {})))
    return path
