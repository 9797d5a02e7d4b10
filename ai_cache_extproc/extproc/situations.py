"""What an exchange has to remember in each phase, so that nothing is read outside the phase it belongs to."""

from __future__ import annotations

from dataclasses import dataclass, field

from ai_cache_extproc.cache.admission import Admitted
from ai_cache_extproc.cache.collection import Collection
from ai_cache_extproc.cache.flights import Turn
from ai_cache_extproc.model import Bypass, Miss, Question


@dataclass(slots=True)
class Opened:
    """Nothing seen."""


@dataclass(slots=True)
class Reading:
    """A request body is arriving. turn: taken when the body was read, until the lookup is over."""

    admitted: Admitted
    chunks: list[bytes] = field(default_factory=list)
    size_bytes: int = 0
    turn: Turn | None = None


@dataclass(slots=True)
class Forwarded:
    """The upstream is answering. since_s: monotonic seconds when the request went on."""

    admitted: Admitted
    question: Question
    miss: Miss
    since_s: float


@dataclass(slots=True)
class Capturing:
    """A keepable answer is passing by."""

    forwarded: Forwarded
    collection: Collection


@dataclass(slots=True)
class Passing:
    """Not ours. bypass: what to say of it on the answer's headers, for an LLM call that was bypassed."""

    bypass: Bypass | None = None


@dataclass(slots=True)
class Done:
    """Answered or settled: whatever still arrives is let through."""


Situation = Opened | Reading | Forwarded | Capturing | Passing | Done
