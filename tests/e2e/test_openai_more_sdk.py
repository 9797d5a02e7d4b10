"""The real `openai`, `ollama` and `dashscope` SDKs through a real Envoy: an application cannot tell a hit from a miss.

The upstream answers with the recorded shapes; whatever it is asked a second time is another answer.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import ollama
import pytest
from dashscope import Generation, MultiModalConversation
from openai import AsyncOpenAI, OpenAI

from ai_cache_extproc.model import Mode
from tests.support.gateway import Gateway
from tests.support.openai_more_answers import COMPLETIONS, DASHSCOPE, EMBEDDINGS, OLLAMA, RESPONSES, Api
from tests.support.upstream import Received, Script, answer

numbers = itertools.count()
PREFIX = "/v1"
"""Where the shipped routes ask the sidecar."""
MODES = [Mode.JSON, Mode.STREAM]
TURNS = [(Mode.JSON, Mode.STREAM), (Mode.STREAM, Mode.JSON)]


def asked() -> str:
    """A question that no other test asks."""
    return f"What is star number {next(numbers)}?"


def serving(api: Api, names: dict[Mode, str]) -> Callable[[Received], Script]:
    """An upstream that answers in the mode that it is asked in, each time with another id."""
    times = itertools.count(1)

    def answering(received: Received) -> Script:
        body = received.json()
        is_streamed = received.headers.get("x-dashscope-sse") == "enable" if api is DASHSCOPE else body.get("stream")
        mode = Mode.STREAM if is_streamed else Mode.JSON
        whole = api.kept[mode][names[mode]]
        for old in (b"cmpl-B7a", b"resp_67cc", b"902fee3b", b"2025-11-21T04"):
            whole = whole.replace(old, old[:-1] + str(next(times)).encode())
        if mode is Mode.JSON:
            return answer(whole, content_type=api.types[mode])
        return _streamed(whole.splitlines(keepends=True), api.types[mode])

    return answering


def _streamed(lines: Sequence[bytes], content_type: str) -> Script:
    """A stream in HTTP chunks of one line each, so that events come in pieces."""
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    return [head, *(b"%x\r\n%b\r\n" % (len(line), line) for line in lines), b"0\r\n\r\n"]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """The shipped Envoy."""
    with Gateway(tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture
def client(gateway: Gateway) -> Iterator[OpenAI]:
    """OpenAI's client."""
    with OpenAI(api_key="secret", base_url=f"{gateway.url}/v1", max_retries=0) as sdk:
        yield sdk


@pytest.fixture
async def async_client(gateway: Gateway) -> AsyncIterator[AsyncOpenAI]:
    """OpenAI's asynchronous client."""
    async with AsyncOpenAI(api_key="secret", base_url=f"{gateway.url}/v1", max_retries=0) as sdk:
        yield sdk


@pytest.fixture
def ollama_client(gateway: Gateway) -> Iterator[ollama.Client]:
    """Ollama's client, with a credential as gateways ask for one."""
    with ollama.Client(host=f"{gateway.url}{PREFIX}", headers={"authorization": "Bearer k"}) as sdk:
        yield sdk


# OpenAI.


def _serve_completions(gateway: Gateway) -> None:
    gateway.upstream.fresh(serving(COMPLETIONS, {Mode.JSON: "logprobs", Mode.STREAM: "logprobs"}))


def test_completions(client: OpenAI, gateway: Gateway) -> None:
    """A JSON text completion is the same object from MISS and HIT, and the upstream was asked once."""
    _serve_completions(gateway)
    prompt, found = asked(), []
    for expected in ("MISS", "HIT"):
        raw = client.completions.with_raw_response.create(model="gpt-test", prompt=prompt, logprobs=2)
        assert expected == raw.headers["x-ai-cache-status"]
        found.append(raw.parse())
    assert found[0] == found[1]
    assert " hot." == found[0].choices[0].text
    assert 1 == len(gateway.upstream.received)


def test_completions_streamed(client: OpenAI, gateway: Gateway) -> None:
    """A streamed text completion is the same chunks from MISS and HIT."""
    _serve_completions(gateway)
    prompt, found = asked(), []
    for expected in ("MISS", "HIT"):
        with client.completions.with_streaming_response.create(
            model="gpt-test", prompt=prompt, stream=True, stream_options={"include_usage": True}
        ) as raw:
            assert expected == raw.headers["x-ai-cache-status"]
            found.append(list(raw.parse()))
    assert found[0] == found[1]
    assert found[0][-1].usage is not None
    assert 1 == len(gateway.upstream.received)


@pytest.mark.parametrize(("first", "second"), TURNS, ids=["JSON first", "stream first"])
def test_completions_in_the_other_mode(client: OpenAI, gateway: Gateway, first: Mode, second: Mode) -> None:
    """A text completion in one mode answers who asks for the other; the upstream was asked once."""
    _serve_completions(gateway)
    prompt, found = asked(), {}
    for mode in (first, second):
        options: Any = {"stream": mode is Mode.STREAM, "stream_options": {"include_usage": True}}
        said = client.completions.create(model="gpt-test", prompt=prompt, **options)
        parts = list(said) if mode is Mode.STREAM else [said]
        text = "".join(choice.text for part in parts for choice in part.choices)
        found[mode] = (parts[-1].id, parts[-1].created, parts[-1].model, parts[-1].usage, text)
    assert found[first] == found[second]
    assert 1 == len(gateway.upstream.received)


def _serve_responses(gateway: Gateway, name: str) -> None:
    gateway.upstream.fresh(serving(RESPONSES, dict.fromkeys(MODES, name)))


@pytest.mark.parametrize("name", ["reasoning", "parallel_tool_calls"])
def test_responses(client: OpenAI, gateway: Gateway, name: str) -> None:
    """A response is the same object from MISS and HIT, reasoning and calls included."""
    _serve_responses(gateway, name)
    question, found = asked(), []
    for expected in ("MISS", "HIT"):
        raw = client.responses.with_raw_response.create(model="gpt-test", input=question)
        assert expected == raw.headers["x-ai-cache-status"]
        found.append(raw.parse())
    assert found[0] == found[1]
    assert len(json.loads(RESPONSES.kept[Mode.JSON][name])["output"]) == len(found[0].output)
    assert 1 == len(gateway.upstream.received)


@pytest.mark.parametrize("name", ["reasoning", "parallel_tool_calls"])
def test_responses_streamed(client: OpenAI, gateway: Gateway, name: str) -> None:
    """A streamed response is the same events from MISS and HIT."""
    _serve_responses(gateway, name)
    question, found = asked(), []
    for expected in ("MISS", "HIT"):
        with client.responses.with_streaming_response.create(model="gpt-test", input=question, stream=True) as raw:
            assert expected == raw.headers["x-ai-cache-status"]
            found.append(list(raw.parse()))
    assert found[0] == found[1]
    assert "response.completed" == found[0][-1].type
    assert 1 == len(gateway.upstream.received)


@pytest.mark.parametrize(("first", "second"), TURNS, ids=["JSON first", "stream first"])
def test_responses_in_the_other_mode(client: OpenAI, gateway: Gateway, first: Mode, second: Mode) -> None:
    """A response in one mode answers who asks for the other, with the SDK's stream helper; the upstream was asked once."""
    _serve_responses(gateway, "reasoning")
    question = asked()
    found: dict[Mode, Any] = {}
    for mode in (first, second):
        if mode is Mode.JSON:
            found[mode] = client.responses.create(model="gpt-test", input=question).to_dict()
            continue
        with client.responses.stream(model="gpt-test", input=question) as stream:
            said = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
            final = stream.get_final_response()
        assert final.output_text == said == "9.8"
        found[mode] = _unparsed(final.to_dict())
    assert found[first] == found[second]
    assert 1 == len(gateway.upstream.received)


def _unparsed(value: Any) -> Any:
    """Without the members that the stream helper adds."""
    if isinstance(value, list):
        return [_unparsed(item) for item in value]
    if isinstance(value, dict):
        return {name: _unparsed(part) for name, part in value.items() if name not in {"parsed", "parsed_arguments"}}
    return value


async def test_responses_async(async_client: AsyncOpenAI, gateway: Gateway) -> None:
    """The asynchronous client gets equal objects, from JSON, from a stream, and from the stream helper."""
    _serve_responses(gateway, "text")
    question = asked()
    wholes = [await async_client.responses.create(model="gpt-test", input=question) for _ in range(2)]
    assert wholes[0] == wholes[1]
    events = [
        event async for event in await async_client.responses.create(model="gpt-test", input=question, stream=True)
    ]
    assert events[-1].type == "response.completed"
    assert wholes[0] == events[-1].response
    async with async_client.responses.stream(model="gpt-test", input=question) as stream:
        final = await stream.get_final_response()
    assert wholes[0].output_text == final.output_text
    assert 1 == len(gateway.upstream.received)


def test_stored_responses(client: OpenAI, gateway: Gateway) -> None:
    """Who asks for a stored response, or goes on from one, is never answered from the cache."""
    _serve_responses(gateway, "text")
    question = asked()
    stored: list[dict[str, Any]] = [{"store": True}, {"previous_response_id": "resp_1"}, {"background": True}]
    for options in stored:
        for _ in range(2):
            raw = client.responses.with_raw_response.create(model="gpt-test", input=question, **options)
            assert ("BYPASS", "side_effect") == (raw.headers["x-ai-cache-status"], raw.headers["x-ai-cache-reason"])
    assert 6 == len(gateway.upstream.received)


@pytest.mark.parametrize(("encoding", "name"), [("base64", "base64"), ("float", "floats")], ids=["base64", "floats"])
def test_embeddings(client: OpenAI, gateway: Gateway, encoding: Any, name: str) -> None:
    """Embeddings are the same object from MISS and HIT, in either encoding."""
    gateway.upstream.fresh(serving(EMBEDDINGS, {Mode.JSON: name}))
    text, found = asked(), []
    for expected in ("MISS", "HIT"):
        raw = client.embeddings.with_raw_response.create(model="embed", input=text, encoding_format=encoding)
        assert expected == raw.headers["x-ai-cache-status"]
        found.append(raw.parse())
    assert found[0] == found[1]
    assert 1 == len(gateway.upstream.received)


async def test_embeddings_async(async_client: AsyncOpenAI, gateway: Gateway) -> None:
    """The asynchronous client gets equal vectors for a whole batch, as numbers: the SDK asks for base64 by itself."""
    gateway.upstream.fresh(serving(EMBEDDINGS, {Mode.JSON: "two_inputs"}))
    texts = [asked(), asked()]
    first = await async_client.embeddings.create(model="embed", input=texts)
    second = await async_client.embeddings.create(model="embed", input=texts)
    assert first == second
    assert [[0.25, -0.5], [1.5e-05, 0.125]] == [each.embedding for each in second.data]
    assert 1 == len(gateway.upstream.received)


# Ollama.


def _ask_ollama(sdk: ollama.Client, name: str, question: str, mode: Mode) -> list[dict[str, Any]]:
    """The answer, or all its lines, as the SDK holds them."""
    call: Callable[..., Any] = sdk.generate if name == "generate" else sdk.chat
    said = {"prompt": question} if name == "generate" else {"messages": [{"role": "user", "content": question}]}
    got = call(model="llama3.2", stream=mode is Mode.STREAM, **said)
    return [part.model_dump(exclude_none=True) for part in (got if mode is Mode.STREAM else [got])]


@pytest.mark.parametrize("name", ["chat", "generate", "thinking_chat", "parallel_tool_calls_chat"])
@pytest.mark.parametrize("mode", MODES)
def test_ollama(ollama_client: ollama.Client, gateway: Gateway, mode: Mode, name: str) -> None:
    """An answer of Ollama's is the same from MISS and HIT, whole or in lines."""
    gateway.upstream.fresh(serving(OLLAMA, dict.fromkeys(MODES, name)))
    question = asked()
    first, second = [_ask_ollama(ollama_client, name, question, mode) for _ in range(2)]
    assert first == second
    assert first[-1]["done"]
    assert 1 == len(gateway.upstream.received)


@pytest.mark.parametrize("name", ["chat", "generate", "thinking_chat", "parallel_tool_calls_chat"])
@pytest.mark.parametrize(("first", "second"), TURNS, ids=["JSON first", "stream first"])
def test_ollama_in_the_other_mode(
    ollama_client: ollama.Client, gateway: Gateway, first: Mode, second: Mode, name: str
) -> None:
    """An answer in one mode answers who asks for the other; the upstream was asked once."""
    gateway.upstream.fresh(serving(OLLAMA, dict.fromkeys(MODES, name)))
    question = asked()
    found = {mode: _joined(_ask_ollama(ollama_client, name, question, mode)) for mode in (first, second)}
    assert found[first] == found[second]
    assert 1 == len(gateway.upstream.received)


def _joined(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Texts and calls of all lines, and the rest of the last."""
    said = [part.get("message", part) for part in parts]
    joined: dict[str, Any] = {}
    for name in ("content", "response", "thinking"):
        joined[name] = "".join(each.get(name, "") for each in said)
    joined["tool_calls"] = [call for each in said for call in each.get("tool_calls", [])]
    kept = {name: value for name, value in parts[-1].items() if name not in {"message", "response", "thinking"}}
    return kept | joined


# DashScope.


def _ask_dashscope(gateway: Gateway, name: str, question: str, mode: Mode) -> list[Any]:
    """The answer, or all its events, as the SDK holds them."""
    in_parts = name == "parts"
    call: Callable[..., Any] = MultiModalConversation.call if in_parts else Generation.call
    got = call(
        model="qwen-plus",
        messages=[{"role": "user", "content": [{"text": question}] if in_parts else question}],
        result_format="text" if name == "text" else "message",
        incremental_output=True,
        stream=mode is Mode.STREAM,
        api_key="k",
        base_address=f"{gateway.url}{PREFIX}/api/v1",
    )
    events = list(got) if mode is Mode.STREAM else [got]
    assert all(event.status_code == 200 for event in events)
    return [json.loads(json.dumps([event.output, event.usage, event.request_id])) for event in events]


@pytest.mark.parametrize("name", ["text", "message", "parts", "reasoning", "parallel_tool_calls"])
@pytest.mark.parametrize("mode", MODES)
def test_dashscope(gateway: Gateway, mode: Mode, name: str) -> None:
    """An answer of DashScope's is the same from MISS and HIT, whole or in events."""
    gateway.upstream.fresh(serving(DASHSCOPE, {Mode.JSON: name, Mode.STREAM: f"{name}_incremental"}))
    question = asked()
    first, second = [_ask_dashscope(gateway, name, question, mode) for _ in range(2)]
    assert first == second
    assert 1 == len(gateway.upstream.received)


@pytest.mark.parametrize("name", ["text", "message", "parts", "reasoning"])
@pytest.mark.parametrize(("first", "second"), TURNS, ids=["JSON first", "stream first"])
def test_dashscope_in_the_other_mode(gateway: Gateway, first: Mode, second: Mode, name: str) -> None:
    """An answer in one mode answers who asks for the other; the upstream was asked once."""
    gateway.upstream.fresh(serving(DASHSCOPE, {Mode.JSON: name, Mode.STREAM: f"{name}_incremental"}))
    question = asked()
    found = {mode: _added(_ask_dashscope(gateway, name, question, mode)) for mode in (first, second)}
    assert found[first] == found[second]
    assert 1 == len(gateway.upstream.received)


def _added(events: list[Any]) -> tuple[object, ...]:
    """All texts of the events joined, and usage and request id of the last."""
    content, reasoning = "", ""
    for output, _, _ in events:
        message = output["choices"][0]["message"] if output.get("choices") else {"content": output["text"]}
        said = message["content"]
        content += said if isinstance(said, str) else "".join(part["text"] for part in said)
        reasoning += message.get("reasoning_content", "")
    return content, reasoning, *events[-1][1:]
