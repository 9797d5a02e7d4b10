"""The demo's second part: questions of one meaning in other words, and two that only look alike."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from ai_cache_extproc.cli.demo_client import Answer, ask, metrics
from ai_cache_extproc.cli.demo_words import STYLES
from ai_cache_extproc.config.embedders import EmbeddedEmbedder
from ai_cache_extproc.config.thresholds import USE_MULTILINGUAL
from ai_cache_extproc.embedders.embedded import chosen
from ai_cache_extproc.errors import ConfigError

# The default budget is for a machine that is not busy with starting all this.
SETTINGS = EmbeddedEmbedder(type="embedded", timeout_ms=1000, chars_max=96, scheduling="normal")
INDEXED_S_MAX = 10.0
_LOOK_S = 0.02
_INDEXED = "aicache_indexed_total"


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, what it is there for, and what becomes of it. light: with the model for processors without AVX2."""

    question: str
    says: str
    expected: str
    light: str


QUESTIONS = (
    Asked("星星是什么", "What are stars?", "MISS", "MISS"),
    Asked("什么是星星", "the same, turned round", "HIT", "HIT"),
    Asked("星星通常指什么", "the same, in other words", "HIT", "MISS"),
    Asked("月亮是什么", "another thing: the moon", "MISS", "MISS"),
    Asked("星星有多少颗", "another question: how many", "MISS", "MISS"),
)


def model_here() -> str | None:
    """The model that runs on this machine; None where none is installed."""
    try:
        return chosen(SETTINGS)
    except ConfigError:
        return None


def ask_all(port: int, admin: int, *, model: str, key: str | None) -> list[Answer]:
    """The answers, in order. Raises DemoFailed."""
    answers = []
    for each in QUESTIONS:
        before = _indexed(admin)
        answers.append(ask(port, each.question, model=model, stream=False, key=key))
        if answers[-1].cache_status == "MISS":
            _wait_beyond(before, admin)
    return answers


def table_of(answers: Sequence[Answer]) -> Table:
    """Each question and its outcome on one line."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for column in ("question", "", "status", "similarity"):
        table.add_column(column, no_wrap=True)
    table.add_column("total", justify="right", no_wrap=True)
    for each, answer in zip(QUESTIONS, answers, strict=True):
        status = answer.cache_status or "-"
        table.add_row(
            each.question,
            each.says,
            Text(status, STYLES.get(status, "red")),
            answer.headers.get("x-ai-cache-similarity", ""),
            f"{answer.total_ms:.0f} ms",
        )
    return table


def caption(embedder: str) -> str:
    """What matched them."""
    if embedder != USE_MULTILINGUAL:
        return f"matched by meaning on this machine: {embedder}, guards strict"
    return (
        f"matched by meaning on this machine: {embedder}. Without AVX2 it is this light model, which misses the third."
    )


def failure(answers: Sequence[Answer], embedder: str) -> str | None:
    """What did not come as it should; None if all did."""
    for each, answer in zip(QUESTIONS, answers, strict=True):
        expected = each.light if embedder == USE_MULTILINGUAL else each.expected
        if answer.cache_status != expected:
            reason = answer.headers.get("x-ai-cache-reason", "no reason was given")
            return f"{each.question} was {answer.cache_status or 'not seen by the sidecar'}, not {expected} ({reason})"
    return None


def _indexed(admin: int) -> float:
    return sum(float(line.rpartition(" ")[2]) for line in metrics(admin) if line.startswith(f"{_INDEXED}{{"))


def _wait_beyond(indexed: float, admin: int) -> None:
    """For what is stored behind the client's back; a question that comes too soon would miss."""
    give_up = time.monotonic() + INDEXED_S_MAX
    while _indexed(admin) <= indexed and time.monotonic() < give_up:
        time.sleep(_LOOK_S)
