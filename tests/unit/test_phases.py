"""The phase table, against a second one written from the design and not from the code."""

from __future__ import annotations

from itertools import product

import pytest

from ai_cache_extproc.errors import ProtocolViolation
from ai_cache_extproc.extproc.events import Part
from ai_cache_extproc.extproc.phases import Phase, allowed, step

# One line per phase and part: where it may go. A pair that stands nowhere may go nowhere.
DESIGN = """
OPENED     request headers    READING ANSWERED PASSING
OPENED     request body       PASSING
OPENED     response headers   PASSING
READING    request body       READING ANSWERED FORWARDED PASSING
READING    request trailers   PASSING
READING    response headers   PASSING
FORWARDED  request trailers   FORWARDED
FORWARDED  response headers   CAPTURING PASSING ANSWERED
CAPTURING  response body      CAPTURING SETTLED PASSING
CAPTURING  response trailers  SETTLED PASSING
PASSING    request headers    PASSING
PASSING    request body       PASSING
PASSING    request trailers   PASSING
PASSING    response headers   PASSING
PASSING    response body      PASSING
PASSING    response trailers  PASSING
ANSWERED   request headers    ANSWERED
ANSWERED   request body       ANSWERED
ANSWERED   request trailers   ANSWERED
ANSWERED   response headers   ANSWERED
ANSWERED   response body      ANSWERED
ANSWERED   response trailers  ANSWERED
SETTLED    request headers    SETTLED
SETTLED    request body       SETTLED
SETTLED    request trailers   SETTLED
SETTLED    response headers   SETTLED
SETTLED    response body      SETTLED
SETTLED    response trailers  SETTLED
"""

PHASES = ["OPENED", "READING", "FORWARDED", "CAPTURING", "PASSING", "ANSWERED", "SETTLED"]
PARTS = [f"{side} {part}" for side in ("request", "response") for part in ("headers", "body", "trailers")]
TARGETS = {
    (phase, f"{side} {part}"): frozenset(targets)
    for phase, side, part, *targets in (line.split() for line in DESIGN.strip().splitlines())
}


def test_the_phases_and_parts_are_those_of_the_design() -> None:
    """Nothing was added to the code that the table here does not know."""
    assert [phase.name for phase in Phase] == PHASES
    assert [part.value for part in Part] == PARTS
    assert len(TARGETS) == 28


@pytest.mark.parametrize(("phase", "part"), [*product(PHASES, PARTS)])
def test_a_phase_may_go_exactly_where_the_design_says(phase: str, part: str) -> None:
    """All 42 pairs, those included that may go nowhere."""
    expected = TARGETS.get((phase, part), frozenset())
    assert expected == {target.name for target in allowed(Phase[phase], Part(part))}


@pytest.mark.parametrize(("phase", "part", "target"), [*product(PHASES, PARTS, PHASES)])
def test_a_step_is_taken_or_refused_as_the_design_says(phase: str, part: str, target: str) -> None:
    """All 294 steps: one that stands in the table gives its target, any other says what was tried."""
    if target in TARGETS.get((phase, part), frozenset()):
        assert Phase[target] is step(Phase[phase], Part(part), Phase[target])
    else:
        with pytest.raises(ProtocolViolation) as refused:
            step(Phase[phase], Part(part), Phase[target])
        assert f"{phase} may not become {target} on {part}" == str(refused.value)
