"""Documents of APISIX's ai-cache over a sidecar core, and whole exchanges with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml

from ai_cache_extproc.config.load import load
from ai_cache_extproc.config.model import Config
from ai_cache_extproc.extproc.events import Continue, Reply, ResponseBody
from tests.exchange.conversation import (
    ANSWER_BODY,
    STREAM,
    Core,
    answer_json,
    core,
    header,
    reply_to,
    request_body,
    request_headers,
    response_headers,
)

MINIMAL: dict[str, Any] = {"redis_host": "127.0.0.1"}
WARM: dict[str, Any] = {"apisix": {"route_id": "1", "provider": "openai"}}
CHAT = "/v1/chat/completions"


def document(folder: Path, *, scope: str = "credential", **values: Any) -> Config:
    """The configuration that a document comes to."""
    path = folder / "ai-cache.yaml"
    path.write_text(yaml.safe_dump(MINIMAL | values))
    return load(path, environ={"AICACHE_APISIX_SCOPE": scope}).config


@asynccontextmanager
async def running(folder: Path, *, scope: str = "credential", **values: Any) -> AsyncIterator[Core]:
    """A sidecar core that runs a document, over a store in memory."""
    async with core(document(folder, scope=scope, **values)) as parts:
        yield parts


async def ask(parts: Core, *, stream: bool = False, answer: Any = True, **given: Any) -> tuple[str | None, Reply]:
    """One whole exchange, answered where it goes upstream; the status header of its answer, and that reply.

    answer: True for the plain one, False for none, bytes for a body, a tuple of them for a stream. given: of the headers,
    `body` for members of the body, `status` and `content_type` for the answer.
    """
    exchange = parts.exchange()
    body, status = given.pop("body", {}), given.pop("status", 200)
    exchange.handle(request_headers(**given))
    reply: Reply = await reply_to(exchange, request_body(**({"stream": True} if stream else {}), **body))
    if isinstance(reply, Continue) and answer is not False:
        if isinstance(answer, tuple) or (answer is True and stream):
            head = response_headers(status, content_type="text/event-stream")
            reply = await reply_to(exchange, head)
            for frame in STREAM if answer is True else answer:
                exchange.handle(ResponseBody(frame, end_of_stream=False))
            exchange.handle(ResponseBody(b"", end_of_stream=True))
        else:
            reply = answer_json(exchange, ANSWER_BODY if answer is True else answer, status=status)
    exchange.close()
    await parts.writeback.drain(5)
    return header(reply, "x-ai-cache-status"), reply


async def twice(parts: Core, *, first: dict[str, Any], second: dict[str, Any]) -> tuple[str | None, str | None]:
    """The outcomes of two requests, one after the other."""
    return (await ask(parts, **first))[0], (await ask(parts, **second))[0]
