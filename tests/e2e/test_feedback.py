"""A bad hit is told from the terminal, and a rule that only looks serves nothing: a real Envoy, the embedded model."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.entries import TOKEN
from tests.support.figures import indexed, wait_until
from tests.support.gateway import ROOT, Gateway
from tests.support.meanings import PATIENT_EMBEDDED
from tests.support.upstream import said_back

GIVE_UP_S = 30
LAYERS = ["exact", "semantic"]
LOOKS = {
    "name": "looks",
    "match": {"hosts": ["look.test"]},
    "layers": LAYERS,
    "semantic": {"shadow": {"sample": 1, "baseline_sample": 0}},
}
DOCUMENT: dict[str, Any] = {
    "embedder": PATIENT_EMBEDDED,
    "admin_access": {"token": TOKEN},
    "rules": [LOOKS, {"name": "default", "layers": LAYERS}],
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A sidecar that matches by meaning; its upstream says back what it was asked."""
    with Gateway(tmp_path_factory.mktemp("feedback"), DOCUMENT) as running:
        running.upstream.fresh(said_back)
        (running.folder / "token").write_text(TOKEN)
        yield running


def ask(gateway: Gateway, question: str, **headers: str) -> tuple[str, str, str | None]:
    """What the cache did, the id, and how close it was."""
    body = {"model": "gpt-test", "messages": [{"role": "user", "content": question}]}
    fields = {"content-type": "application/json", "authorization": "Bearer caller", **headers}
    request = urllib.request.Request(f"{gateway.url}/v1/chat/completions", json.dumps(body).encode(), fields)
    with urllib.request.urlopen(request, timeout=30) as response:
        response.read()
        said = response.headers
        return said["x-ai-cache-status"], said["x-ai-cache-key"], said["x-ai-cache-similarity"]


def admin(gateway: Gateway, path: str, method: str = "GET") -> tuple[int, bytes]:
    """What the sidecar's admin address answers."""
    url = f"http://127.0.0.1:{gateway.sidecar_admin}{path}"
    request = urllib.request.Request(url, headers={"authorization": f"Bearer {TOKEN}"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def aicache(gateway: Gateway, *arguments: str) -> dict[str, Any]:
    """What a command says for programs."""
    to = ("--admin", f"127.0.0.1:{gateway.sidecar_admin}", "--token-file", str(gateway.folder / "token"))
    command = [sys.executable, "-m", "ai_cache_extproc", *arguments, *to, "--output", "json"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=60)
    document: dict[str, Any] = json.loads(ran.stdout)
    return document


def until_indexed(gateway: Gateway, count: int) -> None:
    """Wait until there are so many."""
    wait_until(lambda: indexed(gateway.sidecar_admin) >= count, "the answer never came into the index")


def test_a_bad_hit_never_comes_back(gateway: Gateway) -> None:
    """The id of the hit parts the pair; each question then has an answer of its own, and DELETE takes one away."""
    assert ask(gateway, "How do I reset my password?")[0] == "MISS"
    until_indexed(gateway, 1)
    status, id_, similarity = ask(gateway, "How can I reset my password?")
    assert (status, similarity is None) == ("HIT", False)
    give_up = time.monotonic() + GIVE_UP_S
    # The alias that knows the pair is stored behind the hit.
    while admin(gateway, f"/entries/{id_}")[0] != 200:
        assert time.monotonic() < give_up, "the hit was never kept"
    assert id_ in aicache(gateway, "wrong", id_)["pair"]
    assert ask(gateway, "How can I reset my password?")[0] == "MISS"
    until_indexed(gateway, 2)
    status, again, similarity = ask(gateway, "How can I reset my password?")
    assert (status, again, similarity) == ("HIT", id_, None)
    assert admin(gateway, f"/entries/{id_}/wrong", "POST")[0] == 409
    assert admin(gateway, f"/entries/{id_}", "DELETE")[0] == 200
    assert ask(gateway, "How can I reset my password?")[0] == "MISS"
    assert ask(gateway, "How do I reset my password?")[0] == "HIT"


def test_a_rule_that_only_looks_serves_nothing_by_meaning(gateway: Gateway) -> None:
    """Both questions go upstream, and what would have been served is compared with what came."""
    count = indexed(gateway.sidecar_admin) + 1
    for question in ("What is Kubernetes?", "What is Kubernetes"):
        assert ask(gateway, question, host="look.test")[0] == "MISS"
        give_up = time.monotonic() + GIVE_UP_S
        while ask(gateway, question, host="look.test")[0] != "HIT":
            assert time.monotonic() < give_up, "never an exact hit"
        until_indexed(gateway, count)
        count += 1
    give_up = time.monotonic() + GIVE_UP_S
    while not (found := aicache(gateway, "shadow")["rules"]["looks"])["lookups"].get("hit"):
        assert time.monotonic() < give_up, found
    assert sum(found["verdicts"]["semantic"].values()) == 1
    (line,) = admin(gateway, "/shadow?pairs=true")[1].splitlines()
    assert json.loads(line)["similarity"] > 0.97
