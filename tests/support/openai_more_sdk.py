"""The real SDKs of the other APIs, answered with given bytes: what an application sees of them. Only the transport is local.

Each function gives what the SDK's own types hold of an answer, as plain JSON; of a stream, what it adds up to.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import httpx
import httpx2
import ollama
import requests
from dashscope import Generation, MultiModalConversation
from openai import OpenAI
from openai.types import Completion
from openai.types.responses import Response
from requests.adapters import BaseAdapter

Answer = tuple[str, bytes]
"""Content type and body."""


def completion(answer: Answer) -> object:
    """A JSON text completion as the SDK holds it."""
    with _openai(answer) as client:
        return client.completions.create(model="gpt", prompt="Why?").to_dict(mode="json")


def completion_stream(answer: Answer) -> object:
    """The chunks of a text completion, added up in the way of every application: text by the index of its choice."""
    with _openai(answer) as client:
        chunks = list(client.completions.create(model="gpt", prompt="Why?", stream=True))
    whole = _latest(chunk.to_dict(mode="json") for chunk in chunks)
    indexes = sorted({choice.index for chunk in chunks for choice in chunk.choices})
    return whole | {"choices": [_choice(chunks, index) for index in indexes]}


def _choice(chunks: Iterable[Completion], index: int) -> dict[str, Any]:
    parts = [choice for chunk in chunks for choice in chunk.choices if choice.index == index]
    logprobs: list[dict[str, Any]] = [part.logprobs.to_dict(mode="json") for part in parts if part.logprobs]
    whole = _latest(part.to_dict(mode="json") for part in parts)
    whole["text"] = "".join(part.text or "" for part in parts)
    if logprobs:
        whole["logprobs"] = {name: list(chain.from_iterable(each[name] for each in logprobs)) for name in logprobs[0]}
    return whole


def _latest(objects: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Every member with the last value that says something; Azure's filter results grow."""
    whole: dict[str, Any] = {}
    for members in objects:
        for name, value in members.items():
            if name == "content_filter_results":
                whole[name] = whole.get(name, {}) | value
            elif name not in whole or value not in (None, "", 0, []):
                whole[name] = value
    return whole


def response(answer: Answer) -> object:
    """A JSON response as the SDK holds it."""
    with _openai(answer) as client:
        return client.responses.create(model="gpt", input="Why?").to_dict(mode="json")


def response_stream(answer: Answer) -> object:
    """The response at the end of a stream. What the SDK's own helper adds up from the events before it is the same."""
    with _openai(answer) as client:
        events = list(client.responses.create(model="gpt", input="Why?", stream=True))
    with _openai(answer) as client, client.responses.stream(model="gpt", input="Why?") as stream:
        for _ in stream:
            pass
        helped = stream.get_final_response()
    last = events[-1]
    assert last.type == "response.completed"
    assert list(range(len(events))) == [event.sequence_number for event in events]
    assert last.response.output_text == helped.output_text == _said(events, "response.output_text.delta")
    assert _arguments(last.response) == _said(events, "response.function_call_arguments.delta")
    done = [event.item.to_dict(mode="json") for event in events if event.type == "response.output_item.done"]
    assert [item.to_dict(mode="json") for item in last.response.output] == done
    return last.response.to_dict(mode="json")


def _said(events: Iterable[Any], kind: str) -> str:
    return "".join(event.delta for event in events if event.type == kind)


def _arguments(whole: Response) -> str:
    return "".join(item.arguments for item in whole.output if item.type == "function_call")


def embeddings(answer: Answer) -> object:
    """Embeddings as the SDK holds them; it decodes base64."""
    with _openai(answer) as client:
        return client.embeddings.create(model="embed", input="one").to_dict(mode="json")


@contextmanager
def _openai(answer: Answer) -> Iterator[OpenAI]:
    def reply(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": answer[0]}, content=answer[1])

    transport = httpx2.Client(transport=httpx2.MockTransport(reply))
    with OpenAI(api_key="k", base_url="http://upstream.test/v1", http_client=transport) as client:
        yield client


def ollama_answer(answer: Answer, *, is_chat: bool) -> object:
    """A JSON answer as Ollama's SDK holds it."""
    with _ollama(answer) as client:
        said: Any = _ask_ollama(client, is_chat=is_chat, stream=False)
    return said.model_dump(mode="json", exclude_none=True)


def ollama_stream(answer: Answer, *, is_chat: bool) -> object:
    """The lines of an answer, added up in the way of every application: texts joined, calls in a row, the last line's rest."""
    with _ollama(answer) as client:
        parts = [
            part.model_dump(mode="json", exclude_none=True)
            for part in _ask_ollama(client, is_chat=is_chat, stream=True)
        ]
    whole = dict(parts[-1])
    said = [part["message"] if is_chat else part for part in parts]
    joined: dict[str, Any] = {}
    for name in ("content", "response", "thinking"):
        texts = [each[name] for each in said if name in each]
        joined |= {name: "".join(texts)} if texts else {}
    calls = [call for each in said for call in each.get("tool_calls", [])]
    joined |= {"tool_calls": calls} if calls else {}
    logprobs = [each for part in parts for each in part.get("logprobs", [])]
    whole |= {"logprobs": logprobs} if logprobs else {}
    return whole | ({"message": whole["message"] | joined} if is_chat else joined)


def _ask_ollama(client: ollama.Client, *, is_chat: bool, **how: bool) -> Any:
    call: Callable[..., Any] = client.chat if is_chat else client.generate
    asked = {"messages": [{"role": "user", "content": "Why?"}]} if is_chat else {"prompt": "Why?"}
    return call(model="m", **asked, **how)


@contextmanager
def _ollama(answer: Answer) -> Iterator[ollama.Client]:
    def reply(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-type": answer[0]}, content=answer[1])

    with ollama.Client(host="http://upstream.test", transport=httpx.MockTransport(reply)) as client:
        yield client


def dashscope_answer(answer: Answer, *, in_parts: bool) -> object:
    """A JSON answer as DashScope's SDK holds it."""
    return _plain(_ask_dashscope(answer, in_parts=in_parts, stream=False))


def dashscope_stream(answer: Answer, *, in_parts: bool, incremental: bool) -> object:
    """The last event of a stream, with the SDK's own way of adding up those that say what is new."""
    # The SDK adds events up if it is asked for all so far; it asks the upstream for what is new then.
    events = [
        _plain(event)
        for event in _ask_dashscope(answer, in_parts=in_parts, stream=True, incremental_output=not incremental)
    ]
    return events[-1]


def _ask_dashscope(answer: Answer, *, in_parts: bool, **how: Any) -> Any:
    class Local(BaseAdapter):
        """Answers everything with the given bytes."""

        def send(self, request: requests.PreparedRequest, **_: Any) -> requests.Response:  # type: ignore[override]
            reply = requests.Response()
            reply.status_code, reply.raw, reply.request, reply.url = (
                200,
                io.BytesIO(answer[1]),
                request,
                request.url or "",
            )
            reply.headers["content-type"] = answer[0]
            return reply

        def close(self) -> None:
            """Nothing is open."""

    with requests.Session() as session:
        session.mount("http://", Local())
        call: Callable[..., Any] = MultiModalConversation.call if in_parts else Generation.call
        messages = [{"role": "user", "content": [{"text": "Why?"}] if in_parts else "Why?"}]
        base = "http://upstream.test/api/v1"
        said = call(model="qwen-plus", messages=messages, api_key="k", base_address=base, session=session, **how)
        return said if not how["stream"] else list(said)


def _plain(said: Any) -> object:
    """Without what stands in the transport."""
    assert said.status_code == 200, said
    return json.loads(json.dumps({"output": said.output, "usage": said.usage, "request_id": said.request_id}))
