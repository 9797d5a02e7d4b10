"""The real `openai` SDK through a real Envoy: an application cannot tell a hit from a miss."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator

import httpx2
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionUserMessageParam

from tests.support.gateway import Gateway

numbers = itertools.count()


def messages() -> list[ChatCompletionUserMessageParam]:
    """A question that no other test asks."""
    return [{"role": "user", "content": f"What is star number {next(numbers)}?"}]


@pytest.fixture(params=["HTTP/1.1", "HTTP/2"])
def client(gateway: Gateway, request: pytest.FixtureRequest) -> Iterator[OpenAI]:
    """The SDK's client, over one version of HTTP."""
    gateway.upstream.fresh()
    http2 = request.param == "HTTP/2"
    transport = httpx2.Client(http1=not http2, http2=http2)
    with OpenAI(api_key="secret", base_url=f"{gateway.url}/v1", http_client=transport, max_retries=0) as sdk:
        yield sdk


@pytest.fixture
async def async_client(gateway: Gateway) -> AsyncIterator[AsyncOpenAI]:
    """The SDK's asynchronous client."""
    gateway.upstream.fresh()
    async with AsyncOpenAI(api_key="secret", base_url=f"{gateway.url}/v1", max_retries=0) as sdk:
        yield sdk


def test_json(client: OpenAI, gateway: Gateway) -> None:
    """A JSON answer is the same object from MISS and HIT, and the upstream was asked once."""
    question = messages()
    answers = []
    for expected in ("MISS", "HIT"):
        raw = client.chat.completions.with_raw_response.create(model="gpt-test", messages=question)
        assert expected == raw.headers["x-ai-cache-status"]
        answers.append(raw.parse())
    assert answers[0] == answers[1]
    assert "A ball of gas." == answers[0].choices[0].message.content
    assert 1 == len(gateway.upstream.received)


@pytest.mark.parametrize("usage", [False, True], ids=["plain", "with usage"])
def test_stream(client: OpenAI, gateway: Gateway, usage: bool) -> None:
    """A streamed answer is the same chunks from MISS and HIT."""
    question = messages()
    streams = []
    for expected in ("MISS", "HIT"):
        with client.chat.completions.with_streaming_response.create(
            model="gpt-test", messages=question, stream=True, stream_options={"include_usage": usage}
        ) as raw:
            assert expected == raw.headers["x-ai-cache-status"]
            streams.append(list(raw.parse()))
    assert streams[0] == streams[1]
    assert usage is (streams[0][-1].usage is not None)
    assert 1 == len(gateway.upstream.received)


async def test_async_json(async_client: AsyncOpenAI, gateway: Gateway) -> None:
    """The asynchronous client gets equal objects too."""
    question = messages()
    first = await async_client.chat.completions.create(model="gpt-test", messages=question)
    second = await async_client.chat.completions.create(model="gpt-test", messages=question)
    assert first == second
    assert 1 == len(gateway.upstream.received)


async def test_async_stream(async_client: AsyncOpenAI, gateway: Gateway) -> None:
    """The asynchronous client, which hangs up at the end event, gets equal chunks and leaves an entry behind."""
    question = messages()
    streams = []
    for _ in range(2):
        stream = await async_client.chat.completions.create(model="gpt-test", messages=question, stream=True)
        streams.append([chunk async for chunk in stream])
    assert streams[0] == streams[1]
    assert 1 == len(gateway.upstream.received)


def test_the_other_mode(client: OpenAI, gateway: Gateway) -> None:
    """A JSON answer is replayed as a stream that adds up to it, and a stream's question as JSON asks once more."""
    question = messages()
    whole = client.chat.completions.create(model="gpt-test", messages=question)
    with client.chat.completions.stream(model="gpt-test", messages=question) as stream:
        final = stream.get_final_completion()
    assert whole.choices[0].message.content == final.choices[0].message.content
    assert (whole.id, whole.created, whole.model) == (final.id, final.created, final.model)
    assert 1 == len(gateway.upstream.received)


@pytest.mark.parametrize("stream", ["false", "true"])
@pytest.mark.parametrize("version", ["--http1.1", "--http2-prior-knowledge"])
def test_curl(gateway: Gateway, stream: str, version: str) -> None:
    """`curl -N` gets the same bytes from MISS and HIT, over HTTP/1.1 and HTTP/2."""
    if shutil.which("curl") is None:
        pytest.skip("no curl here")
    gateway.upstream.fresh()
    body = f'{{"model":"m","stream":{stream},"messages":[{{"role":"user","content":"curl {next(numbers)}"}}]}}'
    answers = []
    for _ in range(2):
        command = ["curl", "-sSN", "--max-time", "20", version, f"{gateway.url}/v1/chat/completions"]
        fields = ["-H", "authorization: Bearer k", "-H", "content-type: application/json", "-d", body]
        answers.append(subprocess.run([*command, *fields], check=True, capture_output=True).stdout)
    assert answers[0] == answers[1]
    assert b"chatcmpl" in answers[0]
    assert 1 == len(gateway.upstream.received)
