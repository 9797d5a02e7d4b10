"""What every index does, whatever it is made of."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest

from ai_cache_extproc.errors import BackendRejected
from ai_cache_extproc.indexes.base import Index
from tests.contract.index_rigs import DIMENSIONS, OTHER, PARTITION, RIGS, Clock, Servers, at, axis, point
from tests.support.real_vectors import chroma, searching_redis
from tests.support.redis_server import RedisServer


@pytest.fixture(scope="module")
def searching_redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis with the query engine, for this file."""
    with searching_redis(tmp_path_factory.mktemp("redisearch")) as server:
        yield server


@pytest.fixture(scope="module")
def chroma_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Chroma server, for this file."""
    with chroma(tmp_path_factory.mktemp("chroma") / "data") as url:
        yield url


@pytest.fixture
def clock() -> Clock:
    """The clock that the index under test reads."""
    return Clock()


# The last parameter to change, so that of the heavy servers one at a time has something to do.
@pytest.fixture(params=RIGS)
async def index(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> AsyncIterator[Index]:
    """Each index in turn, empty, open and prepared for eight dimensions."""
    async with RIGS[request.param](Servers(request, tmp_path), clock) as opened:
        yield opened


async def test_scores_are_cosines(index: Index) -> None:
    """Equal, near, orthogonal and opposite vectors give 1, 0.97, 0 and -1, best first."""
    vectors = [axis(0, -1), axis(1), axis(0), at(0.97)]
    await index.add([point(number, vector) for number, vector in enumerate(vectors)])
    found = await index.search(PARTITION, axis(0), top_k=4)
    assert [f"{number:032x}" for number in (2, 3, 1, 0)] == [match.id.rpartition(":")[2] for match in found]
    assert [1.0, 0.97, 0.0, -1.0] == pytest.approx([match.similarity for match in found], abs=1e-3)
    assert all(-1.0 <= match.similarity <= 1.0 for match in found)


async def test_another_partition_never_matches(index: Index) -> None:
    """A canary that is equal to what is asked, elsewhere, is not found, nor does it take anyone's place."""
    await index.add([point(number, axis(0), partition=OTHER) for number in range(20)])
    assert [] == await index.search(PARTITION, axis(0), top_k=4)
    await index.add([point(20, at(0.1))])
    (match,) = await index.search(PARTITION, axis(0), top_k=4)
    assert "aicache:0:scope:20" == match.key


async def test_what_has_expired_never_matches(index: Index, clock: Clock) -> None:
    """From its hour on a point is gone, and those that are left are still found."""
    await index.add([point(number, axis(0), expires_s=clock() + 10) for number in range(6)])
    await index.add([point(6, at(0.9), expires_s=clock() + 50)])
    assert 4 == len(await index.search(PARTITION, axis(0), top_k=4))
    clock.now_s += 10
    assert ["aicache:0:scope:6"] == [match.key for match in await index.search(PARTITION, axis(0), top_k=4)]
    clock.now_s += 40
    assert [] == await index.search(PARTITION, axis(0), top_k=4)


async def test_facts_come_back_as_they_were(index: Index) -> None:
    """Key, times, and whatever the payload holds in any script."""
    text = '星星是什么? "quoted" \\ and\nmore: %_{}[]'
    payload = {"response": text, "format": "json"}
    await index.add([point(1, axis(0), created_s=1_799_999_123.0, expires_s=1_800_000_077.0, payload=payload)])
    (match,) = await index.search(PARTITION, axis(0), top_k=1)
    assert ("aicache:0:scope:1", 1_799_999_123.0, 1_800_000_077.0) == (match.key, match.created_s, match.expires_s)
    assert payload == match.payload


async def test_a_point_without_an_end_is_found_later(index: Index, clock: Clock) -> None:
    """Infinity survives whatever the server stores."""
    await index.add([point(1, axis(0), expires_s=float("inf"))])
    clock.now_s += 300_000_000
    (match,) = await index.search(PARTITION, axis(0), top_k=1)
    assert float("inf") == match.expires_s


async def test_a_later_point_takes_the_place(index: Index) -> None:
    """Of two points with one id the later is found, with its facts."""
    await index.add([point(1, axis(0), key="earlier")])
    await index.add([point(1, axis(1), key="later")])
    (match,) = await index.search(PARTITION, axis(1), top_k=4)
    assert "later" == match.key
    assert 1.0 == pytest.approx(match.similarity, abs=1e-3)
    assert 1 == (await index.stats()).points


async def test_deleted_points_are_gone(index: Index) -> None:
    """By the ids that matches carry; the others stay, and an id that nobody has is no fault."""
    await index.add([point(number, at(1 - number / 10)) for number in range(4)])
    found = await index.search(PARTITION, axis(0), top_k=4)
    await index.delete([found[0].id, found[2].id])
    await index.delete(["f" * 32])
    left = [match.key for match in await index.search(PARTITION, axis(0), top_k=4)]
    assert ["aicache:0:scope:1", "aicache:0:scope:3"] == left


async def test_a_partition_is_deleted_alone(index: Index) -> None:
    """Its points go, those of another stay."""
    await index.add([point(number, axis(0)) for number in range(30)])
    await index.add([point(30, axis(0), partition=OTHER)])
    await index.delete_partition(PARTITION)
    assert [] == await index.search(PARTITION, axis(0), top_k=4)
    assert 1 == len(await index.search(OTHER, axis(0), top_k=4))
    assert 1 == (await index.stats()).points


async def test_everything_is_cleared(index: Index) -> None:
    """After it nothing is found, and points can be added as before."""
    await index.add([point(1, axis(0)), point(2, axis(0), partition=OTHER)])
    await index.clear()
    assert [] == [*await index.search(PARTITION, axis(0), top_k=4), *await index.search(OTHER, axis(0), top_k=4)]
    await index.add([point(3, axis(0))])
    assert 1 == len(await index.search(PARTITION, axis(0), top_k=4))


NO_UNIT_VECTORS = {
    "nan": np.full(DIMENSIONS, np.nan, np.float32),
    "zero": np.zeros(DIMENSIONS, np.float32),
    "too long": axis(0) * np.float32(1.01),
    "too short": axis(0) * np.float32(0.99),
    "half the dimensions": np.array([1, 0, 0, 0], np.float32),
    "a row of a matrix": axis(0).reshape(1, DIMENSIONS),
    "infinite": np.full(DIMENSIONS, np.inf, np.float32),
}


async def test_what_is_no_unit_vector_is_refused(index: Index) -> None:
    """Neither stored nor searched for, and the points that came with it are not stored either."""
    for vector in NO_UNIT_VECTORS.values():
        with pytest.raises(BackendRejected):
            await index.add([point(1, axis(0)), point(2, vector)])
        with pytest.raises(BackendRejected):
            await index.search(PARTITION, vector, top_k=4)
    assert [] == await index.search(PARTITION, axis(0), top_k=4)


async def test_the_nearest_of_many_are_found(index: Index) -> None:
    """Among 300 points of three partitions, exactly those that comparing all of them finds."""
    random = np.random.default_rng(7)
    vectors = random.standard_normal((300, DIMENSIONS)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    partitions = [f"{number % 3:032x}" for number in range(300)]
    await index.add([point(number, vectors[number], partition=partitions[number]) for number in range(len(vectors))])
    for asked in range(0, 300, 50):
        cosines = {number: float(vectors[number] @ vectors[asked]) for number in range(asked % 3, 300, 3)}
        best = sorted(cosines, key=lambda number: -cosines[number])[:4]
        found = await index.search(partitions[asked], vectors[asked], top_k=4)
        assert [f"aicache:0:scope:{number}" for number in best] == [match.key for match in found]


async def test_it_says_that_it_works(index: Index) -> None:
    """A check returns, and an empty index holds nothing."""
    await index.check()
    assert 0 == (await index.stats()).points


async def test_a_partition_is_a_digest(index: Index) -> None:
    """What could be read as a part of a filter never reaches one."""
    for text in ("", "x" * 32, 'a" or "b', "a' or 'a'='a", "*", "a}|{b"):
        if index.name == "embedded":
            assert [] == await index.search(text, axis(0), top_k=4)
            continue
        with pytest.raises(BackendRejected):
            await index.search(text, axis(0), top_k=4)
