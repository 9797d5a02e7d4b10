"""Where an exchange is in its life. Every transition lives in this table.

The table does not know why an exchange moves, only where it may go. Each phase also accepts the end
of the gRPC stream, which changes nothing here: it proves nothing about the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from ai_cache_extproc.errors import ProtocolViolation
from ai_cache_extproc.extproc.events import Part


class Phase(StrEnum):
    """The seven phases; the value says what is true in it."""

    OPENED = "nothing seen"
    READING = "cacheable, body arriving"
    FORWARDED = "missed, upstream answering"
    CAPTURING = "a keepable answer passing by"
    PASSING = "not ours"
    ANSWERED = "replied in the upstream's place"
    SETTLED = "stored or abandoned"


def _on_anything(phase: Phase) -> Mapping[Part, frozenset[Phase]]:
    return {part: frozenset({phase}) for part in Part}


TRANSITIONS: Mapping[Phase, Mapping[Part, frozenset[Phase]]] = {
    Phase.OPENED: {
        # Answered where the client wants a kept answer or none, and there can be none.
        Part.REQUEST_HEADERS: frozenset({Phase.READING, Phase.PASSING, Phase.ANSWERED}),
        Part.REQUEST_BODY: frozenset({Phase.PASSING}),
        # A filter before us answered: the first thing shown is its answer.
        Part.RESPONSE_HEADERS: frozenset({Phase.PASSING}),
    },
    Phase.READING: {
        Part.REQUEST_BODY: frozenset({Phase.READING, Phase.ANSWERED, Phase.FORWARDED, Phase.PASSING}),
        Part.REQUEST_TRAILERS: frozenset({Phase.PASSING}),
        # Envoy answered by itself (413, 503), or did not follow our override.
        Part.RESPONSE_HEADERS: frozenset({Phase.PASSING}),
    },
    Phase.FORWARDED: {
        Part.REQUEST_TRAILERS: frozenset({Phase.FORWARDED}),
        Part.RESPONSE_HEADERS: frozenset({Phase.CAPTURING, Phase.PASSING, Phase.ANSWERED}),
    },
    Phase.CAPTURING: {
        Part.RESPONSE_BODY: frozenset({Phase.CAPTURING, Phase.SETTLED, Phase.PASSING}),
        Part.RESPONSE_TRAILERS: frozenset({Phase.SETTLED, Phase.PASSING}),
    },
    Phase.PASSING: _on_anything(Phase.PASSING),
    Phase.ANSWERED: _on_anything(Phase.ANSWERED),
    Phase.SETTLED: _on_anything(Phase.SETTLED),
}


_STEPS = frozenset(
    (phase, part, target)
    for phase, parts in TRANSITIONS.items()
    for part, targets in parts.items()
    for target in targets
)


def allowed(phase: Phase, part: Part) -> frozenset[Phase]:
    """Where `phase` may go on `part`; empty where that part must not come."""
    return TRANSITIONS[phase].get(part, frozenset())


def step(phase: Phase, part: Part, target: Phase) -> Phase:
    """Return `target` if the table has that step; raises ProtocolViolation otherwise."""
    if (phase, part, target) not in _STEPS:
        raise ProtocolViolation(f"{phase.name} may not become {target.name} on {part.value}")
    return target
