"""The dashboard and the alerts on a live Prometheus: a script of calls through a real Envoy, and what every panel says of it.

Grafana itself does not run here: its panels' expressions do, with its variables filled in as it would.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.gateway import PATIENT, ROOT, Gateway, redis_store
from tests.support.prometheus import Prometheus, Values
from tests.support.redis_server import RedisServer
from tests.support.upstream import Received, Script, Upstream, answer, completion, completion_frames, stream

DASHBOARD = ROOT / "deploy" / "grafana" / "aicache.json"
WINDOW = "15s"
TOKEN_PRICES = {"gpt": (0.25, 0.5, 0.125), "qwen": (1.0, 2.0, 1.0)}
"""Of one token: input, output, cached. Sums of them have no remainder in binary, so that they can be compared exactly."""
CURRENCIES = {"gpt": "USD", "qwen": "CNY"}
PRICES = [
    {
        "model": f"{name}-*",
        "currency": CURRENCIES[name],
        **{
            kind: each * 1_000_000
            for kind, each in zip(
                ("input_per_million", "output_per_million", "cached_input_per_million"), row, strict=True
            )
        },
    }
    for name, row in TOKEN_PRICES.items()
]
KINDS = ("input", "output", "cached")

STAR, SAME, SHOUTED, OPPOSITE = "What is a star?", "what is a star", "WHAT IS A STAR?", "What is not a star?"
"""Its neighbours by meaning: two that are the same question, one that a guard keeps from it."""
TRIAL = {"host": "trial.test"}
"""Of the rule that matches by meaning in shadow mode only."""


@dataclass
class Told:
    """What a script of calls must have come to."""

    calls: Counter[str] = field(default_factory=Counter)
    tokens: dict[str, Counter[str]] = field(default_factory=lambda: {"upstream": Counter(), "cache": Counter()})
    money: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: Told) -> Told:
        tokens = {source: self.tokens[source] + other.tokens[source] for source in self.tokens}
        return Told(self.calls + other.calls, tokens, self.money + other.money)


@dataclass(frozen=True)
class Call:
    """One call and its outcome. usage: input, output, cached, as the upstream says it; None: it says nothing."""

    outcome: str
    text: str
    usage: tuple[int, int, int] | None = (10, 20, 4)
    model: str = "gpt-4o"
    stream: bool = False
    finish: str = "stop"
    headers: Mapping[str, str] = field(default_factory=dict)


WARM_UP = (
    Call("MISS", STAR),
    Call("HIT", STAR),
    Call("MISS", "How hot is the sun?", model="qwen-max"),
    Call("HIT", "How hot is the sun?", model="qwen-max"),
    Call("BYPASS", "How hot is the sun?", headers={"cache-control": "no-store"}),
    Call("HIT", SAME),
    Call("MISS", OPPOSITE),
    *[Call("MISS", text, headers=TRIAL) for text in (STAR, SAME)],
)
"""After it every series is there: Prometheus does not count the value that a series begins with as an increase."""
SCRIPT = (
    Call("MISS", "Name a comet.", (3, 5, 1)),
    *[Call("HIT", "Name a comet.", (3, 5, 1))] * 4,
    Call("MISS", "Name a planet.", (100, 50, 0), model="qwen-max"),
    Call("HIT", "Name a planet.", (100, 50, 0), model="qwen-max"),
    Call("MISS", "Why is Mars red?", (7, 9, 7), stream=True),
    *[Call("HIT", "Why is Mars red?", (7, 9, 7), stream=True)] * 2,
    # Paid for and not kept; asked again, paid for again.
    *[Call("MISS", "Tell a long story.", (11, 13, 0), finish="length")] * 2,
    # The upstream says no usage: nothing is made up.
    Call("MISS", "How old is the moon?", None),
    Call("HIT", "How old is the moon?", None),
    *[Call("BYPASS", "Is it late?", headers={"x-higress-skip-ai-cache": "on"})] * 3,
    *[Call("HIT", SAME)] * 2,
    Call("MISS", SHOUTED, headers=TRIAL),
)
LOST = tuple(Call("BYPASS", f"What is on page {number}?") for number in range(8))
"""What is asked while Redis is gone."""
ANSWERS = {call.text: call for call in (*WARM_UP, *SCRIPT, *LOST)}


def upstream(received: Received) -> Script:
    """Answer with the usage, and the end, that belong to the question."""
    asked: Any = received.json()
    if received.path.endswith("/embeddings"):
        data = [{"object": "embedding", "index": 0, "embedding": vector_of(asked["input"][0])}]
        return answer(json.dumps({"object": "list", "data": data, "model": asked["model"]}).encode())
    call = ANSWERS[asked["messages"][-1]["content"]]
    usage = None
    if call.usage:
        read, written, cached = call.usage
        details = {"cached_tokens": cached}
        usage = {"prompt_tokens": read + cached, "completion_tokens": written, "prompt_tokens_details": details}
    if call.stream:
        frames = completion_frames(usage=True)
        old = b'"usage": {"prompt_tokens": 4, "completion_tokens": 5, "total_tokens": 9}'
        return stream([frame.replace(old, b'"usage": ' + json.dumps(usage).encode()) for frame in frames])
    message = {"role": "assistant", "content": "A ball of gas."}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": call.finish}
    return answer(completion(model=call.model, choices=[choice], usage=usage))


def vector_of(text: str) -> list[float]:
    """The same for what is the same but for case, marks and a denial; far apart for all else."""
    bare = text.lower().replace("not ", "").strip("?.")
    chance = random.Random(bare)
    return [chance.gauss(0, 1) for _ in range(64)]


def play(gateway: Gateway, script: Sequence[Call]) -> Told:
    """Make the calls one after the other; each must come out as it says."""
    told = Told()
    with httpx2.Client(timeout=20) as client:
        for call in script:
            body: dict[str, Any] = {"model": call.model, "messages": [{"role": "user", "content": call.text}]}
            if call.stream:
                body |= {"stream": True, "stream_options": {"include_usage": True}}
            headers = {"authorization": "Bearer k", **call.headers}
            got = client.post(f"{gateway.url}/v1/chat/completions", json=body, headers=headers)
            assert (200, call.outcome) == (got.status_code, got.headers["x-ai-cache-status"]), call
            while gateway.stats()["write_queue"]["entries"]:
                time.sleep(0.01)
            _note(told, call)
    return told


def _note(told: Told, call: Call) -> None:
    told.calls[call.outcome.lower()] += 1
    if call.usage is None or call.outcome == "BYPASS":
        return
    name = call.model.partition("-")[0]
    told.tokens["cache" if call.outcome == "HIT" else "upstream"].update(dict(zip(KINDS, call.usage, strict=True)))
    if call.outcome == "HIT":
        cost = sum(count * price for count, price in zip(call.usage, TOKEN_PRICES[name], strict=True))
        told.money.update({CURRENCIES[name]: cost})


@dataclass(frozen=True)
class Run:
    """A script that was played: what it must have come to, and the scrapes before and after it.

    lost_s: a moment after Redis was gone for a while.
    """

    gateway: Gateway
    prometheus: Prometheus
    before: Told
    during: Told
    begin_s: float
    end_s: float
    lost_s: float

    def panel(self, title: str) -> list[Values]:
        """What the queries of a panel give at the end of the script, for the time that it took."""
        (panel,) = (each for each in panels() if each["title"] == title)
        return [self.at(target["expr"], self.end_s) for target in panel["targets"]]

    def at(self, expr: str, moment_s: float) -> Values:
        """As Grafana would ask it, with everything chosen, and the time shown that lies between the script's begin and then."""
        window = f"{round((moment_s - self.begin_s) * 1000)}ms"
        for name, value in {"__rate_interval": WINDOW, "__range": window, "job": ".*", "instance": ".*"}.items():
            expr = expr.replace(f"${name}", value)
        assert "$" not in expr
        return self.prometheus.at(expr, moment_s)


def panels() -> list[dict[str, Any]]:
    """Those that ask something."""
    return [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """One gateway on a Redis, one Prometheus, and the script between two scrapes; then the Redis goes."""
    folder: Path = tmp_path_factory.mktemp("observed")
    answering = Upstream(upstream)
    with RedisServer(folder / "redis") as redis, answering:
        config = {
            # Patient everywhere: a busy machine must not make a miss of a hit.
            "envoy": {"message_timeout_ms": 10_000, "max_message_timeout_ms": 20_000},
            "lookup": {"deadline_ms": 4_000},
            "store": redis_store(redis.port, timeout_ms=2_000, connect_timeout_ms=2_000),
            "prices": PRICES,
            "embedder": {
                "type": "openai",
                "url": f"http://127.0.0.1:{answering.port}/v1",
                "api_key": "k",
                "timeout_ms": 2_000,
            },
            "rules": [
                {"name": "trial", "match": {"hosts": ["trial.test"]}, **meaning(shadow={"sample": 1})},
                {"name": "faq", **meaning()},
            ],
        }
        gateway = Gateway(folder / "gateway", config, upstream=answering, filter_says=PATIENT)
        # Prometheus looks for its targets every 5 s only: it begins to wait while the others start.
        with Prometheus(folder / "prometheus", [f"127.0.0.1:{gateway.sidecar_admin}"]) as prometheus, gateway:
            before = play(gateway, WARM_UP)
            begin_s = settled(prometheus, before)
            during = play(gateway, SCRIPT)
            end_s = settled(prometheus, before + during)
            redis.kill()
            play(gateway, LOST)
            lost_s = prometheus.wait_for('count(ALERTS{alertname="AicacheBreakerOpen", alertstate="firing"})', 1)
            yield Run(gateway, prometheus, before, during, begin_s, end_s, lost_s)


def meaning(**settings: object) -> dict[str, object]:
    """What a rule that matches by meaning says."""
    return {"layers": ["exact", "semantic"], "semantic": {"similarity_threshold": 0.9, **settings}}


def settled(prometheus: Prometheus, told: Told) -> float:
    """The moment of a scrape that shows all of it: answers are read behind the client's back."""
    prometheus.wait_for("sum(aicache_tokens_total)", sum(sum(kinds.values()) for kinds in told.tokens.values()))
    return prometheus.wait_for("sum(aicache_requests_total)", told.calls.total())


def by(values: Values, label: str) -> dict[str, float]:
    """Values by one label, those that are not 0."""
    return {dict(labels)[label]: value for labels, value in values.items() if value}


@pytest.mark.parametrize(("suffix", "whole"), [("", True), (" in this time", False)], ids=["since-start", "in-range"])
def test_the_numbers_are_those_of_the_script(run: Run, suffix: str, whole: bool) -> None:
    """Hits, misses, bypasses, tokens and money to the last one; of the whole time, and of the script's alone."""
    told = run.before + run.during if whole else run.during
    (calls,) = run.panel(f"Calls{suffix}")
    assert dict(told.calls) == by(calls, "result")
    (ratio,) = run.panel(f"Hit ratio{suffix}")
    assert [told.calls["hit"] / told.calls.total()] == list(ratio.values())
    for source in ("upstream", "cache"):
        (tokens,) = run.panel(f"Tokens from the {source}{suffix}")
        assert dict(told.tokens[source]) == by(tokens, "kind")
    (money,) = run.panel(f"Money saved{suffix}")
    assert dict(told.money) == by(money, "currency")


def test_the_script_has_something_of_everything(run: Run) -> None:
    """Numbers that are 0 on both sides prove nothing."""
    assert {"hit": 10, "miss": 7, "bypass": 3} == dict(run.during.calls)
    assert all(run.during.tokens[source][kind] for source in run.during.tokens for kind in KINDS)
    assert {"USD", "CNY"} == set(run.during.money)


def test_rates_are_by_provider_and_model(run: Run) -> None:
    """The provider is the cluster of Envoy's route, the model a row of the price table."""
    for source in ("upstream", "cache"):
        (rates,) = run.panel(f"Tokens a second from the {source}, by provider and model")
        expected = {(("model", f"{name}-*"), ("provider", "llm")) for name in TOKEN_PRICES}
        assert expected == {labels for labels, value in rates.items() if value > 0}


def test_hits_by_layer_are_those_of_the_script(run: Run) -> None:
    """Semantic hits are hits; one on an alias that another left counts as semantic too."""
    layers = run.at('sum by (layer) (increase(aicache_hits_total{job=~"$job"}[$__range]))', run.end_s)
    assert {"exact": 8, "semantic": 2} == by(layers, "layer")


@pytest.mark.parametrize("panel", panels(), ids=[re.sub(r"\W+", "-", panel["title"]) for panel in panels()])
def test_every_panel_has_something_to_show(run: Run, panel: Mapping[str, Any]) -> None:
    """Each expression is one that Prometheus takes, and has series after this traffic, or once Redis was gone."""
    for target in panel["targets"]:
        shown = run.at(target["expr"], run.end_s) or run.at(target["expr"], run.lost_s)
        assert shown, target["expr"]


def test_thresholds_stand_beside_similarities(run: Run) -> None:
    """Of each rule that matches by meaning."""
    (thresholds,) = run.panel("Thresholds")
    assert {"trial": 0.9, "faq": 0.9} == by(thresholds, "rule")


def test_a_lost_redis_is_seen(run: Run) -> None:
    """By the alerts that are there for it, and by no other."""
    firing = run.at('ALERTS{alertname=~"Aicache.*", alertstate="firing"}', run.lost_s)
    seen = {dict(labels)["alertname"] for labels in firing}
    assert {"AicacheBreakerOpen"} <= seen <= {"AicacheBreakerOpen", "AicacheBackendErrors", "AicacheNearDeaf"}
    before = run.at('ALERTS{alertname=~"Aicache.*"}', run.end_s)
    assert {} == before
