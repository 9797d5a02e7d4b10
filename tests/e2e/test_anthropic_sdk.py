"""The real `anthropic` SDK through a real Envoy: an application cannot tell a hit from a miss."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from functools import partial

import httpx2
import pytest
from anthropic import Anthropic, AsyncAnthropic
from anthropic.types import MessageParam, ToolParam
from anthropic.types.beta import BetaMessageParam

from tests.support.anthropic_answers import KEPT_JSON, KEPT_STREAMS, REFUSED_STREAMS
from tests.support.anthropic_sdk import said
from tests.support.gateway import Gateway
from tests.support.upstream import Answering, End, Received, Script, answer, stream

numbers = itertools.count()
TOOLS: list[ToolParam] = [
    {"name": "get_weather", "description": "The weather.", "input_schema": {"type": "object", "properties": {}}}
]
SHAPES = ["text", "parallel_tool_use", "thinking_tool", "citations", "cache_usage"]


def messages() -> list[MessageParam]:
    """A question that no other test asks."""
    return [{"role": "user", "content": f"What is star number {next(numbers)}?"}]


def answering(name: str) -> Answering:
    """An upstream that answers with one shape, in the mode that it is asked for."""

    def script(received: Received) -> Script:
        if received.path.partition("?")[0].endswith("/count_tokens"):
            return answer(json.dumps({"input_tokens": len(received.body)}).encode())
        if received.json().get("stream"):
            return stream([frame + b"\n\n" for frame in KEPT_STREAMS[name].split(b"\n\n")[:-1]])
        return answer(KEPT_JSON[name])

    return script


@pytest.fixture(params=["HTTP/1.1", "HTTP/2"])
def client(gateway: Gateway, request: pytest.FixtureRequest) -> Iterator[Anthropic]:
    """The SDK's client, over one version of HTTP."""
    http2 = request.param == "HTTP/2"
    transport = httpx2.Client(http1=not http2, http2=http2)
    with Anthropic(api_key="secret", base_url=gateway.url, http_client=transport, max_retries=0) as sdk:
        yield sdk


@pytest.fixture
async def async_client(gateway: Gateway) -> AsyncIterator[AsyncAnthropic]:
    """The SDK's asynchronous client."""
    async with AsyncAnthropic(api_key="secret", base_url=gateway.url, max_retries=0) as sdk:
        yield sdk


@pytest.mark.parametrize("shape", SHAPES)
def test_json(client: Anthropic, gateway: Gateway, shape: str) -> None:
    """A message is the same object from MISS and HIT, tool calls, thoughts and citations included."""
    gateway.upstream.fresh(answering(shape))
    question, found = messages(), []
    for expected in ("MISS", "HIT"):
        raw = client.messages.with_raw_response.create(model="claude", max_tokens=99, messages=question, tools=TOOLS)
        assert expected == raw.headers["x-ai-cache-status"]
        found.append(raw.parse())
    assert found[0] == found[1]
    assert json.loads(KEPT_JSON[shape])["id"] == found[1].id
    assert 1 == len(gateway.upstream.received)


@pytest.mark.parametrize("shape", [*SHAPES, "pings"])
def test_stream(client: Anthropic, gateway: Gateway, shape: str) -> None:
    """A streamed message is the same events from MISS and HIT."""
    gateway.upstream.fresh(answering(shape))
    question, streams = messages(), []
    for expected in ("MISS", "HIT"):
        with client.messages.with_streaming_response.create(
            model="claude", max_tokens=99, messages=question, stream=True
        ) as raw:
            assert expected == raw.headers["x-ai-cache-status"]
            streams.append(list(raw.parse()))
    assert streams[0] == streams[1]
    assert ("message_start", "message_stop") == (streams[1][0].type, streams[1][-1].type)
    assert 1 == len(gateway.upstream.received)


def test_stream_helper(client: Anthropic, gateway: Gateway) -> None:
    """The stream helper sees the same events, text and final message from MISS and HIT."""
    gateway.upstream.fresh(answering("thinking"))
    question, finals = messages(), []
    for _ in range(2):
        with client.messages.stream(model="claude", max_tokens=99, messages=question) as helper:
            kinds = [event.type for event in helper]
            finals.append((kinds, helper.get_final_text(), helper.get_final_message()))
    assert finals[0] == finals[1]
    assert "Blue." == finals[1][1]
    assert 1 == len(gateway.upstream.received)


@pytest.mark.parametrize("shape", SHAPES)
def test_stream_of_a_json_answer(client: Anthropic, gateway: Gateway, shape: str) -> None:
    """A JSON answer is replayed as a stream that adds up to it, without asking the upstream."""
    gateway.upstream.fresh(answering(shape))
    question = messages()
    whole = client.messages.create(model="claude", max_tokens=99, messages=question)
    with client.messages.stream(model="claude", max_tokens=99, messages=question) as helper:
        final = helper.get_final_message()
    assert said(whole.to_dict()) == said(final.to_dict())
    assert 1 == len(gateway.upstream.received)


@pytest.mark.parametrize("shape", SHAPES)
def test_json_of_a_streamed_answer(client: Anthropic, gateway: Gateway, shape: str) -> None:
    """A streamed answer is replayed as the JSON that it adds up to, without asking the upstream."""
    gateway.upstream.fresh(answering(shape))
    question = messages()
    with client.messages.stream(model="claude", max_tokens=99, messages=question) as helper:
        final = helper.get_final_message()
    whole = client.messages.create(model="claude", max_tokens=99, messages=question)
    assert said(final.to_dict()) == said(whole.to_dict())
    assert 1 == len(gateway.upstream.received)


def test_count_tokens(client: Anthropic, gateway: Gateway) -> None:
    """A count of tokens is the same from MISS and HIT, and is not the answer to the same messages."""
    gateway.upstream.fresh(answering("text"))
    question = messages()
    counts = [client.messages.count_tokens(model="claude", messages=question) for _ in range(2)]
    assert counts[0] == counts[1]
    assert counts[0].input_tokens > 0
    assert 1 == len(gateway.upstream.received)


def test_beta_is_another_question(client: Anthropic, gateway: Gateway) -> None:
    """A beta changes the answer: with another header the upstream is asked again."""
    gateway.upstream.fresh(answering("text"))
    question: list[BetaMessageParam] = [{"role": "user", "content": f"What is star number {next(numbers)}?"}]
    for beta in ("fine-grained-tool-streaming-2025-05-14", "context-1m-2025-08-07"):
        found = [
            client.beta.messages.create(model="claude", max_tokens=99, messages=question, betas=[beta])
            for _ in range(2)
        ]
        assert found[0] == found[1]
    assert 2 == len(gateway.upstream.received)


async def test_async_json(async_client: AsyncAnthropic, gateway: Gateway) -> None:
    """The asynchronous client gets equal objects too."""
    gateway.upstream.fresh(answering("tool_use"))
    question = messages()
    found = [await async_client.messages.create(model="claude", max_tokens=99, messages=question) for _ in range(2)]
    assert found[0] == found[1]
    assert "tool_use" == found[1].stop_reason
    assert 1 == len(gateway.upstream.received)


async def test_async_stream(async_client: AsyncAnthropic, gateway: Gateway) -> None:
    """The asynchronous stream helper gets equal messages, and leaves an entry behind."""
    gateway.upstream.fresh(answering("tool_use"))
    question, finals = messages(), []
    for _ in range(2):
        async with async_client.messages.stream(model="claude", max_tokens=99, messages=question) as helper:
            finals.append(await helper.get_final_message())
    assert finals[0] == finals[1]
    assert 1 == len(gateway.upstream.received)


@pytest.mark.parametrize("name", ["max_tokens", "refusal", "pause_turn", "empty"])
def test_bad_ends_are_not_kept(client: Anthropic, gateway: Gateway, name: str) -> None:
    """A message that did not end by itself is asked for again."""
    before = gateway.entries()
    gateway.upstream.fresh(lambda _: stream([REFUSED_STREAMS[name]]))
    question = messages()
    for _ in range(2):
        with client.messages.stream(model="claude", max_tokens=99, messages=question) as helper:
            helper.get_final_message()
    assert 2 == len(gateway.upstream.received)
    assert before == gateway.entries()


def _cut(frames: list[bytes], end: End | None, _: Received) -> Script:
    return stream(frames, end=end)


@pytest.mark.parametrize("end", [None, End.RESET], ids=["ended", "reset"])
def test_cut_streams_are_not_kept(gateway: Gateway, end: End | None) -> None:
    """A stream cut after any of its events, however the upstream ends it, leaves nothing behind."""
    frames = [frame + b"\n\n" for frame in KEPT_STREAMS["parallel_tool_use"].split(b"\n\n")[:-1]]
    before = gateway.entries()
    with httpx2.Client(base_url=gateway.url, headers={"x-api-key": "secret"}) as http:
        for kept in range(1, len(frames)):
            gateway.upstream.fresh(partial(_cut, frames[:kept], end))
            body = {"model": "claude", "max_tokens": 99, "stream": True, "messages": messages()}
            with suppress(httpx2.TransportError):
                http.post("/v1/messages", json=body)
    assert before == gateway.entries()
