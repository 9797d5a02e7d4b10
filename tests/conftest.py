"""What every test shares. `CI_NO_SKIPS=1` turns a skipped test into a failure: what CI skips nobody tests."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator

import pytest

from tests.support.acl import shipped_acl
from tests.support.redis_fleet import ClusterFleet
from tests.support.redis_server import RedisServer

ALONE_IN = ("docs", "e2e", "faults")


def _skip_reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2]
    return str(report.longrepr)


def _forbid_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and os.environ.get("CI_NO_SKIPS") == "1" and not hasattr(report, "wasxfail"):
        report.longrepr = f"CI_NO_SKIPS=1 and this was skipped. {_skip_reason(report)}"
        report.outcome = "failed"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test that skips itself, where skips are forbidden."""
    report = yield
    _forbid_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Fail a test file that skips itself, where skips are forbidden."""
    report = yield
    _forbid_skip(report)
    return report


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are processors: a third of the tests' time is waiting."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse a test that `make test` would never run: those that run alone it looks for in three folders."""
    for item in items:
        if item.get_closest_marker("alone") and item.path.parent.name not in ALONE_IN:
            raise pytest.UsageError(f"{item.nodeid} is marked `alone`, which `make test` looks for in {ALONE_IN} only")


@pytest.fixture(scope="session")
def session_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis with the user of `deploy/redis/users.acl`, for the whole session; tests ask for `shared_redis`."""
    with RedisServer(tmp_path_factory.mktemp("redis"), acl=shipped_acl()) as server:
        yield server


@pytest.fixture
def shared_redis(session_redis: RedisServer) -> RedisServer:
    """That Redis, empty. A test that breaks a server starts one of its own."""
    session_redis.cli("FLUSHALL")
    return session_redis


@pytest.fixture(scope="session")
def session_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterFleet]:
    """A Redis Cluster of six nodes that know the shipped user, for the whole session; tests ask for `shared_cluster`."""
    with ClusterFleet(tmp_path_factory.mktemp("cluster")) as fleet:
        for node in fleet.nodes:
            node.cli("ACL", "SETUSER", *shipped_acl().split()[1:])
        yield fleet


@pytest.fixture
def shared_cluster(session_cluster: ClusterFleet) -> ClusterFleet:
    """That Cluster, empty."""
    for node in session_cluster.nodes[:3]:
        node.cli("FLUSHALL")
    return session_cluster
