"""Stores that several cores share, for the tests that ask for one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.exchange.replicas import Shared
from tests.support.redis_server import RedisServer


@pytest.fixture(params=["redis", "sqlite"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Shared:
    """Each store that several processes may share, in turn, empty."""
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("shared_redis")
        return Shared(server)
    return Shared(tmp_path / "cache.db")


@pytest.fixture
def over_redis(shared_redis: RedisServer) -> Shared:
    """The session's Redis, empty."""
    return Shared(shared_redis)
