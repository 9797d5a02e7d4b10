"""What stands in the store is served only if it is whole, ours and where it was put; anything else is a miss."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ai_cache_extproc._generated import entry_pb2 as messages
from ai_cache_extproc.extproc.events import Continue, Immediate
from tests.exchange.conversation import ANSWER_BODY, STREAM, Core, answer_json, ask, miss_then_store
from tests.exchange.replicas import Shared
from tests.support.redis_server import RedisServer

ALONE = {"deadline_ms": 10_000, "flight_wait_ms": 0}
SEALED: dict[str, Any] = {"encryption": {"keys": [{"id": "now", "key": "5e" * 32}]}}
ROTATED: dict[str, Any] = {"encryption": {"keys": [{"id": "next", "key": "a7" * 32}, *SEALED["encryption"]["keys"]]}}
LAYOUTS: dict[str, dict[str, Any]] = {"clear": {}, "sealed": SEALED}


class Stored:
    """A replica with one entry in its Redis, and nothing near."""

    def __init__(self, parts: Core, server: RedisServer) -> None:
        self.parts = parts
        self.server = server
        (self.key,) = server.cli("KEYS", "*")
        self.value: bytes = server.cli("GET", self.key)

    async def outcome(self, value: bytes | None = None) -> Immediate | Continue:
        """What becomes of the question when this value stands in the store."""
        if value is not None:
            self.server.cli("SET", self.key, value)
        self.parts.near.clear()
        exchange = self.parts.exchange()
        reply = await ask(exchange)
        exchange.close()
        assert isinstance(reply, Immediate | Continue)
        return reply

    def rejected(self) -> float:
        """Values that did not check, by the metric."""
        labels = {"backend": "entry", "operation": "decode", "kind": "rejected"}
        return self.parts.counted("aicache_backend_errors_total", **labels)


@asynccontextmanager
async def stored(shared: Shared, **settings: Any) -> AsyncIterator[Stored]:
    """A replica that has stored the answer."""
    assert isinstance(shared.where, RedisServer)
    async with shared.replica(lookup=ALONE, **settings) as parts:
        await miss_then_store(parts)
        yield Stored(parts, shared.where)


@pytest.mark.parametrize("settings", LAYOUTS.values(), ids=LAYOUTS)
async def test_a_value_cut_anywhere_is_a_miss_and_is_removed(over_redis: Shared, settings: dict[str, Any]) -> None:
    """Each truncation is counted, and gone after the first who found it."""
    async with stored(over_redis, **settings) as kept:
        lengths = range(len(kept.value))
        for length in lengths:
            assert isinstance(await kept.outcome(kept.value[:length]), Continue)
            assert kept.server.cli("GET", kept.key) is None
        assert len(lengths) == kept.rejected()
        assert isinstance(await kept.outcome(kept.value), Immediate)


@pytest.mark.parametrize("settings", LAYOUTS.values(), ids=LAYOUTS)
async def test_a_flipped_bit_serves_nothing_else(over_redis: Shared, settings: dict[str, Any]) -> None:
    """Wherever it is: the answer that was stored, or a miss and the value removed."""
    draw = random.Random(16)
    async with stored(over_redis, **settings) as kept:
        missed = 0
        for _ in range(300):
            at, bit = draw.randrange(len(kept.value)), draw.randrange(8)
            damaged = kept.value[:at] + bytes([kept.value[at] ^ 1 << bit]) + kept.value[at + 1 :]
            reply = await kept.outcome(damaged)
            if isinstance(reply, Immediate):
                assert ANSWER_BODY == reply.body
            else:
                missed += 1
                version = messages.StoredEntry.FromString(kept.value).version
                left = kept.server.cli("GET", kept.key)
                assert left is None or at < 4, f"version {version} is all that may be another program's"
        assert missed == kept.rejected() > 250


FOREIGN = {
    "nothing": b"",
    "json": ANSWER_BODY,
    "stream": b"".join(STREAM),
    "text": b"An answer of another plugin.",
    "pickle": b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x07builtins\x94.",
}


@pytest.mark.parametrize("value", FOREIGN.values(), ids=FOREIGN)
async def test_what_others_wrote_under_our_key_is_a_miss(over_redis: Shared, value: bytes) -> None:
    """However much it looks like an answer."""
    async with stored(over_redis) as kept:
        assert isinstance(await kept.outcome(value), Continue)
        assert kept.server.cli("GET", kept.key) is None


async def test_a_value_of_another_kind_is_a_miss_and_is_removed(over_redis: Shared) -> None:
    """A list under our key is removed like any other value that does not check."""
    async with stored(over_redis) as kept:
        kept.server.cli("DEL", kept.key)
        kept.server.cli("LPUSH", kept.key, "foreign")
        assert isinstance(await kept.outcome(), Continue)
        assert 0 == kept.server.cli("EXISTS", kept.key)
        await miss_then_store(kept.parts)
        assert isinstance(await kept.outcome(), Immediate)


async def test_an_entry_under_another_key_is_a_miss(over_redis: Shared) -> None:
    """A whole entry of ours that was copied to another question's key answers nobody there."""
    async with stored(over_redis) as kept:
        await miss_then_store(kept.parts, seed=7)
        (other,) = (key for key in kept.server.cli("KEYS", "*") if key != kept.key)
        assert isinstance(await kept.outcome(kept.server.cli("GET", other)), Continue)
        assert kept.server.cli("GET", kept.key) is None


async def test_a_later_version_is_a_miss_and_is_left(over_redis: Shared) -> None:
    """A program that knows it may run beside this one during an upgrade."""
    async with stored(over_redis) as kept:
        message = messages.StoredEntry.FromString(kept.value)
        message.version = 99
        value = message.SerializeToString()
        assert isinstance(await kept.outcome(value), Continue)
        assert value == kept.server.cli("GET", kept.key)
        assert 1 == kept.rejected()


async def test_keys_of_the_ring_are_rotated_without_a_miss(over_redis: Shared) -> None:
    """With the new key in front both are read; without the old one its entries are missed, and replaced."""
    async with stored(over_redis, **SEALED), over_redis.replica(lookup=ALONE, **ROTATED) as during:
        assert isinstance(await ask(during.exchange()), Immediate)
        await miss_then_store(during, seed=1)
        only_new: dict[str, Any] = {"encryption": {"keys": ROTATED["encryption"]["keys"][:1]}}
        async with over_redis.replica(lookup=ALONE, **only_new) as after:
            assert isinstance(await ask(after.exchange(), seed=1), Immediate)
            exchange = after.exchange()
            assert isinstance(await ask(exchange), Continue)
            answer_json(exchange)
            await after.writeback.drain(5)
            during.near.clear()
            assert isinstance(await ask(during.exchange()), Immediate)


async def test_clear_and_sealed_replicas_do_not_serve_each_other(over_redis: Shared) -> None:
    """Where encryption is switched on, what stands there in clear is replaced; nobody passes a value without a seal."""
    async with stored(over_redis) as kept, over_redis.replica(lookup=ALONE, **SEALED) as sealed:
        await miss_then_store(sealed)
        assert messages.StoredEntry.FromString(kept.server.cli("GET", kept.key)).version == 2
        assert isinstance(await kept.outcome(), Continue)


@pytest.fixture
def saving(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that writes what it holds as it holds it."""
    with RedisServer(tmp_path, options=["rdbcompression no"]) as server:
        yield server


@pytest.mark.parametrize(("settings", "shown"), [({}, True), (SEALED, False)], ids=LAYOUTS)
async def test_nothing_that_was_said_stands_in_an_encrypted_store(
    saving: RedisServer, settings: dict[str, Any], shown: bool
) -> None:
    """Neither question nor answer nor credential is in the dump of a Redis; without encryption the answer is."""
    shared = Shared(saving)
    async with shared.replica(**settings) as parts:
        exchange = parts.exchange()
        await ask(exchange, key="canary-credential", user="canary-user")
        answer_json(exchange, ANSWER_BODY.replace(b"A ball of gas.", b"canary-answer"))
        await parts.writeback.drain(5)
        assert 2 == len(saving.cli("KEYS", "*")), "the entry, and the lease that expires by itself"
        saving.cli("SAVE")
    dump = (saving.folder / "dump.rdb").read_bytes()
    assert shown is (b"canary-answer" in dump)
    assert b"canary-credential" not in dump
    assert b"canary-user" not in dump
    assert b"What is a star?" not in dump
