"""Which questions a rule's sampling policy leaves out."""

from __future__ import annotations

import pytest

from ai_cache_extproc.cache.sampling import is_too_random
from ai_cache_extproc.config.rules import Sampling

COOL = Sampling(temperature_max=0.3)


@pytest.mark.parametrize(
    ("body", "left_out"),
    [
        pytest.param({"temperature": 0}, False, id="zero"),
        pytest.param({"temperature": 0.3}, False, id="at the bound"),
        pytest.param({"temperature": 0.31}, True, id="above"),
        pytest.param({}, True, id="absent, which means 1"),
        pytest.param({"temperature": None}, True, id="null"),
        pytest.param({"temperature": True}, True, id="no number"),
        pytest.param({"temperature": 1, "seed": 7}, False, id="a seed"),
        pytest.param({"temperature": 1, "seed": None}, True, id="no seed"),
        pytest.param({"generationConfig": {"temperature": 0.1}}, False, id="Gemini"),
        pytest.param({"parameters": {"temperature": 0.1}}, False, id="DashScope"),
        pytest.param({"options": {"temperature": 0.1, "seed": 1}}, False, id="Ollama"),
        pytest.param({"options": 5}, True, id="options of another kind"),
        pytest.param({"temperature": 0.1, "options": {"temperature": 0.9}}, True, id="the highest counts"),
    ],
)
def test_the_temperature_decides(body: dict[str, object], left_out: bool) -> None:
    """At most the rule's temperature, wherever the API names it, or a seed."""
    assert left_out is is_too_random(body, COOL)


def test_a_seed_may_not_be_enough() -> None:
    """`seed: false` asks for the temperature whatever the seed."""
    assert is_too_random({"temperature": 1, "seed": 7}, Sampling(temperature_max=0.3, seed=False))


def test_without_a_bound_every_question_is_looked_up() -> None:
    """By default the temperature does not matter."""
    assert not is_too_random({"temperature": 2}, Sampling())
