"""Several sidecars over one store ask the upstream once, and what goes wrong with one of them harms no other."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.faults.conftest import Tell
from tests.support.crowd import Answered, Line, ask_all, echo, text_in, words_for
from tests.support.figures import scrape
from tests.support.gateway import PATIENT, Gateway, redis_store
from tests.support.redis_server import RedisServer
from tests.support.upstream import Answering, End, Received, Script, answer, completion

pytestmark = pytest.mark.alone

CLIENTS = 1000
FOLLOWERS = 200
THINKS_S = 2.5
LEADER_S = 0.7
FLIGHT_WAIT_S = 5.0
AFTERWARDS = 20


@pytest.fixture(scope="module")
def replicas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Gateway]]:
    """Two sidecars, each behind an Envoy of its own, over one Redis and one upstream."""
    folder: Path = tmp_path_factory.mktemp("replicas")
    with RedisServer(folder / "redis") as redis:
        config = {
            "store": redis_store(redis.port),
            "limits": {"answer_bytes_max": 64 * 1024},
            "rules": [{"name": "default", "ignore_upstream_cache_control": False}],
            "lookup": {"flight_wait_ms": FLIGHT_WAIT_S * 1000, "flight_wait_stream_ms": FLIGHT_WAIT_S * 1000},
        }
        with (
            Gateway(folder / "a", config, filter_says=PATIENT) as first,
            Gateway(folder / "b", config, filter_says=PATIENT, upstream=first.upstream) as second,
        ):
            yield [first, second]


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[list[Gateway]]:
    """Two worker processes behind one Envoy, over one SQLite file."""
    config = {"lookup": {"flight_wait_ms": FLIGHT_WAIT_S * 1000, "flight_wait_stream_ms": FLIGHT_WAIT_S * 1000}}
    with Gateway(tmp_path, config, workers=2, filter_says=PATIENT) as running:
        yield [running]


def slowly(received: Received) -> Script:
    """Answer after a time in which all can gather."""
    return [THINKS_S, *echo(received)]


async def stampede(gateways: Sequence[Gateway], question: str, *, streamed: bool) -> Counter[str]:
    """Ask the same a thousand times at once; the labels of the answers, which are all right."""
    upstream = gateways[0].upstream
    upstream.fresh(slowly)
    ports = [gateway.port for gateway in gateways]
    answers = await ask_all(ports, [question] * CLIENTS, at_once=CLIENTS, streamed=streamed)
    assert {"".join(words_for(question))} == {text_in(answered.body, streamed=streamed) for answered in answers}
    return Counter(answered.label for answered in answers)


@pytest.mark.slow
@pytest.mark.parametrize("streamed", [False, True], ids=["json", "stream"])
async def test_replicas_ask_once(replicas: list[Gateway], tell: Tell, streamed: bool) -> None:
    """A thousand identical cold questions at two replicas cost the upstream one call."""
    started = time.monotonic()
    labels = await stampede(replicas, f"cold {streamed}", streamed=streamed)
    tell(labels=dict(labels), calls=len(replicas[0].upstream.received), took_s=time.monotonic() - started)
    assert 1 == len(replicas[0].upstream.received)
    assert {"MISS": 1, "HIT": CLIENTS - 1} == labels


@pytest.mark.slow
async def test_workers_ask_once(workers: list[Gateway], tell: Tell) -> None:
    """The same over two worker processes that share a file."""
    started = time.monotonic()
    labels = await stampede(workers, "cold", streamed=False)
    tell(labels=dict(labels), calls=len(workers[0].upstream.received), took_s=time.monotonic() - started)
    assert 1 == len(workers[0].upstream.received)
    assert {"MISS": 1, "HIT": CLIENTS - 1} == labels


def failing_first(failure: Script) -> Answering:
    """The first call fails after a while, the next ones are answered."""
    calls = iter(range(1_000_000))
    return lambda received: [LEADER_S, *failure] if next(calls) == 0 else echo(received)


async def led(
    replicas: list[Gateway], question: str, *, leaves: bool = False
) -> tuple[Answered | None, list[Answered], float]:
    """Ask as a leader, then as followers at both replicas; their answers, and the slowest follower's wait.

    leaves: the leader hangs up meanwhile.
    """
    upstream = replicas[0].upstream
    leader = Line(replicas[0].port)
    asked = asyncio.create_task(leader.ask(question))
    await asyncio.to_thread(upstream.wait_for, 1)
    started = time.monotonic()
    ports = [replica.port for replica in replicas]
    followers = asyncio.create_task(ask_all(ports, [question] * FOLLOWERS, at_once=FOLLOWERS))
    if leaves:
        await asyncio.sleep(LEADER_S / 2)
        asked.cancel()
    (first,) = await asyncio.gather(asked, return_exceptions=True)
    answers = await followers
    await leader.close()
    return (first if isinstance(first, Answered) else None), answers, time.monotonic() - started


@pytest.mark.slow
@pytest.mark.parametrize(
    ("failure", "status"),
    [
        pytest.param(answer(b"{}", status="500 Internal Server Error"), 500, id="500"),
        pytest.param([End.RESET], 503, id="reset"),
        pytest.param([End.FIN], 503, id="closed without a word"),
        pytest.param([5.0], None, id="client leaves"),
    ],
)
async def test_nobody_gets_the_leaders_failure(
    replicas: list[Gateway], tell: Tell, request: pytest.FixtureRequest, failure: Script, status: int | None
) -> None:
    """Everyone but the leader gets a whole answer, sooner than a flight may last."""
    replicas[0].upstream.fresh(failing_first(failure))
    question = f"fails: {request.node.callspec.id}"
    first, answers, took_s = await led(replicas, question, leaves=status is None)
    labels = Counter(answered.label for answered in answers)
    tell(labels=dict(labels), calls=len(replicas[0].upstream.received), slowest_follower_s=took_s)
    assert status == (first and first.status)
    assert {(200, "".join(words_for(question)))} == {
        (answered.status, text_in(answered.body, streamed=False)) for answered in answers
    }
    assert took_s < FLIGHT_WAIT_S
    assert "HIT" == (await ask_all([replicas[1].port], [question]))[0].label


def cut_short(received: Received) -> Script:
    """A whole answer that the upstream itself says is not the end."""
    body = completion(
        choices=[{"index": 0, "message": {"role": "assistant", "content": "A"}, "finish_reason": "length"}]
    )
    return [LEADER_S, *answer(body)]


def oversized(received: Received) -> Script:
    """A whole answer above the bound."""
    return [LEADER_S, *answer(completion("x" * 100_000))]


def forbidden(received: Received) -> Script:
    """A whole answer that may not be kept by anyone."""
    return [LEADER_S, *answer(completion(), headers=[("cache-control", "no-store")])]


@pytest.mark.slow
@pytest.mark.parametrize("uncacheable", [cut_short, oversized, forbidden], ids=["length", "oversized", "no-store"])
async def test_nobody_waits_for_what_is_not_kept(
    replicas: list[Gateway], tell: Tell, uncacheable: Callable[[Received], Script]
) -> None:
    """Once an answer has proved unfit to keep, those who waited go upstream, and later ones do not queue up."""
    upstream, question = replicas[0].upstream, f"refused: {uncacheable.__name__}"
    upstream.fresh(uncacheable)
    first, answers, took_s = await led(replicas, question)
    assert first is not None
    assert {(200, first.body)} == {(answered.status, answered.body) for answered in answers}
    calls, waited = len(upstream.received), [_waits(replica) for replica in replicas]
    ports = [replica.port for replica in replicas]
    later = await ask_all(ports, [question] * AFTERWARDS, at_once=AFTERWARDS)
    tell(calls=calls, slowest_follower_s=took_s)
    assert {"MISS"} == {answered.label for answered in later}
    assert AFTERWARDS == len(upstream.received) - calls
    assert waited == [_waits(replica) for replica in replicas], "somebody queued up"
    assert took_s < FLIGHT_WAIT_S


def _waits(replica: Gateway) -> float:
    """How many requests have waited for another's answer."""
    figures = scrape(replica)
    return sum(figures.total("aicache_flights_total", result=name) for name in ("followed", "timed_out", "abandoned"))
