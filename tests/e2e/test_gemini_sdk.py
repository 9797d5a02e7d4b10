"""The real `google-genai` SDK through a real Envoy: an application cannot tell a hit from a miss."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial

import httpx2
import pytest
from google.genai import Client, types

from ai_cache_extproc.model import Mode
from tests.support.gateway import Gateway
from tests.support.gemini_answers import KEPT, REFUSED
from tests.support.gemini_sdk import said
from tests.support.upstream import Answering, End, Received, Script, answer

numbers = itertools.count()
SHAPES = ["text", "parallel_function_calls", "thoughts", "vertex", "image"]
WEATHER = types.Tool(function_declarations=[types.FunctionDeclaration(name="get_weather", description="The weather.")])
CONFIG = types.GenerateContentConfig(
    tools=[WEATHER], automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True)
)


def question() -> str:
    """A question that no other test asks."""
    return f"What is star number {next(numbers)}?"


def mode_of(path: str) -> Mode:
    """The mode that a path asks for."""
    if "stream" not in path:
        return Mode.JSON
    return Mode.STREAM if "alt=sse" in path else Mode.ARRAY


def in_chunks(mode: Mode, body: bytes) -> Script:
    """An answer as Google sends it: streams in HTTP chunks, their last without a word of it being the last."""
    content_type = "text/event-stream" if mode is Mode.STREAM else "application/json; charset=UTF-8"
    if mode is Mode.JSON:
        return answer(body, content_type=content_type)
    blank = b"\r\n\r\n" if mode is Mode.STREAM else b"\n,\n"
    pieces = [piece + blank for piece in body.split(blank)]
    pieces[-1] = pieces[-1].removesuffix(blank)
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    return [head, *(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece), b"0\r\n\r\n"]


def answering(name: str, folder: dict[Mode, dict[str, bytes]] = KEPT) -> Answering:
    """An upstream that answers with one shape, in the mode that it is asked for."""

    def script(received: Received) -> Script:
        if "countTokens" in received.path:
            return answer(json.dumps({"totalTokens": len(received.body)}).encode())
        mode = mode_of(received.path)
        return in_chunks(mode, folder[mode][name])

    return script


def plain(answers: Sequence[types.GenerateContentResponse]) -> Sequence[types.GenerateContentResponse]:
    """Answers without the headers that they came with."""
    return [answer.model_copy(update={"sdk_http_response": None}) for answer in answers]


def statuses(answers: Sequence[types.GenerateContentResponse | types.CountTokensResponse]) -> list[str]:
    """What the cache said of each."""
    headers = [answer.sdk_http_response.headers or {} for answer in answers if answer.sdk_http_response]
    return [header["x-ai-cache-status"] for header in headers]


@pytest.fixture(scope="module", params=["HTTP/1.1", "HTTP/2"])
def client(gateway: Gateway, request: pytest.FixtureRequest) -> Iterator[Client]:
    """The SDK's client, over one version of HTTP."""
    http2 = request.param == "HTTP/2"
    with httpx2.Client(http1=not http2, http2=http2) as transport:
        options = types.HttpOptions(base_url=gateway.url, httpx_client=transport)
        yield Client(api_key="secret", http_options=options)


@pytest.mark.parametrize("shape", SHAPES)
def test_json(client: Client, gateway: Gateway, shape: str) -> None:
    """An answer is the same object from MISS and HIT, function calls, thoughts and images included."""
    gateway.upstream.fresh(answering(shape))
    asked = question()
    found = [client.models.generate_content(model="gemini", contents=asked, config=CONFIG) for _ in range(2)]
    assert ["MISS", "HIT"] == statuses(found)
    first, second = plain(found)
    assert first == second
    assert 1 == len(gateway.upstream.received)


@pytest.mark.parametrize("shape", SHAPES)
def test_stream(client: Client, gateway: Gateway, shape: str) -> None:
    """A streamed answer is the same chunks from MISS and HIT."""
    gateway.upstream.fresh(answering(shape))
    asked = question()
    streams = [
        list(client.models.generate_content_stream(model="gemini", contents=asked, config=CONFIG)) for _ in range(2)
    ]
    assert [["MISS"] * len(streams[0]), ["HIT"] * len(streams[0])] == [statuses(chunks) for chunks in streams]
    assert plain(streams[0]) == plain(streams[1])
    assert 1 == len(gateway.upstream.received)


@pytest.mark.parametrize("shape", SHAPES)
def test_stream_of_a_json_answer(client: Client, gateway: Gateway, shape: str) -> None:
    """A JSON answer is replayed as a stream that says the same, without asking the upstream."""
    gateway.upstream.fresh(answering(shape))
    asked = question()
    whole = client.models.generate_content(model="gemini", contents=asked, config=CONFIG)
    chunks = list(client.models.generate_content_stream(model="gemini", contents=asked, config=CONFIG))
    assert plain([whole]) == plain(chunks)
    assert 1 == len(gateway.upstream.received)


@pytest.mark.parametrize("shape", SHAPES)
def test_json_of_a_streamed_answer(client: Client, gateway: Gateway, shape: str) -> None:
    """A streamed answer is replayed as the JSON that it adds up to, without asking the upstream."""
    gateway.upstream.fresh(answering(shape))
    asked = question()
    chunks = list(client.models.generate_content_stream(model="gemini", contents=asked, config=CONFIG))
    whole = client.models.generate_content(model="gemini", contents=asked, config=CONFIG)
    assert said(chunks) == said([whole])
    assert 1 == len(gateway.upstream.received)


def test_count_tokens(client: Client, gateway: Gateway) -> None:
    """A count of tokens is the same from MISS and HIT."""
    gateway.upstream.fresh(answering("text"))
    asked = question()
    counts = [client.models.count_tokens(model="gemini", contents=asked) for _ in range(2)]
    assert counts[0].total_tokens == counts[1].total_tokens
    assert ["MISS", "HIT"] == statuses(counts)
    assert 1 == len(gateway.upstream.received)


async def test_async(gateway: Gateway) -> None:
    """The asynchronous client gets equal objects too, in JSON and as a stream."""
    gateway.upstream.fresh(answering("thoughts"))
    async with httpx2.AsyncClient() as transport:
        options = types.HttpOptions(base_url=gateway.url, httpx_async_client=transport)
        sdk = Client(api_key="secret", http_options=options).aio
        asked = question()
        found = [await sdk.models.generate_content(model="gemini", contents=asked) for _ in range(2)]
        asked = question()
        streams = [
            [chunk async for chunk in await sdk.models.generate_content_stream(model="gemini", contents=asked)]
            for _ in range(2)
        ]
    assert plain(found[:1]) == plain(found[1:])
    assert plain(streams[0]) == plain(streams[1])
    assert 2 == len(gateway.upstream.received)


VERTEX = "/v1/projects/p/locations/us-central1/publishers/google/models/gemini"


@pytest.mark.parametrize("path", ["/v1/models/gemini", VERTEX])
@pytest.mark.parametrize("asked", KEPT)
@pytest.mark.parametrize("first", KEPT)
def test_every_mode_after_every_mode(gateway: Gateway, first: Mode, asked: Mode, path: str) -> None:
    """One question is asked once, in whatever modes it comes; the same mode gets the same bytes."""
    gateway.upstream.fresh(answering("text"))
    body = {"contents": [{"parts": [{"text": question()}]}]}
    methods = {
        Mode.JSON: ":generateContent",
        Mode.STREAM: ":streamGenerateContent?alt=sse",
        Mode.ARRAY: ":streamGenerateContent",
    }
    found = []
    with httpx2.Client(base_url=gateway.url, headers={"x-goog-api-key": "secret"}) as http:
        for mode, expected in ((first, "MISS"), (asked, "HIT")):
            got = http.post(path + methods[mode], json=body)
            assert expected == got.headers["x-ai-cache-status"]
            found.append(got.content)
    assert (first is asked) is (found[0] == found[1])
    if asked is Mode.ARRAY:
        chunks = [types.GenerateContentResponse.model_validate(chunk) for chunk in json.loads(found[1])]
        assert "The sky is blue: air scatters short waves most." == "".join(chunk.text or "" for chunk in chunks)
    assert 1 == len(gateway.upstream.received)


@pytest.mark.parametrize("name", ["max_tokens", "safety", "blocked", "empty"])
def test_bad_ends_are_not_kept(client: Client, gateway: Gateway, name: str) -> None:
    """An answer that did not end by itself is asked for again."""
    before = gateway.entries()
    gateway.upstream.fresh(answering(name, REFUSED))
    asked = question()
    for _ in range(2):
        assert list(client.models.generate_content_stream(model="gemini", contents=asked))
        client.models.generate_content(model="gemini", contents=asked)
    assert 4 == len(gateway.upstream.received)
    assert before == gateway.entries()


def _as_scripted(script: Script, _: Received) -> Script:
    return script


@pytest.mark.parametrize("ends", [True, False], ids=["ended", "closed"])
@pytest.mark.parametrize("mode", [Mode.STREAM, Mode.ARRAY])
def test_cut_streams_are_not_kept(gateway: Gateway, mode: Mode, ends: bool) -> None:
    """A stream cut after any of its chunks leaves nothing behind, also if the upstream ends it as if it were whole.

    Events that are all there but for the end of the stream are cut too: nothing else says that there are no more.
    """
    head, *chunks, last = in_chunks(mode, KEPT[mode]["parallel_function_calls"])
    closing: Script = [last] if ends else [End.FIN]
    before = gateway.entries()
    with httpx2.Client(base_url=gateway.url, headers={"x-goog-api-key": "secret"}) as http:
        for kept in range(1, len(chunks) + (mode is Mode.STREAM and not ends)):
            gateway.upstream.fresh(partial(_as_scripted, [head, *chunks[:kept], *closing]))
            query = "?alt=sse" if mode is Mode.STREAM else ""
            body = {"contents": [{"parts": [{"text": question()}]}]}
            with suppress(httpx2.TransportError):
                http.post(f"/v1/models/gemini:streamGenerateContent{query}", json=body)
    assert before == gateway.entries()
