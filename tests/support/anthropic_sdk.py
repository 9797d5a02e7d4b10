"""The real Anthropic SDK, answered with given bytes: what an application sees of them. Only the transport is local."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
from anthropic import Anthropic
from anthropic.types import MessageParam

_MESSAGES: list[MessageParam] = [{"role": "user", "content": "Why?"}]


def message(content_type: str, body: bytes) -> object:
    """A JSON answer as the SDK's Message holds it, without its nulls."""
    with _client(content_type, body) as client:
        return said(client.messages.create(model="claude", max_tokens=9, messages=_MESSAGES).to_dict(mode="json"))


def accumulated(content_type: str, body: bytes) -> object:
    """A stream as the SDK's own stream helper adds it up to a Message, without its nulls."""
    with (
        _client(content_type, body) as client,
        client.messages.stream(model="claude", max_tokens=9, messages=_MESSAGES) as stream,
    ):
        return said(stream.get_final_message().to_dict(mode="json"))


def said(value: object) -> object:
    """A value without its nulls: the SDK's stream helper makes every member exist."""
    if isinstance(value, list):
        return [said(item) for item in value]
    if isinstance(value, dict):
        return {name: said(part) for name, part in value.items() if part is not None}
    return value


@contextmanager
def _client(content_type: str, body: bytes) -> Iterator[Anthropic]:
    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": content_type}, content=body)

    transport = httpx2.Client(transport=httpx2.MockTransport(answer))
    with Anthropic(api_key="k", base_url="http://upstream.test", http_client=transport, max_retries=0) as client:
        yield client
