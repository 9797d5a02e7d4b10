"""`aicache replay`: a log of requests through the sidecar's own code, and what is said of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ai_cache_extproc.cli import prediction as module
from ai_cache_extproc.cli.plotting import Chart, Line, Mark, NoPlotting, check_plotting, draw
from ai_cache_extproc.cli.prediction import Prediction
from ai_cache_extproc.cli.rehearsal import Outcome, rehearsing
from ai_cache_extproc.cli.request_lines import Requested, requested
from ai_cache_extproc.config.load import load
from ai_cache_extproc.errors import BackendUnavailable
from tests.exchange.meaning import FAR, MEANINGS, NUMBERED, SAME, STAR, semantic_config
from tests.support.meanings import Directions
from tests.support.terminal import Terminal, terminal

ME = {"authorization": "Bearer me"}
LONG_AGO_S = 1_700_000_000.0


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Terminal:
    """A terminal of its own."""
    return terminal(capsys, monkeypatch, tmp_path)


def question(text: str = "What is a star?", **members: Any) -> dict[str, Any]:
    """A line with a chat completion."""
    body = {"model": "m", "messages": [{"role": "user", "content": text}], **members.pop("body", {})}
    return {"headers": ME, "body": body, **members}


async def outcomes(tmp_path: Path, lines: Iterable[Mapping[str, Any]], document: str = "") -> list[Outcome]:
    """What becomes of these lines under this configuration."""
    file = tmp_path / "aicache.yaml"
    file.write_text(document or "rules: [{name: default}]\n")
    found = []
    async with rehearsing(load(file).config) as rehearsal:
        for line in lines:
            asked: Requested = requested(json.dumps(line).encode(), 1, {})
            rehearsal.clock.move(asked.time_s or 0)
            found.append(await rehearsal.ask(asked))
    return found


def words(found: Iterable[Outcome]) -> list[str]:
    """In short."""
    return [" ".join(filter(None, (each.result, each.layer, each.reason))) for each in found]


async def test_repeated_questions_are_hits_within_their_scope_and_lifetime(tmp_path: Path) -> None:
    """As the sidecar has it: credential, rule's `ttl_s`, the client's wishes, answers that are not kept."""
    lines = [
        question(time_s=LONG_AGO_S),
        question(time_s=LONG_AGO_S + 9),
        question(time_s=LONG_AGO_S + 9, headers={"authorization": "Bearer you"}),
        question(time_s=LONG_AGO_S + 9, headers=ME | {"cache-control": "no-cache"}),
        question(time_s=LONG_AGO_S + 18),
        question(time_s=LONG_AGO_S + 30),
        question("b", time_s=LONG_AGO_S + 30, status=500),
        question("b", time_s=LONG_AGO_S + 31, answer_headers={"cache-control": "no-store"}),
        question("b", time_s=LONG_AGO_S + 32),
        question("b", time_s=LONG_AGO_S),
    ]
    document = (
        "rules: [{name: default, ttl_s: 10, ttl_jitter: 0, early_refresh: 0, ignore_upstream_cache_control: false}]\n"
    )
    assert [
        "miss",
        "hit exact",
        "miss",
        "miss",
        "hit exact",
        "miss",
        "miss status",
        "miss upstream_no_store",
        "miss",
        "hit exact",
    ] == words(await outcomes(tmp_path, lines, document))


async def test_every_way_past_the_cache_is_told(tmp_path: Path) -> None:
    """By the sidecar's own words, at the headers or at the body; other traffic is not counted as any."""
    lines = [
        question(headers={}),
        question(headers=ME | {"x-higress-skip-ai-cache": "on"}),
        question(body={"temperature": 1.5}),
        {"headers": ME, "body": "nonsense"},
        {"headers": ME, "body": "{}", "path": "/v1/models"},
        {"headers": ME, "body": ""},
        question(headers=ME | {"cache-control": "only-if-cached"}),
    ]
    document = "rules: [{name: default, sampling: {temperature_max: 1}, controls: {honour: [only-if-cached]}}]\n"
    found = await outcomes(tmp_path, lines, document)
    assert [
        "bypass no_credential",
        "bypass skip_header",
        "bypass sampling",
        "bypass not_json",
        "untouched",
        "untouched",
        "miss only_if_cached",
    ] == words(found)
    assert {"default", ""} == {each.rule for each in found}


async def test_modes_are_assumed_to_answer_for_each_other(tmp_path: Path) -> None:
    """A stream for JSON, and a batch for its items."""
    batch = {"path": "/v1/embeddings", "headers": ME}
    lines = [
        question(body={"stream": True}),
        question(),
        batch | {"body": {"model": "e", "input": ["a", "b"]}},
        batch | {"body": {"model": "e", "input": ["b", "a"]}},
        batch | {"body": {"model": "e", "input": ["b", "c"]}},
    ]
    assert ["miss", "hit exact", "miss", "hit exact", "miss"] == words(await outcomes(tmp_path, lines))


async def test_pins_are_assumed_to_hold(tmp_path: Path) -> None:
    """Nobody knows which model or cluster would have answered."""
    document = "rules: [{name: default, pin: {clusters: [llm], models: [m]}}]\n"
    assert ["miss", "hit exact"] == words(await outcomes(tmp_path, [question(), question()], document))


async def test_documents_of_others_are_replayed_too(tmp_path: Path) -> None:
    """In their own layout of keys and values."""
    higress = "cache: {type: redis, serviceName: redis.static}\ncacheKeyStrategy: lastQuestion\n"
    file = tmp_path / "higress.yaml"
    file.write_text(higress)
    config = load(file, flags={"hosts": ("redis.static=127.0.0.1:6379",)}).config
    async with rehearsing(config) as rehearsal:
        lines = [question(), question(body={"model": "other"})]
        found = [await rehearsal.ask(requested(json.dumps(line).encode(), 1, {})) for line in lines]
    assert ["miss", "hit exact"] == words(found)


async def test_an_access_log_tells_what_it_can(tmp_path: Path) -> None:
    """Without a body nobody knows what was asked, unless the entry's name is in the log."""
    call = {"method": "POST", "path": "/v1/chat/completions", "code": 200}
    lines = [
        call,
        call | {"key": "k"},
        call | {"key": "k"},
        call | {"path": "/healthz", "method": "GET"},
        call | {"route": "shut"},
        call | {"route": "none"},
    ]
    document = "rules: [{name: shut, match: {routes: [shut]}, enabled: false}, {name: rest, match: {routes: [llm]}}]\n"
    found = await outcomes(tmp_path, [{"route": "llm", **line} for line in lines], document)
    assert ["unknown", "miss", "hit exact", "untouched", "bypass rule_disabled", "bypass no_rule"] == words(found)
    assert ["rest", "rest", "rest", "", "shut", ""] == [each.rule for each in found]


def log_of(tmp_path: Path, lines: Iterable[object]) -> str:
    """A file of these lines."""
    file = tmp_path / "log.jsonl"
    file.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return str(file)


def config_of(tmp_path: Path, text: str = "rules: [{name: default}]\n") -> str:
    """A configuration in a file."""
    file = tmp_path / "aicache.yaml"
    file.write_text(text)
    return str(file)


def test_the_prediction_is_told_by_rule_and_layer(run: Terminal, tmp_path: Path) -> None:
    """In words and as JSON; lines that are no requests are counted and the first is named."""
    lines = [question(time_s=LONG_AGO_S), question(time_s=LONG_AGO_S + 90), question(headers={}), {"method": "GET"}]
    log = log_of(tmp_path, lines)
    code, out, err = run("replay", log, "--config", config_of(tmp_path))
    assert (0, "") == (code, err)
    told = [" ".join(line.split()) for line in out.splitlines()]
    for expected in (
        "requests 4, of which 1 are no LLM calls",
        "from first to last 0:01:30",
        "predicted 50.0% of lookups (1 hits, 1 misses)",
        "rule default",
        "exact 1 hits",
        "bypassed 1 no_credential",
    ):
        assert expected in told
    code, out, err = run("replay", log_of(tmp_path, [*lines, "?"]), "--output", "json", "--config", config_of(tmp_path))
    assert (0, True) == (code, "lines that are no requests: 1; line 5: is no JSON" in err)
    document = json.loads(out)
    assert (4, 1, 90.0, 1) == tuple(document[name] for name in ("requests", "untouched", "span_s", "unreadable"))
    assert {
        "requests": 3,
        "hits": {"exact": 1, "semantic": 0},
        "misses": 1,
        "bypasses": {"no_credential": 1},
        "unknown": 0,
        "not_kept": {},
        "hit_ratio": 0.5,
    } == document["rules"]["default"]


def test_what_a_log_lacks_may_be_said_outside(run: Terminal, tmp_path: Path) -> None:
    """Credentials of a batch, and how far apart its requests are."""
    line = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": question()["body"]}
    config = config_of(tmp_path, "rules: [{name: default, ttl_s: 10}]\n")
    log = log_of(tmp_path, [line, line, line])
    common = ("replay", log, "-c", config, "-H", "authorization: Bearer x")
    assert 2 == run.json(*common)["total"]["hits"]["exact"]  # type: ignore[index]  # JSON
    assert 0 == run.json(*common, "--interval", "11")["total"]["hits"]["exact"]  # type: ignore[index]  # JSON
    code, out, _ = run(*common, "--rule", "none")
    assert (0, True) == (code, "no rule" in out)


def test_nothing_to_replay_is_a_fault(run: Terminal, tmp_path: Path) -> None:
    """Exit code 1; and 2 for wrong usage."""
    code, out, err = run("replay", log_of(tmp_path, ["?"]), "-c", config_of(tmp_path))
    assert (1, True, True) == (code, "no lookups" in out, "line 1" in err)
    assert 1 == run("replay", str(tmp_path / "none"))[0]
    assert 2 == run("replay", log_of(tmp_path, []), "-H", "no colon")[0]


def test_an_answer_that_is_not_kept_and_an_unknown_question_are_told(run: Terminal, tmp_path: Path) -> None:
    """So that the operator sees what the figures leave open."""
    lines = [question(status=500), {"path": "/v1/chat/completions", "ai_cache": {"status": "miss"}}]
    _, out, _ = run("replay", log_of(tmp_path, lines), "-c", config_of(tmp_path))
    told = [" ".join(line.split()) for line in out.splitlines()]
    assert "as logged 1 miss" in told
    assert "not kept 1 status" in told
    assert "looked up, but what was asked is not in the log 1" in told


def test_the_chart_is_a_png(run: Terminal, tmp_path: Path) -> None:
    """Of every rule, and of all together; a wrong name is refused before any work."""
    rules = "rules: [{name: a, match: {paths: [/v1/*]}}, {name: b}]\n"
    lines = [question(), question(), question(path="/chat/completions"), question(path="/chat/completions")]
    chart = tmp_path / "hits.png"
    log = log_of(tmp_path, lines)
    document = run.json("replay", log, "-c", config_of(tmp_path, rules), "--plot", str(chart))
    assert str(chart) == document["plot"]
    assert b"\x89PNG\r\n\x1a\n" == chart.read_bytes()[:8]
    code, out, err = run("replay", log, "--plot", str(tmp_path / "hits.svg"))
    assert (1, "", True) == (code, out, "must end in .png" in err)


def test_a_curve_of_one_rule_is_drawn_once_and_in_few_points(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """However long the log is."""
    monkeypatch.setattr(module, "POINTS_MAX", 8)
    prediction = Prediction()
    for _ in range(1000):
        prediction.add(Outcome("miss", "r"), None)
        prediction.add(Outcome("hit", "r", "exact"), None)
    (line,) = prediction.chart().lines
    assert "all rules" == line.label
    assert 4 <= len(line.xs) <= 8
    assert sorted(line.xs) == line.xs
    assert 0.5 == pytest.approx(line.ys[-1], abs=0.01)
    draw(prediction.chart(), tmp_path / "one.png")
    draw(Chart("similarities", "threshold", "hits", [line], marks=[Mark("threshold", 0.97)]), tmp_path / "marked.png")
    assert (tmp_path / "marked.png").stat().st_size > (tmp_path / "one.png").stat().st_size / 2


def test_names_in_a_chart_are_text(tmp_path: Path) -> None:
    """Whatever they look like: this one is no formula that could be drawn."""
    lines = [Line(name, [0, 1], [0, 1], is_step=True) for name in ("$\\frac{$", "_hidden", "plain")]
    draw(Chart("names", "x", "y", lines), tmp_path / "names.png")
    assert b"\x89PNG" == (tmp_path / "names.png").read_bytes()[:4]


def test_a_missing_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Before any work is done for the chart."""
    monkeypatch.setattr("ai_cache_extproc.cli.plotting.find_spec", lambda _: None)
    with pytest.raises(NoPlotting, match=r"ai-cache-extproc\[plot\]"):
        check_plotting(tmp_path / "a.png")


@asynccontextmanager
async def opened(_settings: object) -> AsyncIterator[Directions]:
    """An embedder with decided meanings."""
    yield Directions(MEANINGS, chars_max=40)


async def test_questions_of_one_meaning_are_semantic_hits() -> None:
    """Where the rule has that layer, by the sidecar's own threshold, guards and gates; aliases are semantic hits too."""
    texts = [STAR, SAME, SAME, NUMBERED, FAR, "x" * 41]
    lines = [question(text) for text in texts]
    async with rehearsing(semantic_config(), opener=opened) as rehearsal:
        found = [await rehearsal.ask(requested(json.dumps(line).encode(), 1, {})) for line in lines]
    assert ["miss", "hit semantic", "hit semantic", "miss", "miss", "miss"] == words(found)
    for rule in ({"layers": ["exact"]}, {"semantic": {"shadow": {"sample": 1}}}):
        async with rehearsing(semantic_config(rule), opener=opened) as rehearsal:
            found = [await rehearsal.ask(requested(json.dumps(line).encode(), 1, {})) for line in lines]
        assert ["miss", "miss", "hit exact", "miss", "miss", "miss"] == words(found)


async def test_an_embedder_with_a_length_of_its_own_is_opened_once() -> None:
    """And is asked before anything else, so that one that does not answer is told at once."""
    settings: list[Any] = []

    @asynccontextmanager
    async def opening(given: object) -> AsyncIterator[Directions]:
        settings.append(given)
        embedder = Directions(MEANINGS)
        embedder.fails = BackendUnavailable("directions", "embed", "refused")
        yield embedder

    config = semantic_config(embedder={"type": "embedded", "chars_max": 40})
    with pytest.raises(BackendUnavailable):
        async with rehearsing(config, opener=opening):
            raise AssertionError("never reached")
    assert [(40, 60_000)] == [(given.chars_max, given.timeout_ms) for given in settings]
