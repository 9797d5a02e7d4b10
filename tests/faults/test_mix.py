"""All faults at random, for as long as it takes: every answer is the upstream's, or a whole one to the same question."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pytest

from tests.faults.conftest import Tell
from tests.support.crowd import Crowd, echo
from tests.support.fault_proxy import FaultProxy
from tests.support.figures import open_files, rss, scrape
from tests.support.gateway import Gateway, redis_store
from tests.support.redis_server import RedisServer
from tests.support.soak import MIX_S, SOAK, either

pytestmark = pytest.mark.alone

SEED = 30
LASTS_S = either(6.0, MIX_S)
HEALED_S_MAX = either(10.0, 6.0)
"""A connection is given up after three seconds of silence, a new one takes up to one and a half."""
ROOM = 100_000
RSS_GROWTH_MAX = 0.02
LINES = (b"LOADING", b"READONLY", b"NOAUTH", b"BUSY", b"OOM", b"MOVED 3999 127.0.0.1:6381", b"WRONGTYPE", b"ERR")


@dataclass
class Mischief:
    """Two sidecars over one Redis, which they reach through one proxy, and what can be done to them."""

    redis: RedisServer
    proxy: FaultProxy
    gateways: list[Gateway]
    crowd: Crowd
    chance: random.Random

    def play(self, kinds: Sequence[Callable[[Mischief], Iterator[None]]], played: Counter[str]) -> None:
        """Do one thing for a while, and sometimes another one meanwhile."""
        kind = self.chance.choice(kinds)
        played[kind.__name__] += 1
        with contextmanager(kind)(self):
            self.crowd.go_on(self.chance.uniform(0.1, 1.2))
            if self.chance.random() < 1 / 3:
                self.play([other for other in kinds if other is not kind], played)


def killed(mischief: Mischief) -> Iterator[None]:
    """Redis is gone, and comes back empty."""
    mischief.redis.kill()
    yield
    mischief.redis.start()


def frozen(mischief: Mischief) -> Iterator[None]:
    """Redis stands still."""
    if mischief.redis.running:
        mischief.redis.freeze()
    yield
    mischief.redis.thaw()


def flushed(mischief: Mischief) -> Iterator[None]:
    """Everything in Redis is gone."""
    _told(mischief, "FLUSHALL")
    yield


def full(mischief: Mischief) -> Iterator[None]:
    """Redis has hardly any memory left, and refuses writes or evicts."""
    _told(mischief, "CONFIG", "SET", "maxmemory-policy", mischief.chance.choice(["noeviction", "allkeys-lru"]))
    _told(mischief, "CONFIG", "SET", "maxmemory", 2_000_000 + ROOM)
    yield
    _told(mischief, "CONFIG", "SET", "maxmemory", 0)


def paused(mischief: Mischief) -> Iterator[None]:
    """Redis answers late."""
    _told(mischief, "CLIENT", "PAUSE", 300, mischief.chance.choice(["ALL", "WRITE"]))
    yield


def cut_off(mischief: Mischief) -> Iterator[None]:
    """Every connection is reset, and for a while none is accepted."""
    mischief.proxy.refuse()
    mischief.proxy.drop()
    yield
    mischief.proxy.accept()


def lying(mischief: Mischief) -> Iterator[None]:
    """The proxy breaks what it carries."""
    proxy, chance = mischief.proxy, mischief.chance
    faults: list[Callable[[], None]] = [
        lambda: proxy.delay(chance.choice([0.01, 0.04, 0.2, 5.0])),
        lambda: proxy.drip(chance.choice([1.0, 5_000.0])),
        lambda: proxy.reset_mid_reply(after_bytes=chance.randrange(200)),
        proxy.half_open,
        lambda: proxy.garbage(chance.randbytes(40)),
        lambda: proxy.garbage(b"+OK\r\n"),
        lambda: proxy.reply_with(b"-%b said the test\r\n" % chance.choice(LINES)),
        lambda: proxy.reply_with(b"-%b said the test\r\n" % chance.choice(LINES), only=[chance.choice(["GET", "SET"])]),
    ]
    chance.choice(faults)()
    yield
    proxy.pass_through()


def sidecar_ended(mischief: Mischief) -> Iterator[None]:
    """One sidecar is killed or told to stop, and started again."""
    gateway = mischief.chance.choice(mischief.gateways)
    gateway.sidecar.stop(mischief.chance.choice([signal.SIGKILL, signal.SIGTERM]))
    yield
    gateway.start_sidecar()


def sidecar_frozen(mischief: Mischief) -> Iterator[None]:
    """One sidecar stands still."""
    gateway = mischief.chance.choice(mischief.gateways)
    # Once more is harmless, and by then it may be another process.
    sidecar = gateway.sidecar
    sidecar.send(signal.SIGSTOP)
    yield
    sidecar.send(signal.SIGCONT)


def _told(mischief: Mischief, *command: str | int) -> None:
    """Tell Redis, if it can be told anything."""
    if mischief.redis.running and not mischief.redis.frozen:
        mischief.redis.cli(*command)


OF_REDIS = [killed, frozen, flushed, full, paused, cut_off, lying, lying]
OF_SIDECARS = [sidecar_ended, sidecar_frozen]


@pytest.mark.slow
@pytest.mark.parametrize("everything", [False, True], ids=["redis", "redis and sidecars"])
def test_a_mix_of_faults(tmp_path: Path, tell: Tell, everything: bool) -> None:
    """Nobody gets a wrong, cut or failed answer; when all is over all works, and nothing has piled up."""
    played: Counter[str] = Counter()
    resident: list[int] = []
    with RedisServer(tmp_path / "redis") as redis, FaultProxy(("127.0.0.1", redis.port)) as proxy:
        config = {
            "store": redis_store(proxy.port),
            "near": {"bytes_max": 256 * 1024},
            "lookup": {"flight_wait_ms": 1_000},
        }
        with (
            Gateway(tmp_path / "a", config) as first,
            Gateway(tmp_path / "b", config, upstream=first.upstream) as second,
            Crowd([first.port, second.port], clients=16, pause_s=0.04, seed=SEED) as crowd,
        ):
            first.upstream.fresh(echo)
            crowd.wait_for(200)
            mischief = Mischief(redis, proxy, [first, second], crowd, random.Random(SEED))
            kinds = OF_REDIS + (OF_SIDECARS * 2 if everything else [])
            until = time.monotonic() + LASTS_S
            while time.monotonic() < until:
                mischief.play(kinds, played)
                crowd.go_on(mischief.chance.uniform(0.0, 1.0))
                resident.append(rss(first.sidecar.pid))
                first.upstream.received.clear()
            healed = time.monotonic()
            back_s = max(crowd.hits_after(healed, port=gateway.port) for gateway in (first, second))
            crowd.wait_for(200)
            figures = [scrape(gateway) for gateway in (first, second)]
            files = [open_files(gateway.sidecar.pid) for gateway in (first, second)]
    half = len(resident) // 2
    growth = median(resident[half + half // 2 :]) / median(resident[half : half + half // 2]) - 1 if half > 1 else 0.0
    tell(requests=crowd.requests, failures=len(crowd.failures), labels=dict(crowd.labels()), played=dict(played))
    tell(slowest_s=crowd.slowest_s, hits_back_s=back_s, rss_mib=resident[-1] >> 20, rss_growth=growth, open_files=files)
    assert [] == crowd.failures
    assert back_s < HEALED_S_MAX
    assert {0.0} == {each.total("aicache_exchange_faults_total") for each in figures}
    assert proxy.connections_open <= 2 * len(figures)
    assert max(files) < 100
    if SOAK and not everything:
        assert growth <= RSS_GROWTH_MAX
