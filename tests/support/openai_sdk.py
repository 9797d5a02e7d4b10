"""The real OpenAI SDK, answered with given bytes: what an application sees of them. Only the transport is local."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
from openai import OpenAI
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionUserMessageParam

_MESSAGES: list[ChatCompletionUserMessageParam] = [{"role": "user", "content": "Why?"}]


def completion(content_type: str, body: bytes) -> object:
    """A JSON answer as the SDK's ChatCompletion holds it, without its nulls."""
    with _client(content_type, body) as client:
        return _said(client.chat.completions.create(model="gpt", messages=_MESSAGES).to_dict(mode="json"))


def accumulated(content_type: str, body: bytes) -> object:
    """A stream as the SDK's own accumulator adds it up to a ChatCompletion, without its nulls.

    The accumulator makes every member exist, and leaves the index of a streamed tool call in its place.
    """
    state: ChatCompletionStreamState[None] = ChatCompletionStreamState()
    with _client(content_type, body) as client:
        for chunk in client.chat.completions.create(model="gpt", messages=_MESSAGES, stream=True):
            for _ in state.handle_chunk(chunk):
                pass
    return _said(state.current_completion_snapshot.to_dict(mode="json"))


@contextmanager
def _client(content_type: str, body: bytes) -> Iterator[OpenAI]:
    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": content_type}, content=body)

    transport = httpx2.Client(transport=httpx2.MockTransport(answer))
    with OpenAI(api_key="k", base_url="http://upstream.test/v1", http_client=transport) as client:
        yield client


def _said(value: object) -> object:
    if isinstance(value, list):
        return [_said(item) for item in value]
    if isinstance(value, dict):
        ignored = {"index"} if "function" in value or "custom" in value else set()
        return {name: _said(part) for name, part in value.items() if part is not None and name not in ignored}
    return value
