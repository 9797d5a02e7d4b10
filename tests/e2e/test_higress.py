"""Documents of Higress' ai-cache, unchanged, with a real Redis behind a real Envoy."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionUserMessageParam

from tests.support.foreign import Foreign
from tests.support.load import ask
from tests.support.redis_server import RedisServer
from tests.support.upstream import Received, Script, answer, completion, completion_frames, stream

DOCUMENTS = Path(__file__).parent.parent / "unit" / "higress_documents"
MINIMAL = (DOCUMENTS / "redis.yaml").read_text()
CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "First?"},
    {"role": "assistant", "content": "Yes."},
    {"role": "user", "content": "Last?"},
]
TEXT = "A ball of gas."
ROLE_ONLY = b'data: {"id":"c","choices":[{"index":0,"delta":{"role":"assistant"}}]}\n\n'
EMPTY_CHOICES = b'data: {"id":"","choices":[],"prompt_filter_results":[{"prompt_index":0}]}\n\n'


Start = Callable[[str], Foreign]


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One Redis for all documents."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@contextmanager
def running(folder: Path, redis: RedisServer, text: str) -> Iterator[Foreign]:
    """A gateway for a document, over an empty Redis that stands for its service."""
    redis.cli("FLUSHALL")
    with Foreign(folder, text, ["--host", f"my-redis.dns=127.0.0.1:{redis.port}"]) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, redis: RedisServer) -> Iterator[Foreign]:
    """The smallest document."""
    with running(tmp_path_factory.mktemp("higress"), redis, MINIMAL) as started:
        yield started


def stored(redis: RedisServer, key: str) -> bytes | None:
    """What stands under a key, once write-back is through."""
    give_up = time.monotonic() + 5
    while (value := redis.cli("GET", key)) is None and time.monotonic() < give_up:
        time.sleep(0.01)
    found: bytes | None = value
    return found


@pytest.mark.parametrize("first", [False, True], ids=["JSON first", "stream first"])
async def test_a_miss_then_hits_in_both_modes(tmp_path: Path, redis: RedisServer, first: bool) -> None:
    """The document runs as it is: the second question hits, in the mode of the first and in the other."""
    with running(tmp_path, redis, MINIMAL) as gateway:
        assert (200, "MISS") == (await ask(gateway.port, "Why?", stream=first))[:2]
        assert TEXT.encode() == stored(redis, "higress-ai-cache:Why?")
        assert -1 == redis.cli("PTTL", "higress-ai-cache:Why?")
        for mode in (first, not first):
            status, label, body = await ask(gateway.port, "Why?", stream=mode)
            assert (200, "HIT", True) == (status, label, TEXT.encode() in body)


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("messages.@reverse.0.content", "Last?"),
        ("messages.#.content", '["Be brief.","First?","Yes.","Last?"]'),
        ('messages.@reverse.#(role=="user").content', "Last?"),
        ('messages.#(role=="user")#.content', '["First?","Last?"]'),
        ('messages.#(role=="system").content', "Be brief."),
    ],
)
def test_the_key_is_what_the_path_leads_to(tmp_path: Path, redis: RedisServer, path: str, key: str) -> None:
    """Each key expression of the plugin's guide gives the key that the plugin would give."""
    with running(tmp_path, redis, f"cacheKeyFrom: '{path}'\n{MINIMAL}") as gateway:
        client = OpenAI(api_key="k", base_url=f"{gateway.url}/v1")
        client.chat.completions.create(model="m", messages=CONVERSATION)  # type: ignore[arg-type]
        client.close()
        assert TEXT.encode() == stored(redis, f"higress-ai-cache:{key}")


def test_what_was_put_there_by_hand_is_a_hit(gateway: Foreign, redis: RedisServer) -> None:
    """A Redis filled by the plugin, or by hand, answers the `openai` SDK, in both modes, whatever the text."""
    client = OpenAI(api_key="k", base_url=f"{gateway.url}/v1")
    messages: list[ChatCompletionUserMessageParam] = [{"role": "user", "content": "by hand"}]
    for text in ('He said "hi"', "back\\slash\\", "\u2028 \U0001f680 中文\n\t", 'a}],"usage":{'):
        redis.cli("SET", "higress-ai-cache:by hand", text)
        time.sleep(0.05)
        said = client.chat.completions.create(model="m", messages=messages)
        assert (text, "stop", 0) == (said.choices[0].message.content, said.choices[0].finish_reason, said.usage and said.usage.total_tokens)  # fmt: skip
        chunks = list(client.chat.completions.create(model="m", messages=messages, stream=True))
        assert [text] == [chunk.choices[0].delta.content for chunk in chunks]
    client.close()


@pytest.mark.parametrize(
    "frames",
    [
        pytest.param([ROLE_ONLY, *completion_frames()], id="role-only first chunk"),
        pytest.param([EMPTY_CHOICES, *completion_frames()], id="Azure's empty choices"),
        pytest.param(
            [b": hi\n\n", *completion_frames()[:3], b": keep-alive\n\n", *completion_frames()[3:]], id="comments"
        ),
        pytest.param([frame.replace(b"\n", b"\r\n") for frame in completion_frames()], id="CRLF"),
        pytest.param([bytes([byte]) for frame in completion_frames() for byte in frame], id="byte by byte"),
    ],
)
async def test_streams_that_broke_the_plugin_are_kept(
    gateway: Foreign, redis: RedisServer, frames: list[bytes]
) -> None:
    """None of these is a reason not to keep an answer."""
    redis.cli("DEL", "higress-ai-cache:odd")

    def answering(_: Received) -> Script:
        return stream(frames)

    gateway.upstream.fresh(answering)
    try:
        assert "MISS" == (await ask(gateway.port, "odd", stream=True))[1]
        assert TEXT.encode() == stored(redis, "higress-ai-cache:odd")
    finally:
        gateway.upstream.fresh()


@pytest.mark.parametrize("kept", range(1, len(completion_frames()) - 1))
async def test_truncated_streams_are_not(gateway: Foreign, redis: RedisServer, kept: int) -> None:
    """A stream without its last words leaves nothing in Redis, however it ends."""

    def answering(_: Received) -> Script:
        return stream(completion_frames()[:kept])

    gateway.upstream.fresh(answering)
    try:
        await ask(gateway.port, f"cut {kept}", stream=True)
    finally:
        gateway.upstream.fresh()
    gateway.entries()
    assert redis.cli("GET", f"higress-ai-cache:cut {kept}") is None


async def test_an_answer_that_is_more_than_text_is_not_kept(gateway: Foreign, redis: RedisServer) -> None:
    """What a template could not give back is asked again each time."""
    body = json.loads(completion())
    body["choices"][0]["message"]["tool_calls"] = [{"id": "1", "type": "function", "function": {"name": "f"}}]
    gateway.upstream.fresh(lambda _: answer(json.dumps(body).encode()))
    try:
        assert ["MISS", "MISS"] == [(await ask(gateway.port, "tools"))[1] for _ in range(2)]
    finally:
        gateway.upstream.fresh()
    assert redis.cli("GET", "higress-ai-cache:tools") is None


async def test_the_access_log_says_what_the_plugin_says(gateway: Foreign, redis: RedisServer) -> None:
    """`cache_status` is hit or miss in the dynamic metadata that Envoy's access log shows."""
    await ask(gateway.port, "logged")
    assert TEXT.encode() == stored(redis, "higress-ai-cache:logged")
    await ask(gateway.port, "logged")
    give_up = time.monotonic() + 15
    # Envoy writes its log every ten seconds; these two are the last that was asked.
    while ["miss", "hit"] != [line["ai_cache"]["cache_status"] for line in gateway.access_log()[-2:]]:
        assert time.monotonic() < give_up, "Envoy did not log both"
        await asyncio.sleep(0.1)
