"""Rules as documents of APISIX's ai-cache come to: who shares, and whose entries are read."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ai_cache_extproc.extproc.events import Continue, Immediate
from ai_cache_extproc.model import RequestHead
from tests.exchange.apisix_conversation import CHAT, WARM, ask, document, running, twice
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
)
from tests.exchange.faulty_store import FaultyStore

# Scope.


async def test_callers_do_not_share_by_default(tmp_path: Path) -> None:
    """Our scope on top of the document's; whoever has no credential is not cached."""
    async with running(tmp_path, cache_key={"share_across_routes": True}) as parts:
        assert ("MISS", "MISS") == await twice(parts, first={"key": "one"}, second={"key": "two"})
        status, reply = await ask(parts, key=None)
        assert ("BYPASS", "no_credential") == (status, header(reply, "x-ai-cache-reason"))


async def test_callers_share_where_the_document_is_taken_at_its_word(tmp_path: Path) -> None:
    """`AICACHE_APISIX_SCOPE=document`: with a credential, with another one, without any."""
    async with running(tmp_path, scope="document") as parts:
        assert ["MISS", "HIT", "HIT"] == [(await ask(parts, key=key))[0] for key in ("one", "two", None)]


@pytest.mark.parametrize("values", [{}, WARM], ids=["keys of ours", "keys of the plugin"])
@pytest.mark.parametrize("scope", ["credential", "document"])
@pytest.mark.parametrize(
    ("cache_key", "one", "other"),
    [
        ({"include_vars": ["http_x_tenant"]}, {"x_tenant": "alpha"}, {"x_tenant": "beta"}),
        ({"include_vars": ["http_x_tenant"]}, {"x_tenant": "alpha"}, {}),
        ({"include_vars": ["arg_v"]}, {"path": f"{CHAT}?v=1"}, {"path": f"{CHAT}?v=2"}),
        ({"include_vars": ["uri"]}, {}, {"path": f"/other{CHAT}"}),
        ({"include_consumer": True}, {"x_consumer_username": "jack"}, {"x_consumer_username": "jill"}),
        (
            {"include_vars": ["http_x_a", "http_x_b"]},
            {"x_a": "x:http_x_b=yZ", "x_b": ""},
            {"x_a": "x", "x_b": "yZ:http_x_b="},
        ),
    ],
    ids=["tenant", "no tenant", "parameter", "path", "consumer", "forged"],
)
async def test_what_the_scope_names_keeps_callers_apart(
    tmp_path: Path,
    cache_key: dict[str, Any],
    one: dict[str, Any],
    other: dict[str, Any],
    scope: str,
    values: dict[str, Any],
) -> None:
    """A miss across, a hit within; what is missing is a value like any other."""
    async with running(tmp_path, scope=scope, cache_key=cache_key, **values) as parts:
        assert ["MISS", "MISS", "HIT", "HIT"] == [(await ask(parts, **each))[0] for each in (one, other, one, other)]


@pytest.mark.parametrize("address", ["10.0.0.1:1", "[2001:db8::1]:1"], ids=["v4", "v6"])
async def test_the_peers_address_keeps_callers_apart(tmp_path: Path, address: str) -> None:
    """Of another port it is the same peer, of another address another one."""
    values = {"cache_key": {"include_vars": ["remote_addr"]}}
    async with running(tmp_path, scope="document", **values) as parts:
        outcomes = []
        for peer in (address, f"{address}2", "10.0.0.2:1"):
            exchange = parts.exchange()
            event = request_headers()
            head = event.head
            known = RequestHead(
                head.method, head.path, head.authority, head.headers, attributes={"source.address": peer}
            )
            exchange.handle(type(event)(known, False, event.configured))
            reply = await reply_to(exchange, request_body())
            outcomes.append(type(reply))
            if isinstance(reply, Continue):
                answer_json(exchange)
            exchange.close()
            await parts.writeback.drain(5)
        assert [Continue, Immediate, Continue] == outcomes


@pytest.mark.parametrize(("share", "second"), [(False, "MISS"), (True, "HIT")], ids=["apart", "shared"])
async def test_routes_share_only_where_the_document_says_so(tmp_path: Path, share: bool, second: str) -> None:
    """Two routes of Envoy, the same question."""
    async with running(tmp_path, cache_key={"share_across_routes": share}) as parts:
        assert ("MISS", second) == await twice(parts, first={"route": "1"}, second={"route": "2"})


async def test_another_model_never_shares(tmp_path: Path) -> None:
    """Whoever shares, what changes the answer is part of the question."""
    values = {"cache_key": {"share_across_routes": True}}
    async with running(tmp_path, scope="document", **values) as parts:
        assert ("MISS", "MISS") == await twice(parts, first={}, second={"body": {"model": "other"}})
        assert ("MISS", "MISS") == await twice(
            parts, first={"body": {"temperature": 0.2}}, second={"body": {"temperature": 0.8}}
        )


# The plugin's own entries.


@asynccontextmanager
async def warm(folder: Path) -> AsyncIterator[Core]:
    """A core over a store that can be looked into, with the keys of the plugin."""
    async with core(document(folder, scope="document", **WARM), store=FaultyStore()) as parts:
        yield parts


def known_key(parts: Core) -> str:
    """The key under which the one answer was kept."""
    assert isinstance(parts.store, FaultyStore)
    (found,) = (key for key in parts.store.values if key.startswith("ai-cache:l1:"))
    return found


async def test_what_is_kept_is_the_plugins_envelope(tmp_path: Path) -> None:
    """So that APISIX beside us goes on with it."""
    async with warm(tmp_path) as parts:
        await ask(parts)
        value = await parts.store.get(known_key(parts))
        assert value is not None
        assert {"body": ANSWER_BODY.decode(), "created_at": int(parts.clock.now_s), "format": "json"} == json.loads(
            value
        )


@pytest.mark.parametrize("stream", [False, True], ids=["json", "sse"])
async def test_what_the_plugin_left_is_a_hit(tmp_path: Path, stream: bool) -> None:
    """With the age that it says, in the mode that was asked."""
    async with warm(tmp_path) as parts:
        await ask(parts, stream=stream)
        key = known_key(parts)
        body = b"".join(STREAM) if stream else ANSWER_BODY
        held = {"body": body.decode(), "created_at": parts.clock.now_s - 90, "format": "sse" if stream else "json"}
        parts.near.clear()
        await parts.store.set(key, json.dumps(held).encode(), ttl_s=60)
        status, reply = await ask(parts, stream=stream)
        assert isinstance(reply, Immediate)
        assert ("HIT", "90") == (status, header(reply, "x-ai-cache-age"))
        assert "A ball " in reply.body.decode()


@pytest.mark.parametrize(
    "value", [b"garbage", b'{"created_at":1}', b'{"body":"","format":"json"}'], ids=["garbage", "no body", "empty"]
)
async def test_a_malformed_entry_is_a_miss(tmp_path: Path, value: bytes) -> None:
    """It is not deleted either, but the fresh answer takes its place."""
    async with warm(tmp_path) as parts:
        await ask(parts)
        key = known_key(parts)
        parts.near.clear()
        await parts.store.set(key, value, ttl_s=60)
        exchange = parts.exchange()
        exchange.handle(request_headers())
        assert isinstance(await reply_to(exchange, request_body()), Continue)
        assert value == await parts.store.get(key)
        answer_json(exchange)
        exchange.close()
        await parts.writeback.drain(5)
        assert value != await parts.store.get(key)


async def test_what_has_no_key_there_is_kept_under_one_of_ours(tmp_path: Path) -> None:
    """A path that the plugin's key would not tell apart is none of its entries."""
    async with running(tmp_path, scope="document", **WARM) as parts:
        elsewhere = {"path": f"/deployments/a{CHAT}"}
        assert ("MISS", "HIT") == await twice(parts, first=elsewhere, second=elsewhere)
        assert "MISS" == (await ask(parts, path=f"/deployments/b{CHAT}"))[0]
        assert 2 == await parts.stored()
