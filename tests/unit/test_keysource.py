"""Where the identity key comes from: the document, or the store that everyone shares, which may forget it or be away."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from ai_cache_extproc.cache import keysource as module
from ai_cache_extproc.cache.keysource import KeySource
from ai_cache_extproc.errors import BackendError, BackendRejected, BackendUnavailable
from ai_cache_extproc.keys.identity import Keyring
from ai_cache_extproc.telemetry.metrics import Metrics
from tests.support.shared_redis import until

KEPT, OTHER = b"k" * 32, b"o" * 32
GONE = BackendUnavailable("redis", "identity_key", "gone")


class Keeper:
    """Keeps a key, fails or hangs as it is told."""

    def __init__(self, kept: bytes | None = None) -> None:
        self.kept = kept
        self.fault: BackendError | None = None
        self.hangs = False
        self.asked = 0

    def forget(self) -> None:
        """As after a flush."""
        self.kept = None

    async def identity_key(self, proposed: bytes | None = None) -> bytes:
        self.asked += 1
        if self.hangs:
            await asyncio.Event().wait()
        if self.fault is not None:
            raise self.fault
        self.kept = self.kept or proposed or KEPT
        return self.kept


def source_of(keeper: Keeper, configured: bytes | None = None) -> KeySource:
    """A source that asks this keeper."""
    metrics = Metrics(CollectorRegistry())
    return KeySource(keeper, configured=configured, prefix="aicache:", metrics=metrics)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pause between two looks is worth waiting for in a test."""
    for name in ("_RETRY_S", "_LOOK_S"):
        monkeypatch.setattr(module, name, 0.001)


async def test_a_configured_key_needs_no_store() -> None:
    """It is there from the first moment, and the store is never asked."""
    keeper = Keeper()
    keeper.fault = GONE
    source = source_of(keeper, configured=OTHER)
    assert (Keyring(OTHER, "aicache:", 0), "") == (source.current, source.problem)
    assert await source.read()
    await source.read_within(0)
    await source.run()
    assert 0 == keeper.asked


async def test_until_the_key_is_read_there_is_none() -> None:
    """Nobody makes one up: entries under it would be found by nobody else."""
    keeper = Keeper()
    source = source_of(keeper)
    assert (None, "not read yet") == (source.current, source.problem)
    keeper.fault = GONE
    assert not await source.read()
    assert (None, "redis identity_key: gone") == (source.current, source.problem)
    keeper.fault = None
    assert await source.read()
    assert (Keyring(KEPT, "aicache:", 0), "") == (source.current, source.problem)


async def test_a_store_that_hangs_is_given_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt has its time, after which the problem is known by name."""
    monkeypatch.setattr(module, "_ATTEMPT_S_MAX", 0.01)
    keeper = Keeper()
    keeper.hangs = True
    source = source_of(keeper)
    assert not await source.read()
    assert source.problem.startswith("store identity_key: no answer in")


async def test_a_start_waits_a_little_for_the_key(hurried: None) -> None:
    """As soon as it is read, or until the time is over, which the log then says."""
    keeper = Keeper()
    keeper.fault = GONE
    source = source_of(keeper)
    with capture_logs() as logs:
        await source.read_within(0.01)
    assert keeper.asked > 1
    (line,) = logs
    assert ("no_identity_key", "redis identity_key: gone") == (line["event"], line["reason"])
    waiting = asyncio.ensure_future(source.read_within(30))
    await asyncio.sleep(0)
    keeper.fault = None
    await waiting
    assert source.current is not None


async def test_it_heals_by_itself(hurried: None) -> None:
    """However long the store was away, the key is read once it is back."""
    keeper = Keeper()
    keeper.fault = GONE
    source = source_of(keeper)
    running = asyncio.create_task(source.run())
    await until(lambda: keeper.asked > 3)
    assert source.current is None
    keeper.fault = None
    await until(lambda: source.current is not None)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_key_that_the_store_forgot_is_put_back(hurried: None) -> None:
    """A flush or an eviction must not change the names of everything that is cached."""
    keeper = Keeper(OTHER)
    source = source_of(keeper)
    await source.read()
    running = asyncio.create_task(source.run())
    keeper.forget()
    await until(lambda: keeper.kept == OTHER)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_while_the_store_is_away_the_known_key_stays() -> None:
    """It is still the one that everyone shares."""
    keeper = Keeper()
    source = source_of(keeper)
    await source.read()
    known = source.current
    for fault in (GONE, BackendRejected("redis", "identity_key", "odd")):
        keeper.fault = fault
        assert await source.read()
    assert (known, "") == (source.current, source.problem)


async def test_another_key_in_the_store_is_followed() -> None:
    """Whoever shares the store must agree; what was cached under the former key is out of reach, which the log says."""
    keeper = Keeper()
    source = source_of(keeper)
    await source.read()
    keeper.kept = OTHER
    with capture_logs() as logs:
        await source.read()
        await source.read()
    assert Keyring(OTHER, "aicache:", 0) == source.current
    assert ["identity_key_changed"] == [line["event"] for line in logs]
