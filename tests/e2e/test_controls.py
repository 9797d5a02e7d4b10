"""What clients ask and what they are told, through a real Envoy whose filter is the one that `envoy-config` prints."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from openai import APIStatusError, OpenAI

from ai_cache_extproc.cli.envoy import Format, document_of
from ai_cache_extproc.cli.envoy_bootstrap import Site
from ai_cache_extproc.config.model import Config
from tests.support.gateway import Gateway, Node
from tests.support.upstream import Received, Script, answer, completion

RULE: Node = {
    "name": "default",
    "ttl_jitter": 0,
    "early_refresh": 0,
    "controls": {
        "honour": ["no-store", "no-cache", "max-age", "min-fresh", "only-if-cached"],
        "ttl_header": "x-answer-ttl",
        "trust_answer_tags": True,
    },
    "bypass_on": [{"header": "x-team", "equals": "off"}],
}
LABELS: Node = {"status": "X-Gateway-Cache", "similarity": None, "standard_age": False, "layer_words": True}
DOCUMENT: Node = {"rules": [RULE], "labels": LABELS}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway whose filter shows and allows what this configuration names."""
    folder: Path = tmp_path_factory.mktemp("controls")
    printed = document_of(Format.FILTER, Config.model_validate(DOCUMENT), Site())["typed_config"]
    filter_says = {name: printed[name] for name in ("mutation_rules", "forward_rules")}
    with Gateway(folder, DOCUMENT, filter_says=filter_says) as running:
        running.upstream.fresh(tagged)
        yield running


def tagged(_: Received) -> Script:
    """An answer that says what it belongs to."""
    return answer(completion(), headers=[("x-ai-cache-tags", "docs")])


@dataclass(frozen=True)
class Answer:
    """What the client got; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def label(self) -> str | None:
        """The status under its configured name."""
        return self.headers.get("x-gateway-cache")


def ask(gateway: Gateway, text: str, **fields: str) -> Answer:
    """Ask a question with these request headers."""
    headers = {"content-type": "application/json", "authorization": "Bearer secret"}
    headers |= {name.replace("_", "-"): value for name, value in fields.items()}
    body = json.dumps({"model": "gpt-test", "messages": [{"role": "user", "content": text}]}).encode()
    request = urllib.request.Request(f"{gateway.url}/v1/chat/completions", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return Answer(response.status, {k.lower(): v for k, v in response.headers.items()}, response.read())
    except urllib.error.HTTPError as error:
        return Answer(error.code, {k.lower(): v for k, v in error.headers.items()}, error.read())


def test_labels_have_their_configured_names(gateway: Gateway) -> None:
    """Envoy lets the sidecar set a name of the operator's own, and what is turned off is not there."""
    missed, hit = ask(gateway, "labels"), ask(gateway, "labels")
    assert ("MISS", "HIT-L1") == (missed.label, hit.label)
    assert completion() == hit.body
    assert {"x-ai-cache-age", "x-ai-cache-key", "cache-status"} <= set(hit.headers)
    assert set() == {"x-ai-cache-status", "age"} & set(hit.headers)


def test_the_tags_of_an_answer_are_not_shown(gateway: Gateway) -> None:
    """The upstream sent them; neither the one that missed nor the one that hits sees them."""
    answers = [ask(gateway, "tags") for _ in range(2)]
    assert ["MISS", "HIT-L1"] == [each.label for each in answers]
    assert [None, None] == [each.headers.get("x-ai-cache-tags") for each in answers]


def test_a_client_that_wants_a_young_answer_gets_one(gateway: Gateway) -> None:
    """A kept answer that expires too soon is a miss for it; within what it asks it is a hit."""
    assert "MISS" == ask(gateway, "age", x_answer_ttl="100").label
    assert "HIT-L1" == ask(gateway, "age", cache_control="max-age=99, min-fresh=10").label
    assert "MISS" == ask(gateway, "age", cache_control="min-fresh=101").label
    assert "HIT-L1" == ask(gateway, "age", cache_control="min-fresh=101").label, "the rule's own hour"
    assert "MISS" == ask(gateway, "age", cache_control="max-age=0").label


def test_only_if_cached_never_reaches_the_upstream(gateway: Gateway) -> None:
    """504 with the reason at the request's headers or body, and a hit where one is kept."""
    before = len(gateway.upstream.received)
    refused = ask(gateway, "only", cache_control="only-if-cached")
    assert (504, "MISS", "only_if_cached") == (refused.status, refused.label, refused.headers["x-ai-cache-reason"])
    assert "only_if_cached" == json.loads(refused.body)["error"]["type"]
    bypassed = ask(gateway, "only", cache_control="only-if-cached", x_team="off")
    assert (504, "BYPASS", "bypass_on") == (bypassed.status, bypassed.label, bypassed.headers["x-ai-cache-reason"])
    assert before == len(gateway.upstream.received)
    assert 200 == ask(gateway, "only").status
    hit = ask(gateway, "only", cache_control="only-if-cached")
    assert (200, "HIT-L1") == (hit.status, hit.label)
    assert before + 1 == len(gateway.upstream.received)


def test_an_sdk_reads_the_504_as_an_error(gateway: Gateway) -> None:
    """The message stands where the SDK looks for it."""
    with (
        OpenAI(api_key="secret", base_url=f"{gateway.url}/v1", max_retries=0) as sdk,
        pytest.raises(APIStatusError) as caught,
    ):
        sdk.chat.completions.create(
            model="gpt-test",
            messages=[{"role": "user", "content": "sdk"}],
            extra_headers={"cache-control": "only-if-cached"},
        )
    assert (504, "only_if_cached") == (caught.value.status_code, caught.value.code)
    assert "only-if-cached" in caught.value.message


def test_a_listed_header_bypasses(gateway: Gateway) -> None:
    """Envoy shows it, because the rule names it."""
    bypassed = ask(gateway, "bypass", x_team="off")
    assert (200, "BYPASS", "bypass_on") == (bypassed.status, bypassed.label, bypassed.headers["x-ai-cache-reason"])
