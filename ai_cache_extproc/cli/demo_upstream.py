"""A small LLM service for the demo: OpenAI's chat completions, deterministic, with a delay that one can see.

It also runs alone: `python -m ai_cache_extproc.cli.demo_upstream --listen 127.0.0.1:18081`.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from typing import Annotated

import orjson
import typer
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from ai_cache_extproc.config.addresses import TcpAddress, parse_address
from ai_cache_extproc.errors import ConfigError

DELAY_S = 0.8
"""How long a whole answer takes, in either mode."""
FIRST_WORD_S = 0.3

_CREATED_S = 1_700_000_000


def application() -> Starlette:
    """Serves `POST /v1/chat/completions`, `GET /v1/models` and `GET /healthz`."""
    return Starlette(
        routes=[
            Route("/v1/chat/completions", _chat, methods=["POST"]),
            Route("/v1/models", _models),
            Route("/healthz", _healthz),
        ]
    )


def answer_to(question: str) -> str:
    """The same words for the same question."""
    seal = hashlib.sha256(question.encode()).hexdigest()[:8]
    return f"You asked: {question} I took {DELAY_S:g} seconds to think about it; whoever asks again need not wait. ({seal})"


async def _healthz(_: Request) -> Response:
    return PlainTextResponse("ok\n")


async def _models(_: Request) -> Response:
    return _json({"object": "list", "data": [{"id": "demo", "object": "model", "owned_by": "demo"}]})


async def _chat(request: Request) -> Response:
    try:
        asked = orjson.loads(await request.body())
        question = _question(asked)
        model = str(asked["model"])
    except (orjson.JSONDecodeError, KeyError, IndexError, TypeError) as error:
        message = f"this is no chat completion request: {error!r}"
        return _json({"error": {"message": message, "type": "invalid_request_error"}}, status=400)
    words = answer_to(question).split(" ")
    usage = {
        "prompt_tokens": len(question.split()),
        "completion_tokens": len(words),
        "total_tokens": len(question.split()) + len(words),
    }
    common = {"id": f"chatcmpl-{words[-1].strip('()')}", "created": _CREATED_S, "model": model}
    if not asked.get("stream"):
        await asyncio.sleep(DELAY_S)
        return _json(_completion(common, " ".join(words), usage))
    wanted = bool((asked.get("stream_options") or {}).get("include_usage"))
    return StreamingResponse(_frames(common, words, usage if wanted else None), media_type="text/event-stream")


def _question(asked: Mapping[str, object]) -> str:
    """The last message as text."""
    messages = asked["messages"]
    if not isinstance(messages, list):
        raise TypeError("messages is no list")
    content = messages[-1]["content"]
    return content if isinstance(content, str) else orjson.dumps(content).decode()


def _completion(common: Mapping[str, object], text: str, usage: Mapping[str, int]) -> Mapping[str, object]:
    message = {"role": "assistant", "content": text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return {**common, "object": "chat.completion", "choices": [choice], "usage": usage}


async def _frames(
    common: Mapping[str, object], words: list[str], usage: Mapping[str, int] | None
) -> AsyncIterator[bytes]:
    # With usage wanted, every chunk but the last says `"usage": null`, as OpenAI does.
    frame = {**common, "object": "chat.completion.chunk", **({} if usage is None else {"usage": None})}
    pause_s = (DELAY_S - FIRST_WORD_S) / len(words)
    await asyncio.sleep(FIRST_WORD_S)
    yield _event({**frame, "choices": [_delta({"role": "assistant", "content": ""})]})
    for number, word in enumerate(words):
        yield _event({**frame, "choices": [_delta({"content": word if number == 0 else f" {word}"})]})
        await asyncio.sleep(pause_s)
    yield _event({**frame, "choices": [_delta({}, finish="stop")]})
    if usage is not None:
        yield _event({**frame, "choices": [], "usage": usage})
    yield b"data: [DONE]\n\n"


def _delta(delta: Mapping[str, str], *, finish: str | None = None) -> Mapping[str, object]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}


def _event(document: Mapping[str, object]) -> bytes:
    return b"data: " + orjson.dumps(document) + b"\n\n"


def _json(document: Mapping[str, object], *, status: int = 200) -> Response:
    return Response(orjson.dumps(document), status, media_type="application/json")


def main(
    listen: Annotated[str, typer.Option("--listen", metavar="HOST:PORT")] = "127.0.0.1:18081",
) -> None:
    """A small LLM service that answers chat completions after a delay."""
    address = parse_address(listen, "--listen")
    if not isinstance(address, TcpAddress):
        raise ConfigError("--listen", f"{listen!r} is not HOST:PORT")
    uvicorn.run(application(), host=address.host, port=address.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    typer.run(main)
