"""`aicache calibrate`: pairs in, a table, a chart and a threshold out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.embedders import write_onnx_model
from tests.support.embedding_servers import Ollama, texts_of
from tests.support.http_service import HttpService
from tests.support.loop_thread import LoopThread
from tests.support.terminal import Terminal, terminal, written

PAIRS = [
    ("same", "How do I delete my account?", "How can I remove my account?"),
    ("same", "星星是什么", "什么是星星"),
    ("same", "星星是什么", "星星通常指什么"),
    ("different", "星星是什么", "月亮是什么"),
    ("different", "How do I enable ssh?", "How do I disable ssh?"),
    ("different", "What is the capital of Peru?", "What is the capital of Chile?"),
]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Terminal:
    """A terminal of its own, beside a file of pairs."""
    (tmp_path / "mine.tsv").write_text("".join("\t".join(pair) + "\n" for pair in PAIRS), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return terminal(capsys, monkeypatch, tmp_path)


@pytest.fixture
def letters(tmp_path: Path) -> str:
    """A configuration with a tiny model."""
    write_onnx_model(tmp_path / "letters")
    return written(tmp_path, f"embedder: {{type: onnx, path: {tmp_path / 'letters'}, chars_max: 40}}\n")


@pytest.fixture
def service() -> Iterator[HttpService]:
    """A stand-in for Ollama, listening."""
    loop, made = LoopThread("ollama"), HttpService(Ollama())
    serving = made.serving()
    loop.run(serving.__aenter__())
    yield made
    loop.run(serving.__aexit__(None, None, None))
    loop.stop()


def of(document: Any, mode: str, threshold: float) -> tuple[int, int]:
    """Hits and wrong hits of all pairs at a threshold."""
    rows = document["groups"]["all"]["modes"][mode]["thresholds"]
    row = next(row for row in rows if row["threshold"] == threshold)
    return row["hits"]["count"], row["wrong_hits"]["count"]


def test_the_embedded_model_is_calibrated_at_its_default(run: Terminal) -> None:
    """As docs/semantic.md says of these pairs: `strict` and `balanced` at the default threshold."""
    document = run.json("calibrate", "--embedder", "embedded", "--model", "e5-small-q4", "--pairs", "mine.tsv")
    assert document["default_threshold"] == 0.97
    assert "e5-small-q4" in str(document["embedder"])
    assert of(document, "strict", 0.97) == (3, 0)
    assert of(document, "balanced", 0.97) == (3, 0)


def test_the_text_says_what_to_write_and_what_cannot_be_promised(run: Terminal, letters: str) -> None:
    """Three pairs of different meaning are no ground for a promise."""
    code, out, err = run("calibrate", "--config", letters, "--pairs", "mine.tsv", "--plot", "served.png")
    assert (0, "") == (code, err)
    assert "embedder onnx/" in out
    assert "no default threshold" in out
    assert "all pairs: served of 3 pairs of one meaning / of 3 others" in out
    for mode in ("strict", "balanced", "loose"):
        assert f"{mode}: " in out
    assert "no promise from 3 pairs of different meaning: 189 without a wrong hit would be enough" in out
    assert Path("served.png").read_bytes().startswith(b"\x89PNG")


def test_pairs_that_the_embedder_does_not_take_are_left_out(run: Terminal, letters: str) -> None:
    """They are matched exactly only; texts are never cut."""
    Path("long.tsv").write_text("same\t" + "star " * 10 + "\tstar\nsame\tstar\tmoon\n")
    assert "1 pairs are longer than it takes" in run("calibrate", "-c", letters, "--pairs", "long.tsv")[1]


def test_a_remote_embedder_is_asked_in_batches(run: Terminal, service: HttpService, tmp_path: Path) -> None:
    """Each text once, so many in a call."""
    config = written(tmp_path, f"embedder: {{type: ollama, url: '{service.url}', batch: 3}}\n")
    run.json("calibrate", "--config", config, "--pairs", "mine.tsv")
    assert [texts_of(asked) for asked in service.asked] == [3, 3, 3, 1]


def test_shadow_data_needs_no_embedder(run: Terminal) -> None:
    """The pairs were judged already, without their texts."""
    lines = [{"similarity": 0.99 - place / 1000, "verdict": "same", "class": "0"} for place in range(50)]
    lines += [{"similarity": 0.8, "verdict": "different", "class": "R"} for _ in range(200)]
    lines += [{"similarity": 0.95, "verdict": "unsure", "class": "R"}]
    Path("shadow.jsonl").write_text("\n".join(map(json.dumps, lines)))
    document: Any = run.json("calibrate", "--pairs", "shadow.jsonl")
    assert document["embedder"] is None
    assert document["left_out"] == {"too_long": 0, "unsure": 1}
    advice = document["groups"]["all"]["modes"]["strict"]["advice"]
    assert advice["found"]["hits"]["count"] == 50
    assert advice["promised"]["wrong_hits"]["count"] == 0
    code, out, _ = run("calibrate", "--pairs", "shadow.jsonl")
    assert (code, "1 lines are left out, of which shadow mode is not sure" in out) == (0, True)


def test_a_budget_that_no_threshold_keeps_is_exit_code_1(run: Terminal) -> None:
    """A pair of different meaning as similar as can be; more pairs do not help."""
    line = '{"similarity": 1, "verdict": "different", "class": "0"}\n'
    Path("shadow.jsonl").write_text(line * 200)
    code, out, err = run("calibrate", "--pairs", "shadow.jsonl")
    assert code == 1
    assert "strict: no threshold keeps wrong hits at 2.0% of 200 pairs of different meaning" in out
    assert err == "aicache: no threshold keeps wrong hits at 2.0% with guards: strict\n"


def test_a_promise_may_ask_for_more_than_the_budget_does(run: Terminal) -> None:
    """The share is within it, its interval only at a higher threshold, or at none."""
    same = '{"similarity": 0.99, "verdict": "same", "class": "I"}\n'
    different = '{"similarity": 0.%s, "verdict": "different", "class": "I"}\n'
    text = same * 9 + different % "98" * 5 + different % "5" * 295
    Path("shadow.jsonl").write_text(text)
    _, out, _ = run("calibrate", "--pairs", "shadow.jsonl", "--guards", "balanced")
    assert "strict: 0.483 for at most 2.0% wrong" in out
    assert "  0.963 with 95 % confidence: serves 100.0%" in out
    Path("shadow.jsonl").write_text(text + '{"similarity": 1, "verdict": "different", "class": "0"}\n' * 4)
    _, out, _ = run("calibrate", "--pairs", "shadow.jsonl")
    assert "  no promise: some of different meaning are served wrongly at any threshold" in out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--embedder", "embedded", "--config", "aicache.yaml"), 2, "two embedders are named"),
        (("--model", "e5-small-q4"), 2, "--model belongs to an --embedder"),
        (("--wrong-max", "0"), 2, "greater than or equal"),
        (("--guards", "none"), 2, "'strict', 'balanced', 'loose'"),
        (("--embedder", "nobody"), 1, "nobody"),
        (("--config", "aicache.yaml"), 1, "embedder: there is none; write `embedder: {type: embedded}`"),
        (("--pairs", "fr"), 1, "fr: cannot be read"),
        (("--plot", "served.svg"), 1, "must end in .png"),
    ],
    ids=["two", "model-alone", "budget", "guards", "type", "no-embedder", "no-pairs", "no-png"],
)
def test_what_is_asked_wrongly_is_said(run: Terminal, arguments: tuple[str, ...], code: int, said: str) -> None:
    """Exit code 2 for wrong usage, 1 for what is wrong in a file."""
    Path("aicache.yaml").write_text("log: {level: info}\n")
    ended, _, err = run("calibrate", *arguments)
    assert code == ended
    assert said in err
