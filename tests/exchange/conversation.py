"""A whole sidecar core without a transport: real dialects, a real memory store, events in and replies out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry

from ai_cache_extproc.cache.collection import CaptureBudget
from ai_cache_extproc.cache.keysource import HasKeyring
from ai_cache_extproc.cache.parts import Meaning, put_together
from ai_cache_extproc.config.model import Config
from ai_cache_extproc.config.snapshot import Snapshot
from ai_cache_extproc.dialects import Dialects
from ai_cache_extproc.extproc.events import (
    ConfiguredModes,
    Continue,
    Event,
    ExtendTimeout,
    Immediate,
    Pending,
    Reply,
    RequestBody,
    RequestHeaders,
    ResponseBody,
    ResponseHeaders,
)
from ai_cache_extproc.extproc.exchange import Exchange
from ai_cache_extproc.extproc.services import Services
from ai_cache_extproc.keys.identity import Keyring
from ai_cache_extproc.model import RequestHead, ResponseHead
from ai_cache_extproc.stores.base import Store
from ai_cache_extproc.stores.memory import MemoryStore
from ai_cache_extproc.telemetry.metrics import Metrics

PATH = "/v1/chat/completions"
QUESTION = {"model": "gpt-test", "messages": [{"role": "user", "content": "What is a star?"}]}
ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1_700_000_000,
    "model": "gpt-test",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "A ball of gas."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 4, "completion_tokens": 5, "total_tokens": 9},
}
ANSWER_BODY = json.dumps(ANSWER).encode()


def chunk(delta: Mapping[str, object], finish: str | None = None, **members: object) -> bytes:
    """One frame of a streamed answer."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    frame = {"id": "chatcmpl-2", "object": "chat.completion.chunk", "created": 1, "model": "gpt-test"}
    return b"data: " + json.dumps(frame | {"choices": [choice]} | members).encode() + b"\n\n"


STREAM = (
    chunk({"role": "assistant", "content": ""}),
    chunk({"content": "A ball "}),
    chunk({"content": "of gas."}),
    chunk({}, "stop"),
    b"data: [DONE]\n\n",
)


STORE_TIMEOUT_S = 0.2
"""For one write; long for what runs in memory."""


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self, now_s: float = 1_800_000_000) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Keys:
    """A keyring that is there, or is not."""

    current: Keyring | None


class Core:
    """The parts of one process, and what they counted."""

    def __init__(
        self,
        config: Config,
        store: Store,
        *,
        keyring: Keyring | None,
        clock: Clock,
        store_timeout_s: float = STORE_TIMEOUT_S,
        meaning: Meaning | None = None,
    ) -> None:
        self.snapshot = Snapshot(config)
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry)
        self.clock = clock
        self.store = store
        self.chance = 0.0
        self.keys: HasKeyring = Keys(keyring)
        loop = asyncio.get_running_loop()
        self.cache = put_together(
            config,
            store,
            self.keys,
            metrics=self.metrics,
            clock=clock,
            monotonic=loop.time,
            chance=lambda: self.chance,
            store_timeout_s=store_timeout_s,
            meaning=meaning,
        )
        self.near, self.flights = self.cache.near, self.cache.flights
        self.writeback, self.pipeline = self.cache.writeback, self.cache.pipeline
        self.budget = CaptureBudget(self.metrics)
        self.services = Services(
            dialects=Dialects(config.limits.sse_line_bytes_max),
            pipeline=self.pipeline,
            budget=self.budget,
            metrics=self.metrics,
            monotonic=loop.time,
        )

    def exchange(self) -> Exchange:
        """A new exchange under the current snapshot."""
        return Exchange(self.snapshot, self.services)

    async def stored(self) -> int:
        """How many entries the store holds once write-back is idle."""
        await self.writeback.drain(5)
        return (await self.store.stats()).entries

    def counted(self, name: str, **labels: str) -> float:
        """A metric's value; 0 where it was never counted."""
        return self.registry.get_sample_value(name, labels) or 0.0


@asynccontextmanager
async def core(config: Config | None = None, *, store: Store | None = None, keyed: bool = True) -> AsyncIterator[Core]:
    """A running core over a memory store (or the one given)."""
    clock = Clock()
    config = config or Config()
    async with MemoryStore.open(bytes_max=64 * 1024 * 1024, clock=clock) as memory:
        keyring = Keyring(b"k" * 32, config.key_prefix, 0) if keyed else None
        async with running(Core(config, store or memory, keyring=keyring, clock=clock)) as parts:
            yield parts


@asynccontextmanager
async def running(parts: Core) -> AsyncIterator[Core]:
    """The core, with what runs beside its exchanges."""
    tasks = [asyncio.create_task(task) for task in parts.cache.tasks()]
    try:
        yield parts
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def request_headers(
    *,
    path: str = PATH,
    key: str | None = "secret-1",
    method: str = "POST",
    authority: str = "llm.test",
    end_of_stream: bool = False,
    configured: ConfiguredModes | None = None,
    route: str = "",
    **fields: str,
) -> RequestHeaders:
    """An LLM call's headers; further fields by keyword, `_` for `-`."""
    headers = {"content-type": "application/json", "accept-encoding": "gzip"}
    if key is not None:
        headers["authorization"] = f"Bearer {key}"
    headers |= {name.replace("_", "-"): value for name, value in fields.items()}
    return RequestHeaders(RequestHead(method, path, authority, headers, route), end_of_stream, configured)


def request_body(question: object = QUESTION, *, end_of_stream: bool = True, **members: Any) -> RequestBody:
    """A question's body; bytes go as they are."""
    if isinstance(question, bytes):
        return RequestBody(question, end_of_stream)
    assert isinstance(question, dict)
    return RequestBody(json.dumps(question | members).encode(), end_of_stream)


def response_headers(
    status: int = 200, *, content_type: str = "application/json", end_of_stream: bool = False, **fields: Any
) -> ResponseHeaders:
    """An answer's headers."""
    headers = {"content-type": content_type} | {name.replace("_", "-"): value for name, value in fields.items()}
    return ResponseHeaders(ResponseHead(status, headers), end_of_stream)


async def reply_to(exchange: Exchange, event: Event) -> Reply:
    """The reply to an event, awaited if it takes a lookup."""
    return (await replies_to(exchange, event))[-1]  # type: ignore[return-value]  # the last is never the extension


async def replies_to(exchange: Exchange, event: Event) -> list[Reply | ExtendTimeout]:
    """All that is sent to Envoy for one event, in order."""
    said: list[Reply | ExtendTimeout] = []
    outcome = exchange.handle(event)
    while isinstance(outcome, Pending):
        if outcome.first is not None:
            said.append(outcome.first)
        outcome = await outcome.finish()
    return [*said, outcome]


async def ask(exchange: Exchange, *, stream: bool = False, key: str | None = "secret-1", **members: Any) -> Reply:
    """Send a question's headers and body; the reply to the body."""
    exchange.handle(request_headers(key=key))
    if stream:
        members["stream"] = True
    return await reply_to(exchange, request_body(**members))


def answer_json(exchange: Exchange, body: bytes = ANSWER_BODY, **fields: Any) -> Reply:
    """Let a whole JSON answer pass; the reply to its headers."""
    reply = exchange.handle(response_headers(**fields))
    assert isinstance(reply, Continue)
    exchange.handle(ResponseBody(body, end_of_stream=True))
    return reply


def answer_stream(exchange: Exchange, frames: tuple[bytes, ...] = STREAM) -> None:
    """Let a streamed answer pass, frame by frame; its end comes as an empty chunk."""
    exchange.handle(response_headers(content_type="text/event-stream"))
    for frame in frames:
        exchange.handle(ResponseBody(frame, end_of_stream=False))
    exchange.handle(ResponseBody(b"", end_of_stream=True))


async def miss_then_store(parts: Core, *, stream: bool = False, **members: Any) -> None:
    """One whole exchange that misses and is kept."""
    exchange = parts.exchange()
    reply = await ask(exchange, stream=stream, **members)
    assert isinstance(reply, Continue), reply
    answer_stream(exchange) if stream else answer_json(exchange)
    exchange.close()
    await parts.writeback.drain(5)


def header(reply: Reply, name: str) -> str | None:
    """A header that a reply sets or adds."""
    if isinstance(reply, Immediate):
        return dict(reply.headers).get(name)
    assert isinstance(reply, Continue)
    return dict(reply.set_headers + reply.append_headers).get(name)
