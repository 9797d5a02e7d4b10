"""What a verifier is: two texts in, whether one answer does for both."""

from __future__ import annotations

from enum import Enum
from typing import Protocol


class Subject(Enum):
    """What the two texts are."""

    QUESTIONS = "questions"
    ANSWERS = "answers"


class Verifier(Protocol):
    """A second opinion on two texts."""

    name: str
    """As metrics and errors name it."""
    identity: str
    """Kind, endpoint, model and whatever else changes what it says."""
    remembered_max: int
    """So many of its answers are worth remembering."""

    async def holds(self, one: str, other: str, subject: Subject) -> bool:
        """Whether they mean the same. Raises BackendError, also for an answer that is neither yes nor no."""
        ...
