"""Vectors kept, and one embedding for several who ask at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from ai_cache_extproc.embedders.base import Vectors
from ai_cache_extproc.embedders.cached import CachedEmbedder
from ai_cache_extproc.errors import BackendUnavailable
from tests.support.embedding_servers import vector_of

VECTOR_BYTES = 8 * 4 + 300


class Slow:
    """An embedder that works when the test says so."""

    name = "slow"
    identity = "slow/1"
    default_threshold: float | None = None
    is_calibrated = False
    chars_max = 100
    dimensions: int | None = 8

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.may_go = asyncio.Event()
        self.may_go.set()
        self.error: Exception | None = None

    async def embed(self, texts: Sequence[str]) -> Vectors:
        self.asked.append(list(texts))
        await self.may_go.wait()
        if self.error is not None:
            raise self.error
        return np.array([vector_of(text) for text in texts], dtype=np.float32)

    async def check(self) -> None:
        await self.embed(["ping"])


class Tally:
    """What became of texts."""

    def __init__(self) -> None:
        self.texts: dict[str, int] = {}

    def __call__(self, embedder: str, outcome: str, texts: int, seconds: float) -> None:
        assert "slow" == embedder
        assert seconds >= 0
        self.texts[outcome] = self.texts.get(outcome, 0) + texts


def cached(slow: Slow, *, bytes_max: int = 100_000, told: Tally | None = None) -> CachedEmbedder:
    """The cache in front of it."""
    return CachedEmbedder(slow, bytes_max=bytes_max, told=told, clock=lambda: 0.0)


async def test_what_was_embedded_is_not_embedded_again() -> None:
    """Only what is new in a batch is asked for, and a text twice in it once."""
    slow, told = Slow(), Tally()
    embedder = cached(slow, told=told)
    first = await embedder.embed(["a", "b", "a"])
    second = await embedder.embed(["b", "c", "a"])
    assert [["a", "b"], ["c"]] == slow.asked
    assert np.array_equal(first[0], second[2])
    assert np.array_equal(first[0], first[2])
    assert {"embedded": 3, "cached": 2} == told.texts
    assert ("slow/1", 8, 100, None, False) == (
        embedder.identity,
        embedder.dimensions,
        embedder.chars_max,
        embedder.default_threshold,
        embedder.is_calibrated,
    )


async def test_it_keeps_as_many_as_fit() -> None:
    """Those asked for longest ago make room; with no room at all nothing is kept."""
    slow = Slow()
    embedder = cached(slow, bytes_max=2 * VECTOR_BYTES)
    await embedder.embed(["a", "b"])
    await embedder.embed(["a"])
    await embedder.embed(["c"])
    assert 2 == embedder.kept
    await embedder.embed(["a", "c"])
    await embedder.embed(["b"])
    assert [["a", "b"], ["c"], ["b"]] == slow.asked
    none = cached(slow, bytes_max=0)
    await none.embed(["a"])
    await none.embed(["a"])
    assert 0 == none.kept
    assert [["a"], ["a"]] == slow.asked[3:]


async def test_texts_are_not_held() -> None:
    """A dump of the process's cache shows hashes, and other ones in each process."""
    one, other = cached(Slow()), cached(Slow())
    await one.embed(["my secret question"])
    await other.embed(["my secret question"])
    keys = [set(embedder._kept) for embedder in (one, other)]
    assert keys[0].isdisjoint(keys[1])
    assert [16] == [len(key) for key in keys[0]]


async def test_what_is_given_out_cannot_be_changed_in_the_cache() -> None:
    """A caller that scales its vector scales its own."""
    embedder = cached(Slow())
    first = await embedder.embed(["a"])
    first *= 0
    assert (await embedder.embed(["a"])).any()


async def test_whoever_asks_meanwhile_joins() -> None:
    """One call for all, of texts that are wanted by several."""
    slow, told = Slow(), Tally()
    embedder = cached(slow, told=told)
    slow.may_go.clear()
    asked = [asyncio.ensure_future(embedder.embed(texts)) for texts in (["a", "b"], ["b"], ["b", "c"])]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    slow.may_go.set()
    first, second, third = await asyncio.gather(*asked)
    assert [["a", "b"], ["c"]] == slow.asked
    assert np.array_equal(first[1], second[0])
    assert np.array_equal(first[1], third[0])
    assert {"embedded": 3, "joined": 2} == told.texts


async def test_a_failure_is_everyones_and_is_not_kept() -> None:
    """Those who joined are told the same; the next one asks anew."""
    slow, told = Slow(), Tally()
    embedder = cached(slow, told=told)
    slow.may_go.clear()
    slow.error = BackendUnavailable("slow", "embed", "down")
    asked = [asyncio.ensure_future(embedder.embed(["a"])) for _ in range(3)]
    await asyncio.sleep(0)
    slow.may_go.set()
    assert [slow.error] * 3 == await asyncio.gather(*asked, return_exceptions=True)
    slow.error = None
    await embedder.embed(["a"])
    assert 2 == len(slow.asked)
    assert {"failed": 1, "embedded": 1} == told.texts


async def test_when_the_first_gives_up_the_next_takes_over() -> None:
    """A client that hangs up must not take the others' vector with it."""
    slow = Slow()
    embedder = cached(slow)
    slow.may_go.clear()
    first, second, third = (asyncio.ensure_future(embedder.embed(["a"])) for _ in range(3))
    await asyncio.sleep(0)
    first.cancel()
    for _ in range(3):
        await asyncio.sleep(0)
    slow.may_go.set()
    one, other = await asyncio.gather(second, third)
    assert first.cancelled()
    assert np.array_equal(one, other)
    assert [["a"], ["a"]] == slow.asked


async def test_no_texts_and_a_check() -> None:
    """Nothing is asked for nothing; a check asks whatever is kept."""
    slow = Slow()
    embedder = cached(slow)
    assert (0, 8) == (await embedder.embed([])).shape
    await embedder.check()
    await embedder.check()
    assert [["ping"], ["ping"]] == slow.asked


async def test_a_lone_surrogate_has_a_hash_too() -> None:
    """Text that has no UTF-8 is still text to be told apart."""
    slow = Slow()
    embedder = cached(slow)
    with pytest.raises(UnicodeEncodeError):
        await embedder.embed(["\ud800"])
    assert 0 == embedder.kept
