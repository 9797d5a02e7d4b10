"""A bad answer is removed everywhere: real Envoys, two sidecars over one Redis, and the command line."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.entries import TOKEN
from tests.support.gateway import PATIENT, ROOT, Gateway, redis_store
from tests.support.redis_server import RedisServer

HEARD_S_MAX = 20


@pytest.fixture(scope="module")
def replicas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Gateway]]:
    """Two sidecars, each behind an Envoy of its own, over one Redis and one upstream."""
    folder: Path = tmp_path_factory.mktemp("purge")
    with RedisServer(folder / "redis") as redis:
        config = {"store": redis_store(redis.port), "admin_access": {"token": TOKEN}}
        (folder / "token").write_text(TOKEN)
        with (
            Gateway(folder / "a", config, filter_says=PATIENT) as first,
            Gateway(folder / "b", config, filter_says=PATIENT, upstream=first.upstream) as second,
        ):
            yield [first, second]


def ask(gateway: Gateway, question: str) -> tuple[str, str]:
    """What the cache did, and the key it says."""
    body = {"model": "gpt-test", "messages": [{"role": "user", "content": question}]}
    headers = {"content-type": "application/json", "authorization": "Bearer caller"}
    # The authority is a part of who may share.
    headers["host"] = "llm.test"
    request = urllib.request.Request(f"{gateway.url}/v1/chat/completions", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as response:
        response.read()
        return response.headers["x-ai-cache-status"], response.headers["x-ai-cache-key"]


def hit_at(gateway: Gateway, question: str) -> str:
    """Ask until it is a hit, for a write is on its way behind the answer; the entry's key."""
    give_up = time.monotonic() + HEARD_S_MAX
    while (answered := ask(gateway, question))[0] != "HIT":
        assert time.monotonic() < give_up, "never a hit"
    return answered[1]


def aicache(gateway: Gateway, *arguments: str) -> dict[str, Any]:
    """What a command says for programs."""
    to = ("--admin", f"127.0.0.1:{gateway.sidecar_admin}", "--token-file", str(gateway.folder.parent / "token"))
    command = [sys.executable, "-m", "ai_cache_extproc", *arguments, *to, "--output", "json"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=60)
    document: dict[str, Any] = json.loads(ran.stdout)
    return document


def known(gateway: Gateway, purges: int) -> bool:
    """Whether a sidecar knows of so many purges."""
    url = f"http://127.0.0.1:{gateway.sidecar_admin}/purges"
    request = urllib.request.Request(url, headers={"authorization": f"Bearer {TOKEN}"})
    with urllib.request.urlopen(request, timeout=10) as response:
        return bool(json.loads(response.read())["purge"] >= purges)


@pytest.mark.parametrize("way", ["id", "model", "flush"])
def test_an_answer_that_was_purged_is_asked_again_everywhere(replicas: list[Gateway], way: str) -> None:
    """By the key that a hit shows, by a filter, and by a new epoch: the next request is a miss at both (S5)."""
    one, other = replicas
    question = f"purge by {way}"
    assert "MISS" == ask(one, question)[0]
    key = hit_at(one, question)
    assert key == hit_at(other, question)
    assert "gpt-test" == aicache(one, "inspect", key)["model"]
    filters = {"id": ("--id", key), "model": ("--model", "gpt-test"), "flush": ("--flush",)}[way]
    rehearsed = aicache(other, "purge", *filters)
    assert rehearsed["dry_run"]
    assert "HIT" == ask(one, question)[0]
    purged = aicache(other, "purge", *filters, "--yes")
    assert way == "flush" or purged["removed"] >= 1
    assert known(one, purged["purge"])
    assert "MISS" == ask(one, question)[0]
    hit_at(other, question)


def test_without_the_token_only_health_and_metrics_answer(replicas: list[Gateway]) -> None:
    """As anybody on this machine may ask (S15)."""
    (one, _) = replicas
    address = f"http://127.0.0.1:{one.sidecar_admin}"

    def status(path: str, **options: Any) -> int:
        request = urllib.request.Request(address + path, **options)
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            return error.code

    assert {200} == {status(path) for path in ("/livez", "/readyz", "/metrics")}
    guarded = (
        "/stats",
        "/version",
        "/config",
        "/entries",
        f"/entries/{'0' * 32}",
        f"/entries/{'0' * 32}?content=true",
        "/purges",
    )
    assert {401} == {status(path) for path in guarded}
    assert {401} == {status(path, data=b"{}") for path in ("/purge", "/flush")}
    assert {421} == {status(path, headers={"host": "evil.example"}) for path in ("/metrics", *guarded)}
