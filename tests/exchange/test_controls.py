"""What a client asks of the cache, through whole exchanges: fresher answers, kept ones only, and shorter lives."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from ai_cache_extproc.config.model import Config
from ai_cache_extproc.errors import BackendUnavailable
from ai_cache_extproc.extproc.events import Continue, Immediate, Part, Reply
from ai_cache_extproc.extproc.exchange import Exchange
from ai_cache_extproc.extproc.phases import Phase
from tests.exchange.conversation import (
    ANSWER_BODY,
    Core,
    answer_json,
    answer_stream,
    core,
    header,
    miss_then_store,
    reply_to,
    request_body,
    request_headers,
    response_headers,
)
from tests.exchange.faulty_store import FaultyStore
from tests.exchange.replicas import Shared

FORWARDED = Continue(Part.REQUEST_BODY)
NEWER = ANSWER_BODY.replace(b"A ball of gas.", b"A newer ball.")
TTL_S = 600
EVERY = ["no-store", "no-cache", "max-age", "min-fresh", "only-if-cached"]
WAITING = {
    "envoy": {"message_timeout_ms": 500, "max_message_timeout_ms": 10_000},
    "lookup": {"flight_wait_ms": 5000},
}


def settings(*, near: bool = True, controls: object = None, more: Any = (), **rule: object) -> Config:
    """One rule without chance in it, that honours everything."""
    rules = [{"ttl_s": TTL_S, "ttl_jitter": 0, "controls": controls or {"honour": EVERY}, **rule}]
    return Config.model_validate({"rules": rules, "near": {} if near else {"bytes_max": 0}, **dict(more)})


@asynccontextmanager
async def kept(age_s: float = 100, **given: Any) -> AsyncIterator[Core]:
    """A process that keeps one answer of this age."""
    async with core(settings(**given)) as parts:
        parts.chance = 1.0
        await miss_then_store(parts)
        parts.clock.now_s += age_s
        yield parts


async def asked(parts: Core, cache_control: str = "", *, members: Any = (), **fields: Any) -> tuple[Exchange, Reply]:
    """Ask the usual question with these request headers."""
    exchange = parts.exchange()
    if cache_control:
        fields["cache_control"] = cache_control
    reply = exchange.handle(request_headers(**fields))
    if isinstance(reply, Immediate):
        return exchange, reply
    return exchange, await reply_to(exchange, request_body(**dict(members)))


places = pytest.mark.parametrize("near", [True, False], ids=["near", "store"])


@places
@pytest.mark.parametrize(
    ("cache_control", "hits"),
    [
        ("max-age=100", True),
        ("max-age=99", False),
        ("max-age=soon", False),
        ("min-fresh=500", True),
        ("min-fresh=501", False),
        ("max-age=100, min-fresh=501", False),
        ("max-stale=1", True),
        ("no-cache", False),
    ],
)
async def test_an_answer_must_suit_the_client(near: bool, cache_control: str, hits: bool) -> None:
    """A kept answer of 100 s with 500 s to go: who wants another one goes upstream, and that answer is kept for all."""
    async with kept(near=near) as parts:
        exchange, reply = await asked(parts, cache_control)
        assert hits is isinstance(reply, Immediate)
        if not hits:
            assert "MISS" == header(answer_json(exchange, NEWER), "x-ai-cache-status")
            await parts.writeback.drain(5)
        _, again = await asked(parts, "max-age=0" if hits else "max-age=1")
        assert isinstance(again, Continue) if hits else isinstance(again, Immediate)
        assert hits or (isinstance(again, Immediate) and NEWER == again.body)
        exchange.close()
        assert 0 == len(parts.flights) or hits


async def test_of_two_modes_the_younger_answers() -> None:
    """A client that wants a young answer gets the capture that is young, made into the mode it asks for."""
    rule = {"replay": {"cross_mode": True}}
    async with kept(age_s=0, **rule) as parts:
        parts.clock.now_s += 50
        exchange, reply = await asked(parts, "max-age=10", members={"stream": True})
        assert FORWARDED == reply
        answer_stream(exchange)
        await parts.writeback.drain(5)
        parts.clock.now_s += 5
        _, young = await asked(parts, "max-age=10", members={"stream": True})
        assert isinstance(young, Immediate)
        assert "5" == header(young, "age")
        _, old = await asked(parts, "max-age=60")
        assert isinstance(old, Immediate)
        assert "55" == header(old, "age")


async def test_nobody_waits_for_a_client_that_wants_a_younger_answer() -> None:
    """Others get the answer that suits them; those who want a younger one too wait for the one upstream call."""
    async with kept(near=False, more=WAITING) as parts:
        picky = parts.exchange()
        picky.handle(request_headers(cache_control="max-age=10"))
        leading = asyncio.create_task(reply_to(picky, request_body()))
        others = [asyncio.create_task(asked(parts)) for _ in range(3)]
        alike = [asyncio.create_task(asked(parts, "max-age=20")) for _ in range(3)]
        assert FORWARDED == await leading
        for _, reply in await asyncio.gather(*others):
            assert isinstance(reply, Immediate)
            assert ANSWER_BODY == reply.body
        answer_json(picky, NEWER)
        for _, reply in await asyncio.gather(*alike):
            assert isinstance(reply, Immediate)
            assert NEWER == reply.body
        assert 0 == len(parts.flights)


class SlowStore(FaultyStore):
    """Takes a turn of the event loop for each answer, as a server does."""

    async def get(self, key: str) -> bytes | None:
        """As in Store."""
        await asyncio.sleep(0)
        return await super().get(key)


@pytest.mark.parametrize(("leader", "follower"), [(10, 200), (200, 10)], ids=["it suits who waits", "who leads"])
async def test_of_those_who_want_a_younger_answer_each_gets_one_that_suits(leader: int, follower: int) -> None:
    """They share a flight; whom the kept answer suits gets it at once, and the other goes upstream."""
    async with core(settings(near=False, more=WAITING), store=SlowStore()) as parts:
        parts.chance = 1.0
        await miss_then_store(parts)
        parts.clock.now_s += 100
        ages = {age_s: asyncio.create_task(asked(parts, f"max-age={age_s}")) for age_s in (leader, follower)}
        _, kept_ = await ages[200]
        assert isinstance(kept_, Immediate)
        assert ANSWER_BODY == kept_.body
        exchange, reply = await ages[10]
        assert FORWARDED == reply
        answer_json(exchange, NEWER)
        await parts.writeback.drain(5)
        assert 0 == len(parts.flights)


async def test_a_stale_answer_does_not_suit_who_names_an_age() -> None:
    """Where the upstream fails, a client that asked for freshness gets the error (RFC 9111, 5.2.1.1)."""
    for cache_control, saved in (("", True), ("max-age=9999", False), ("min-fresh=1", False)):
        async with kept(age_s=TTL_S + 1, stale_if_error_s=600) as parts:
            exchange, reply = await asked(parts, cache_control)
            assert FORWARDED == reply
            assert saved is isinstance(await reply_to(exchange, response_headers(503)), Immediate)
            exchange.close()


async def test_ahead_of_an_expiry_the_kept_answer_must_suit_too() -> None:
    """One who goes ahead and meets a failing upstream gets the kept answer if it is young enough for them."""
    async with core(settings(early_refresh=1)) as parts:
        parts.chance = 1.0
        exchange, _ = await asked(parts)
        exchange._situation.since_s -= 1  # type: ignore[union-attr]  # it was forwarded, and took a second
        answer_json(exchange)
        await parts.writeback.drain(5)
        parts.clock.now_s += TTL_S - 1
        parts.chance = 0.0
        ahead, reply = await asked(parts, f"max-age={TTL_S}")
        assert FORWARDED == reply
        assert isinstance(await reply_to(ahead, response_headers(503)), Immediate)
        _, only = await asked(parts, "only-if-cached")
        assert isinstance(only, Immediate)
        assert 200 == only.status, "who wants a kept answer only never goes ahead"


def refused(reply: Reply) -> tuple[int, str | None, str | None]:
    """An answer that nobody gave: its status and labels."""
    assert isinstance(reply, Immediate)
    assert None is header(reply, "cache-status"), "RFC 9211, 2: it is based on no kept answer"
    error = json.loads(reply.body)
    assert ("error", "only_if_cached") == (error["type"], error["error"]["type"])
    assert "application/json" == header(reply, "content-type")
    assert "ai-cache.only_if_cached" == reply.details
    return reply.status, header(reply, "x-ai-cache-status"), header(reply, "x-ai-cache-reason")


NOT_KEPT = (504, "MISS", "only_if_cached")


@places
async def test_only_if_cached_is_a_hit_or_a_504(near: bool) -> None:
    """RFC 9111, 5.2.1.7: a kept answer that suits, or 504; nothing goes upstream, and nobody waits behind it."""
    async with kept(near=near) as parts:
        _, hit = await asked(parts, "only-if-cached, max-age=100")
        assert isinstance(hit, Immediate)
        assert (200, ANSWER_BODY) == (hit.status, hit.body)
        exchange, reply = await asked(parts, "only-if-cached, max-age=99")
        assert NOT_KEPT == refused(reply)
        assert (Phase.ANSWERED, True) == (exchange.phase, exchange.answered)
        assert NOT_KEPT == refused((await asked(parts, "only-if-cached, no-cache"))[1])
        assert NOT_KEPT == refused((await asked(parts, "only-if-cached", members={"seed": 1}))[1])
        assert 0 == len(parts.flights)
        labels = {"dialect": "openai_chat", "rule": "default", "result": "miss"}
        assert 4 == parts.counted("aicache_requests_total", **labels)


async def test_only_if_cached_waits_for_nobody() -> None:
    """While another asks the upstream, there is no kept answer yet; and one who looks does not hold up who asks next."""
    async with core(settings(more=WAITING)) as parts:
        leader, reply = await asked(parts)
        assert FORWARDED == reply
        assert NOT_KEPT == refused((await asked(parts, "only-if-cached"))[1])
        answer_json(leader)
        await parts.writeback.drain(5)
        _, hit = await asked(parts, "only-if-cached")
        assert isinstance(hit, Immediate)
        assert 200 == hit.status


async def test_only_if_cached_takes_no_lease_of_a_shared_store(shared: Shared) -> None:
    """Other processes do not wait for one who only looks."""
    rule = {"controls": {"honour": EVERY}}
    async with shared.replica(rules=[rule]) as parts:
        assert NOT_KEPT == refused((await asked(parts, "only-if-cached"))[1])
        assert [] == shared.leases()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"key": None}, "no_credential"),
        ({"x_team": "off"}, "bypass_on"),
        ({"content_encoding": "gzip"}, "request_encoded"),
        ({"content_length": str(5 * 1024 * 1024)}, "request_too_large"),
        ({"cache_control": "no-store, only-if-cached"}, "no_store"),
    ],
    ids=["no credential", "bypass_on", "encoded", "long", "no-store"],
)
async def test_only_if_cached_holds_where_the_headers_make_a_bypass(fields: Any, reason: str) -> None:
    """The client forbids the way upstream; that the cache cannot help does not allow it."""
    async with core(settings(bypass_on=[{"header": "x-team", "equals": "off"}])) as parts:
        exchange, reply = await asked(parts, **{"cache_control": "only-if-cached", **fields})
        assert (504, "BYPASS", reason) == refused(reply)
        assert exchange.answered
        assert 1 == parts.counted("aicache_bypass_total", reason=reason)


async def test_only_if_cached_holds_where_the_body_makes_a_bypass() -> None:
    """Also after the body was read."""
    async with core(settings()) as parts:
        exchange = parts.exchange()
        exchange.handle(request_headers(cache_control="only-if-cached"))
        assert (504, "BYPASS", "not_json") == refused(await reply_to(exchange, request_body(b"{")))


@pytest.mark.parametrize(
    ("fields", "rule"),
    [({"x_higress_skip_ai_cache": "on"}, {}), ({}, {"enabled": False}), ({}, {"match": {"paths": ["/other"]}})],
    ids=["skip header", "disabled", "no rule"],
)
async def test_where_there_is_no_cache_only_if_cached_means_nothing(fields: Any, rule: Any) -> None:
    """A client that skips the cache, and a rule that is off, leave nobody to answer for it."""
    async with core(settings(**rule)) as parts:
        exchange = parts.exchange()
        assert isinstance(exchange.handle(request_headers(cache_control="only-if-cached", **fields)), Continue)
        assert Phase.PASSING is exchange.phase


async def test_a_broken_store_is_a_504_too() -> None:
    """Failing open would be the one thing that the client forbade."""
    store = FaultyStore(fault=BackendUnavailable("faulty", "get", "gone"))
    async with core(settings(), store=store) as parts:
        assert (504, "BYPASS", "store_error") == refused((await asked(parts, "only-if-cached"))[1])


async def test_a_slow_store_is_a_504_too() -> None:
    """Within the budget, and with the reason."""
    store = FaultyStore(hanging=asyncio.Event())
    async with core(settings(more={"lookup": {"deadline_ms": 1}}), store=store) as parts:
        assert (504, "MISS", "store_timeout") == refused((await asked(parts, "only-if-cached"))[1])


async def test_what_is_not_honoured_changes_nothing() -> None:
    """With an empty list a client is served as if it had asked nothing, and its answer is kept."""
    async with core(settings(controls={"honour": []})) as parts:
        parts.chance = 1.0
        exchange, reply = await asked(parts, "no-store")
        assert FORWARDED == reply
        answer_json(exchange)
        assert 1 == await parts.stored()
        for word in ("no-cache", "max-age=0", "min-fresh=9999", "only-if-cached"):
            _, reply = await asked(parts, word)
            assert isinstance(reply, Immediate)
            assert 200 == reply.status
        _, missed = await asked(parts, "only-if-cached", members={"seed": 2})
        assert FORWARDED == missed


@pytest.mark.parametrize(
    ("value", "lives_s"),
    [("60", 60), ("99999", TTL_S), ("60s", TTL_S), ("", TTL_S)],
    ids=["short", "long", "bad", "empty"],
)
async def test_a_client_may_shorten_the_life_of_its_answer(value: str, lives_s: int) -> None:
    """Never beyond the rule's own; a value that is no number leaves that."""
    async with core(settings(controls={"ttl_header": "x-ttl"})) as parts:
        parts.chance = 1.0
        exchange, _ = await asked(parts, x_ttl=value)
        answer_json(exchange)
        await parts.writeback.drain(5)
        parts.clock.now_s += lives_s - 1
        assert isinstance((await asked(parts))[1], Immediate)
        parts.clock.now_s += 1
        assert FORWARDED == (await asked(parts))[1]


async def test_a_lifetime_of_nothing_keeps_nothing() -> None:
    """0 is `no-store` in other words."""
    async with core(settings(controls={"ttl_header": "x-ttl"})) as parts:
        exchange = parts.exchange()
        exchange.handle(request_headers(x_ttl="0"))
        reply = exchange.handle(response_headers())
        assert "no_store" == header(reply, "x-ai-cache-reason")  # type: ignore[arg-type]  # at once


@pytest.mark.parametrize(
    ("value", "bypassed"),
    [("on", True), ("on, off", True), ("ON", False), ("on ", False), ("only", False), ("", False)],
)
async def test_a_listed_header_bypasses(value: str, bypassed: bool) -> None:
    """By its exact value, or where it is repeated by one of them; neither looked up nor kept."""
    rule: dict[str, Any] = {"bypass_on": [{"header": "X-No", "equals": "1"}, {"header": "X-Fresh", "equals": "on"}]}
    async with core(settings(**rule)) as parts:
        exchange = parts.exchange()
        exchange.handle(request_headers(x_fresh=value))
        assert bypassed is (exchange.phase is Phase.PASSING)
        if bypassed:
            reply = exchange.handle(response_headers())
            assert ("BYPASS", "bypass_on") == (header(reply, "x-ai-cache-status"), header(reply, "x-ai-cache-reason"))  # type: ignore[arg-type]
