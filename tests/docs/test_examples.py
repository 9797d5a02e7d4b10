"""Every example and the quickstart, followed as their pages say, with a real Envoy, a real Redis and the small upstream."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gateway import ROOT
from tests.support.pages import Reader, blocks
from tests.support.redis_server import RedisServer

EXAMPLES = ROOT / "examples"


def statuses(printed: str) -> list[str]:
    """What the cache said to each request, with its reason."""
    said = re.findall(r"^x-ai-cache-status: (\w+)\s+(?:x-ai-cache-reason: (\w+))?", printed, re.MULTILINE)
    return [f"{status} {reason}".strip() for status, reason in said]


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One for all examples."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


def follow(name: str, folder: Path, redis: RedisServer | None = None) -> list[str]:
    """What each block of an example printed."""
    with Reader(folder, ports={} if redis is None else {6379: redis.port}) as reader:
        return reader.follow(EXAMPLES / name / "README.md")


def test_quickstart(tmp_path: Path) -> None:
    """The page's second way ends as it says, and the checks of its fourth find nothing; `tests/e2e/test_demo.py` is its first.

    Then the example, with the same three processes and another question: a miss, a hit as a stream, a miss for another
    caller, a bypass for nobody, and the SDK's hit.
    """
    _, start, *others = blocks(ROOT / "docs" / "quickstart.md")
    installs, starts, *asking = blocks(EXAMPLES / "quickstart" / "README.md")
    assert start == installs + starts
    with Reader(tmp_path) as reader:
        _, asked, sdk, checked = [reader.run(block) for block in (start, *others)]
        assert ["MISS", "HIT"] == statuses(asked)
        assert sdk.startswith("HIT ")
        assert "good" in checked
        first, streamed, others_asked, sdk, figures = [
            reader.run(block.replace("a star?", "a planet?")) for block in asking
        ]
    assert ["MISS"] == statuses(first)
    assert ["HIT"] == statuses(streamed)
    assert "data: [DONE]" in streamed
    assert ["MISS", "BYPASS no_credential"] == statuses(others_asked)
    assert sdk.startswith("HIT ")
    assert "4 hits, 3 misses, 1 bypassed" in figures


def test_higress_migration(tmp_path: Path, redis: RedisServer) -> None:
    """The plugin's answer is a hit at once, ours is found by the plugin, and the converted document is a good one."""
    kept, checked, _, hit, missed, converted = follow("higress_migration", tmp_path, redis)
    assert "True" in kept
    assert "good, a document of Higress' ai-cache" in checked
    assert ["HIT"] == statuses(hit)
    assert "A ball of gas." in hit
    assert ["MISS"] == statuses(missed)
    assert "Why is the sky blue?" in missed.rpartition("}")[2], "what the plugin's own GET finds"
    assert "higress-ai-cache:" in converted


def test_apisix_migration(tmp_path: Path, redis: RedisServer) -> None:
    """The tenant is part of who shares, its header and the one that bypasses are shown to the sidecar."""
    page = EXAMPLES / "apisix_migration" / "README.md"
    with Reader(tmp_path, ports={6379: redis.port}) as reader:
        checked, _, _, first, others, converted = reader.follow(page)
        again = reader.run(blocks(page)[3])
    assert "x-tenant" in checked
    assert ["MISS"] == statuses(first)
    assert ["HIT"] == statuses(again)
    assert ["MISS", "BYPASS bypass_on"] == statuses(others)
    assert "x-tenant" in converted


@pytest.mark.alone
def test_semantic(tmp_path: Path) -> None:
    """Other words are a hit with their similarity, an opposite is a miss."""
    checked, _, first, hit, missed = follow("semantic", tmp_path)
    assert "semantic" in checked
    assert ["MISS"] == statuses(first)
    assert ["HIT"] == statuses(hit)
    assert re.search(r"^x-ai-cache-similarity: 0\.9\d{3}", hit, re.MULTILINE)
    assert ["MISS", "MISS"] == statuses(missed)
