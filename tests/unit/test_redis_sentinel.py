"""The client at real Sentinels: the master that they name is used, whoever asks with the right password."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from ai_cache_extproc.clients.redis.address import Server
from ai_cache_extproc.config.model import RedisStore as Settings
from ai_cache_extproc.errors import BackendUnavailable
from ai_cache_extproc.model import Hearing
from tests.support.redis_fleet import SentinelFleet
from tests.support.redis_server import server_port
from tests.support.shared_redis import Breakers, answers, settings_for, tended, until

KEY = "aicache:key"
PASSWORD, SENTINEL_PASSWORD = "data-secret", "sentinel-secret"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SentinelFleet]:
    """A master, its replica and three Sentinels, with a password for each kind."""
    folder = tmp_path_factory.mktemp("sentinel")
    with SentinelFleet(folder, password=PASSWORD, sentinel_password=SENTINEL_PASSWORD) as running:
        yield running


def settings_of(fleet: SentinelFleet, *urls: str, **sentinel: object) -> Settings:
    """Settings for the master of a fleet, with the right passwords unless others are given."""
    asked = {"master": fleet.master_name, "password": SENTINEL_PASSWORD} | sentinel
    found = [f"redis://{host}:{port}" for host, port in fleet.sentinels]
    return settings_for(*(urls or found), username=None, password=PASSWORD, sentinel=asked)


async def test_the_master_is_found_through_any_sentinel(fleet: SentinelFleet) -> None:
    """Those that do not answer are passed over."""
    host, port = fleet.sentinels[-1]
    dead, alive = f"redis://127.0.0.1:{server_port()}", f"redis://{host}:{port}"
    breakers = Breakers()
    async with tended(settings_of(fleet, dead, alive), watch=breakers) as store:
        await store.set(KEY, b"value", ttl_s=60)
        assert b"value" == fleet.master.cli("GET", KEY)
        assert {("redis", f"127.0.0.1:{fleet.master.port}")} == set(breakers.now)


@pytest.mark.parametrize(
    "sentinel", [{"password": "wrong"}, {"password": None}, {"master": "another"}], ids=["wrong", "none", "unknown"]
)
async def test_without_a_master_everything_is_refused(fleet: SentinelFleet, sentinel: dict[str, object]) -> None:
    """A wrong password, or a name that nobody watches, is told once in the log and tried again."""
    with capture_logs() as logs:
        async with tended(settings_of(fleet, **sentinel), connected=False) as store:
            await until(lambda: any(line["event"] == "redis_not_found" for line in logs))
            with pytest.raises(BackendUnavailable, match="redis GET: no server is known for this key"):
                await store.get(KEY)
            with pytest.raises(BackendUnavailable, match="redis PING: not every key has a server"):
                await store.check()
            assert Hearing.LOST is store._client.hearing
            await asyncio.sleep(0.05)
    assert 1 == sum(line["event"] == "redis_not_found" for line in logs)


async def test_a_promoted_replica_takes_over(fleet: SentinelFleet) -> None:
    """The new master is used as soon as the Sentinels name it; the old one is left, also when it comes back."""
    breakers = Breakers()
    async with tended(settings_of(fleet), watch=breakers) as store:
        await store.set(KEY, b"before", ttl_s=60)
        old = fleet.kill_master()
        await until(lambda: store._client.hearing is Hearing.LOST)
        promoted = await asyncio.to_thread(fleet.wait_for_promotion)
        await until(lambda: answers(store))
        assert Server("127.0.0.1", promoted.port) == store._client._layout.owner(KEY.encode())
        await store.set(KEY, b"after", ttl_s=60)
        assert b"after" == promoted.cli("GET", KEY)
        assert {("redis", f"127.0.0.1:{promoted.port}")} == set(breakers.now)
        old.start()
        await asyncio.to_thread(fleet.wait_for_return, old)
        assert b"after" == await store.get(KEY)
        assert Hearing.ALL is store._client.hearing
