"""The tables of docs/semantic.md are those that `bench.semantic` printed, of the rule and the pairs as they are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from ai_cache_extproc.config.load import load
from ai_cache_extproc.config.semantic import Semantic
from ai_cache_extproc.telemetry.share import Share
from bench.semantic import fingerprint, partition
from bench.semantic_tables import DOCUMENT, FIGURES, block, markdown


@pytest.fixture(scope="module")
def figures() -> Mapping[str, Any]:
    """What was measured."""
    found: Mapping[str, Any] = orjson.loads(FIGURES.read_bytes())
    return found


def test_the_document_shows_what_was_measured(figures: Mapping[str, Any]) -> None:
    """`python -m bench.semantic --write-docs` writes both."""
    assert markdown(figures) == block()


def test_what_was_measured_is_what_is_here(figures: Mapping[str, Any]) -> None:
    """A change of lists, rule or pairs asks for a new measurement."""
    assert fingerprint() == figures["fingerprint"], "run python -m bench.semantic --write-docs"


GOALS = [("guards", 0.47, 0.06), ("strict", 0.42, 0.02), ("balanced", 0.55, 0.03), ("loose", 0.65, 0.04)]


@pytest.mark.parametrize(("name", "hits_min", "wrong_max"), GOALS, ids=[name for name, *_ in GOALS])
def test_each_mode_keeps_its_goal_on_fow_cache(
    figures: Mapping[str, Any], name: str, hits_min: float, wrong_max: float
) -> None:
    """With the embedded default; `guards` is the threshold with the guards alone."""
    hits, same, wrong, others = figures["models"]["e5-small-q4"]["sets"]["fow-cache"][name]
    assert Share(hits, same).value >= hits_min
    assert Share(wrong, others).value <= wrong_max


def test_no_conversation_is_answered_from_another(figures: Mapping[str, Any]) -> None:
    """The last message alone would serve nearly all traps; what stands before it keeps every one away."""
    alone, beside = figures["conversations"].values()
    assert alone[2] > 0.9 * alone[3]
    assert beside[2] == 0


def test_conversations_that_differ_before_their_end_are_in_other_partitions() -> None:
    """And those that do not are in one, whatever their last message says."""
    turns = [{"role": "user", "content": "my gym"}, {"role": "assistant", "content": "yes?"}]
    last = {"role": "user", "content": "cancel it"}
    assert partition([*turns, last]) == partition([*turns, {"role": "user", "content": "please cancel"}])
    assert partition([*turns, last]) != partition([{"role": "user", "content": "my paper"}, turns[1], last])


def test_the_configuration_shown_is_one_that_loads(tmp_path: Path) -> None:
    """And the fields of the mode stand there with their defaults."""
    whole, section, *_ = re.findall(r"```yaml\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "aicache.yaml").write_text(whole)
    assert load(tmp_path / "aicache.yaml", environ={}).config.rules[0].is_semantic
    assert Semantic() == Semantic.model_validate(yaml.safe_load(section)["semantic"])
