"""The real google-genai SDK, answered with given bytes: what an application sees of them. Only the transport is local."""

from __future__ import annotations

from functools import cache

import httpx2
from google.genai import Client, types


class _Local(httpx2.BaseTransport):
    """Answers every request alike."""

    def __init__(self) -> None:
        self.content_type, self.body = "", b""

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": self.content_type}, content=self.body)


def answer(content_type: str, body: bytes) -> types.GenerateContentResponse:
    """A JSON answer as the SDK's types hold it."""
    found = _client(content_type, body).models.generate_content(model="gemini", contents="Why?")
    found.sdk_http_response = None
    return found


def chunks(content_type: str, body: bytes) -> list[types.GenerateContentResponse]:
    """The chunks of a stream as the SDK's types hold them."""
    found = list(_client(content_type, body).models.generate_content_stream(model="gemini", contents="Why?"))
    for chunk in found:
        chunk.sdk_http_response = None
    return found


def said(chunks: list[types.GenerateContentResponse]) -> object:
    """What an application reads from an answer in any number of chunks, candidate by candidate."""
    texts: dict[tuple[int, bool], str] = {}
    others: list[object] = []
    ends: dict[int, object] = {}
    for chunk in chunks:
        for candidate in chunk.candidates or []:
            index = candidate.index or 0
            for part in (candidate.content.parts if candidate.content else None) or []:
                if part.text:
                    key = index, bool(part.thought)
                    texts[key] = texts.get(key, "") + part.text
                others += [given for given in (part.function_call, part.inline_data, part.thought_signature) if given]
            ends[index] = candidate.finish_reason
    last = chunks[-1]
    return texts, others, ends, last.usage_metadata, last.response_id, last.model_version, last.create_time


def _client(content_type: str, body: bytes) -> Client:
    client, transport = _only_client()
    transport.content_type, transport.body = content_type, body
    return client


@cache
def _only_client() -> tuple[Client, _Local]:
    """Building one takes 70 ms: it reads all certificates three times."""
    transport = _Local()
    options = types.HttpOptions(base_url="http://upstream.test", httpx_client=httpx2.Client(transport=transport))
    return Client(api_key="k", http_options=options), transport
