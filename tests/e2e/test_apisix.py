"""A document of APISIX's ai-cache, unchanged, with a real Redis behind a real Envoy."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import httpx2
import pytest
from openai import OpenAI

from ai_cache_extproc.cli.envoy import Format, document_of
from ai_cache_extproc.cli.envoy_bootstrap import Site
from ai_cache_extproc.config.load import load
from tests.support.foreign import Foreign
from tests.support.redis_server import RedisServer

NOTHING: Mapping[str, str] = MappingProxyType({})
DOCUMENT = MappingProxyType({"id": "7", "uri": "/v1/*", "plugins": {}})
PLUGIN = MappingProxyType(
    {
        "redis_host": "127.0.0.1",
        "exact": {"ttl": 600},
        "bypass_on": [{"header": "X-Cache-Bypass", "equals": "1"}],
        "cache_key": {"include_vars": ["http_x_tenant"]},
    }
)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One Redis for all documents."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@contextmanager
def running(
    folder: Path, redis: RedisServer, *, beside: Mapping[str, object] = NOTHING, environ: Mapping[str, str] = NOTHING
) -> Iterator[Foreign]:
    """A gateway for a route with the plugin, over an empty Redis; Envoy shows the headers that it names."""
    redis.cli("FLUSHALL")
    plugins = {"ai-cache": dict(PLUGIN) | {"redis_port": redis.port}}
    document = dict(DOCUMENT) | {"plugins": plugins} | dict(beside)
    text = json.dumps(document)
    (folder / "document.json").write_text(text)
    config = load(folder / "document.json", environ=environ).config
    printed = document_of(Format.FILTER, config, Site())["typed_config"]
    with Foreign(folder, text, environ=environ, filter_says={"forward_rules": printed["forward_rules"]}) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, redis: RedisServer) -> Iterator[Foreign]:
    """The document with the keys of the plugin, taken at its word."""
    environ = {"AICACHE_APISIX_SCOPE": "document"}
    folder = tmp_path_factory.mktemp("apisix")
    with running(folder, redis, beside={"apisix": {}}, environ=environ) as started:
        yield started


def post(gateway: Foreign, text: str, *, stream: bool = False, **fields: str) -> httpx2.Response:
    """One question; headers by keyword, `_` for `-`."""
    headers = {name.replace("_", "-"): value for name, value in fields.items()}
    body = {"model": "m", "messages": [{"role": "user", "content": text}]} | ({"stream": True} if stream else {})
    return httpx2.post(f"{gateway.url}/v1/chat/completions", json=body, headers=headers, timeout=30)


def label(answer: httpx2.Response) -> str | None:
    """What became of a question."""
    found: str | None = answer.headers.get("x-ai-cache-status")
    return found


def keys(redis: RedisServer, number: int) -> list[bytes]:
    """The keys of the plugin, once there are that many."""
    give_up = time.monotonic() + 10
    while len(found := redis.cli("KEYS", "ai-cache:l1:*")) < number and time.monotonic() < give_up:
        time.sleep(0.01)
    return sorted(found)


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
def test_a_miss_then_hits_then_a_bypass(gateway: Foreign, redis: RedisServer, stream: bool) -> None:
    """The story of the plugin's guide, and the same for streams; a hit has the bytes of the miss."""
    redis.cli("FLUSHALL")
    time.sleep(0.1)
    question = f"What is Apache APISIX? {stream}"
    miss = post(gateway, question, stream=stream)
    assert (200, "MISS") == (miss.status_code, label(miss))
    (key,) = keys(redis, 1)
    assert key.startswith(b"ai-cache:l1:route=7:http_x_tenant=:")
    assert 0 < redis.cli("TTL", key.decode()) <= 600
    hit = post(gateway, question, stream=stream)
    assert (200, "HIT", None) == (hit.status_code, label(hit), hit.headers.get("x-ai-cache-reason"))
    assert hit.headers["x-ai-cache-age"].isdigit()
    assert miss.content == hit.content
    assert ("text/event-stream" if stream else "application/json") == hit.headers["content-type"].partition(";")[0]
    assert "BYPASS" == label(post(gateway, question, stream=stream, x_cache_bypass="1"))
    assert "MISS" == label(post(gateway, question, stream=stream, x_tenant="acme"))


def test_what_the_plugin_left_answers_the_sdk(gateway: Foreign, redis: RedisServer) -> None:
    """An envelope in Redis, put there by another program, is a hit for the `openai` SDK."""
    redis.cli("FLUSHALL")
    time.sleep(0.1)
    post(gateway, "left")
    (key,) = keys(redis, 1)
    envelope = json.loads(redis.cli("GET", key.decode()))
    body = json.loads(envelope["body"])
    body["choices"][0]["message"]["content"] = "from APISIX"
    redis.cli("SET", key.decode(), json.dumps(envelope | {"body": json.dumps(body)}), "EX", "60")
    # The near copy hears of it.
    time.sleep(0.2)
    client = OpenAI(api_key="k", base_url=f"{gateway.url}/v1")
    said = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "left"}])
    client.close()
    assert "from APISIX" == said.choices[0].message.content


def test_a_document_alone_keeps_callers_apart(tmp_path: Path, redis: RedisServer) -> None:
    """Without a word from us: keys of ours, a scope for each credential, and no caller without one."""
    with running(tmp_path, redis) as gateway:
        outcomes = [label(post(gateway, "Why?", authorization=f"Bearer {key}")) for key in ("a", "a", "b")]
        assert ["MISS", "HIT", "MISS"] == outcomes
        assert "BYPASS" == label(post(gateway, "Why?"))
        assert [] == keys(redis, 0)
