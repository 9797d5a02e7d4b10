"""Every shipped way to stand beside Envoy, on each Envoy that is named there: a miss, then a hit.

Files for plain Envoy run as they are, but for addresses. What gateways are given is run as their Envoy would get it.
"""

from __future__ import annotations

import http.client
import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from ai_cache_extproc.cli.demo_client import Answer, ask
from tests.support.figures import indexed, wait_until
from tests.support.gateway import Node, Process, free_port
from tests.support.meanings import PATIENT_EMBEDDED
from tests.support.shipped import (
    ENVOYS,
    MESH,
    Places,
    address,
    bootstrap,
    envoy_of,
    placed,
    running,
    sidecar_text,
)
from tests.support.upstream import Upstream

PLAIN = ("envoy.yaml", "envoy-tls-upstream.yaml", "envoy-routes.yaml", "envoy-static-modes.yaml")
OWN = {"envoy-semantic.yaml": "semantic", "envoy-gateway.yaml": "gateway"}
"""Files whose sidecar does not serve the others as well."""
FILES = (*PLAIN, *OWN, *MESH)


@dataclass(frozen=True)
class Beside:
    """What every Envoy of these tests shares. sidecars: addresses as Envoy writes them."""

    folder: Path
    upstream: Upstream
    coding: Upstream
    sidecars: dict[str, Node]
    admins: dict[str, int]


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Beside]:
    """Upstreams, and a sidecar on each shipped document that asks for one of its own."""
    folder = tmp_path_factory.mktemp("shipped")
    for name in ("admin-token", "identity-key"):
        (folder / name).write_text(f"{name}-0123456789abcdef0123456789abcdef\n")
    documents = {"usual": sidecar_text("envoy-routes.yaml")} | {own: sidecar_text(file) for file, own in OWN.items()}
    addresses: dict[str, Node] = {}
    admins: dict[str, int] = {}
    with ExitStack() as stack:
        started = []
        for name, text in documents.items():
            document = yaml.safe_load(text.replace("/run/secrets/aicache", str(folder)))
            if str(document.get("listen", "")).startswith("unix:"):
                addresses[name] = {"pipe": {"path": str(folder / "a.sock")}}
                document["listen"] = f"unix:{folder}/a.sock"
            else:
                addresses[name] = address(port := free_port())
                document["listen"] = f"127.0.0.1:{port}"
            document["store"] = {"type": "sqlite", "path": str(folder / f"{name}.db")}
            document["admin"] = f"127.0.0.1:{(admin := free_port())}"
            if "embedder" in document:
                document["embedder"] = PATIENT_EMBEDDED
            admins[name] = admin
            file = folder / f"{name}.yaml"
            file.write_text(yaml.safe_dump(document))
            command = [sys.executable, "-m", "ai_cache_extproc", "serve", "--config", str(file)]
            process = Process(command, file.with_suffix(".log"))
            stack.callback(process.stop)
            started.append(process)
        for process, admin in zip(started, admins.values(), strict=True):
            process.wait_ready(f"http://127.0.0.1:{admin}/readyz")
        yield Beside(folder, stack.enter_context(Upstream()), stack.enter_context(Upstream()), addresses, admins)


@pytest.mark.parametrize("version", ENVOYS)
@pytest.mark.parametrize("name", FILES)
def test_a_miss_then_a_hit(beside: Beside, name: str, version: str) -> None:
    """The second answer comes from the cache, with the same bytes, as JSON and as a stream; the log says so."""
    binary = envoy_of(version)
    upstreams = {"llm": beside.upstream.port, "llm_coding": beside.coding.port}
    places = Places(free_port(), free_port(), beside.sidecars[OWN.get(name, "usual")], upstreams)
    with running(binary, placed(bootstrap(name), places, beside.folder), places.admin, beside.folder):
        for stream in (False, True):
            asked = f"{name} {version} {stream}"
            first, second = (ask(places.port, asked, model="m", stream=stream, key="someone") for _ in range(2))
            assert (200, "MISS") == (first.status, first.cache_status)
            assert (200, "HIT") == (second.status, second.cache_status)
            assert first.body == second.body
    logged = (beside.folder / f"access-{places.port}.log").read_text().splitlines()
    assert ["miss", "hit"] * 2 == [json.loads(line)["ai_cache"]["status"] for line in logged]
    assert {"openai"} == {json.loads(line)["route"] for line in logged}


def test_each_route_has_its_rule_and_its_upstream(beside: Beside) -> None:
    """Named by Envoy or by the rule; what one route keeps is not given on another."""
    upstreams = {"llm": beside.upstream.port, "llm_coding": beside.coding.port}
    places = Places(free_port(), free_port(), beside.sidecars["usual"], upstreams)
    document = placed(bootstrap("envoy-routes.yaml"), places, beside.folder)
    before = len(beside.coding.received)
    with running(envoy_of(ENVOYS[-1]), document, places.admin, beside.folder):
        found = [
            _asked(places.port, path)
            for path in ("/support/v1/chat/completions", "/coding/v1/chat/completions", "/v1/chat/completions")
            for _ in range(2)
        ]
    assert ["MISS", "HIT"] * 3 == found
    assert before + 1 == len(beside.coding.received)
    assert "/v1/chat/completions" == beside.coding.received[-1].path
    logged = (beside.folder / f"access-{places.port}.log").read_text().splitlines()
    rules = [(line["route"], line["ai_cache"]["rule"]) for line in map(json.loads, logged)]
    assert [("support", "support"), ("coding", "coding"), ("openai", "default")] == rules[::2]


def test_a_question_of_the_same_meaning_is_a_hit(beside: Beside) -> None:
    """The shipped semantic pair answers a question that was asked in other words."""
    places = Places(free_port(), free_port(), beside.sidecars["semantic"], {"llm": beside.upstream.port})
    document = placed(bootstrap("envoy-semantic.yaml"), places, beside.folder)
    with running(envoy_of(ENVOYS[-1]), document, places.admin, beside.folder):
        before = indexed(beside.admins["semantic"])
        first = _asked_in_words(places.port, "How do I reset my password?")
        wait_until(lambda: indexed(beside.admins["semantic"]) > before, "the answer never came into the index")
        second = _asked_in_words(places.port, "How can I reset my password?")
    assert ("MISS", "HIT") == (first.cache_status, second.cache_status)
    assert 0.9 < float(second.headers["x-ai-cache-similarity"]) < 1
    assert first.body == second.body


def _asked_in_words(port: int, question: str) -> Answer:
    return ask(port, question, model="m", stream=False, key="someone")


def _asked(port: int, path: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    body = json.dumps({"model": "m", "temperature": 0, "messages": [{"role": "user", "content": "Which rule?"}]})
    connection.request("POST", path, body, {"content-type": "application/json", "authorization": "Bearer one"})
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.headers["x-ai-cache-status"]
