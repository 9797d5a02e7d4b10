"""A thousand identical cold questions at once cost the upstream one call."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from tests.support.gateway import Gateway
from tests.support.load import ask
from tests.support.upstream import Received, Script, answer, chat, completion

pytestmark = pytest.mark.alone

CLIENTS = 1000


async def test_one_upstream_call(gateway: Gateway) -> None:
    """All thousand get the one answer, while the upstream takes a second and a half for it."""

    def slowly(received: Received) -> Script:
        return [1.5, *chat(received)]

    gateway.upstream.fresh(slowly)
    answers = await asyncio.gather(*(ask(gateway.port, "cold", seconds=60) for _ in range(CLIENTS)))
    assert {(200, completion())} == {(status, body) for status, _, body in answers}
    labels = Counter(label for _, label, _ in answers)
    assert {"MISS": 1, "HIT": CLIENTS - 1} == labels
    assert 1 == len(gateway.upstream.received)


async def test_nobody_gets_the_leaders_error(gateway: Gateway) -> None:
    """When the leader's answer is an error, everyone else asks for himself, and gets a whole answer."""
    calls = iter(range(1_000_000))

    def first_fails(received: Received) -> Script:
        if next(calls) == 0:
            return [0.5, *answer(b"{}", status="500 Internal Server Error")]
        return chat(received)

    gateway.upstream.fresh(first_fails)
    answers = await asyncio.gather(*(ask(gateway.port, "cold") for _ in range(200)))
    assert 1 == [status for status, _, _ in answers].count(500)
    assert {completion()} == {body for status, _, body in answers if status == 200}


async def test_two_keys_fly_apart(gateway: Gateway) -> None:
    """Two API keys asking the same at the same moment are two flights, and neither gets the other's answer."""

    def by_key(received: Received) -> Script:
        return [0.3, *answer(completion(received.headers["authorization"]))]

    gateway.upstream.fresh(by_key)
    keys = ["alice", "bob"] * 20
    answers = await asyncio.gather(*(ask(gateway.port, "whose?", key=key) for key in keys))
    assert [completion(f"Bearer {key}") for key in keys] == [body for _, _, body in answers]
    assert 2 == len(gateway.upstream.received)
    assert 2 == gateway.entries()
