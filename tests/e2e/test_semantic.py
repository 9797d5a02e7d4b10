"""The semantic layer with the embedded default, through a real Envoy: the questions of the guide, and a restart."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from openai import OpenAI

from tests.support.figures import indexed, scrape, wait_until
from tests.support.gateway import Gateway
from tests.support.meanings import PATIENT_EMBEDDED
from tests.support.upstream import said_back

DOCUMENT: dict[str, Any] = {
    "embedder": PATIENT_EMBEDDED,
    "rules": [{"name": "default", "layers": ["exact", "semantic"]}],
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A sidecar that matches by meaning; its upstream says back what it was asked."""
    with Gateway(tmp_path_factory.mktemp("semantic"), DOCUMENT) as running:
        running.upstream.fresh(said_back)
        yield running


def ask(gateway: Gateway, question: str, *, key: str = "secret", **members: Any) -> tuple[str, str | None, str]:
    """Status, similarity and text of an answer; after a miss, once it can be found by its meaning."""
    before = indexed(gateway.sidecar_admin)
    with OpenAI(api_key=key, base_url=f"{gateway.url}/v1", max_retries=0) as sdk:
        raw = sdk.chat.completions.with_raw_response.create(
            model="gpt-test", messages=[{"role": "user", "content": question}], **members
        )
    status = raw.headers["x-ai-cache-status"]
    if status == "MISS":
        wait_until(lambda: indexed(gateway.sidecar_admin) > before, "the answer never came into the index")
    return status, raw.headers.get("x-ai-cache-similarity"), str(raw.parse().choices[0].message.content)


def test_the_questions_of_the_guide(gateway: Gateway) -> None:
    """星星是什么 in three ways is asked once; the moon, and how many stars there are, are other questions."""
    found = [ask(gateway, question) for question in ("星星是什么", "什么是星星", "星星通常指什么")]
    assert [status for status, _, _ in found] == ["MISS", "HIT", "HIT"]
    assert {text for _, _, text in found} == {"An answer to: 星星是什么"}
    similarities = [similarity for _, similarity, _ in found]
    assert similarities[0] is None
    assert all(similarity is not None and 0.97 <= float(similarity) <= 1 for similarity in similarities[1:])
    assert [ask(gateway, question)[0] for question in ("月亮是什么", "星星有多少颗")] == ["MISS", "MISS"]


def test_another_caller_asks_for_themselves(gateway: Gateway) -> None:
    """The very question of someone else, word by word and by its meaning."""
    ask(gateway, "How do I reset my password?")
    assert ask(gateway, "How can I reset my password?")[0] == "HIT"
    assert ask(gateway, "How could I reset my password?", key="another")[0] == "MISS"
    assert ask(gateway, "How do I reset my password?", key="a third")[0] == "MISS"


def test_after_a_restart_questions_are_still_found(gateway: Gateway) -> None:
    """The index stands in the file of the store: nobody embeds everything anew."""
    ask(gateway, "What is Kubernetes?")
    assert gateway.sidecar.stop() == 0
    gateway.start_sidecar()
    gateway.wait_for_sidecar()
    status, similarity, text = ask(gateway, "What is Kubernetes")
    assert (status, text) == ("HIT", "An answer to: What is Kubernetes?")
    assert similarity is not None
    assert ask(gateway, "什么是星星")[0] == "HIT"


def test_the_sidecar_says_how_its_index_is(gateway: Gateway) -> None:
    """At its health page and among its metrics."""
    with urllib.request.urlopen(f"http://127.0.0.1:{gateway.sidecar_admin}/readyz", timeout=10) as page:
        components = json.loads(page.read())["components"]
    assert ("ok", "ok") == (components["embedder"], components["index"])
    assert scrape(gateway).total("aicache_index_points") >= 2


def test_the_budget_is_envoy_s_too(gateway: Gateway) -> None:
    """A wait that Envoy would cut off is asked for in time: no exchange failed open, none was late."""
    assert gateway.envoy_stat("failure_mode_allowed") == 0
    assert gateway.envoy_stat("message_timeouts") == 0
    lines = (gateway.folder / "sidecar.log").read_text().splitlines()
    told = [json.loads(line) for line in lines if '"semantic":"hit"' in line]
    assert told
    assert all(line["class"] and line["similarity"] >= 0.97 for line in told)
