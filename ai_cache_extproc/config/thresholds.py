"""From which cosine on two questions are taken for the same, per model, where nobody configured it.

Measured for the models that come with us (`docs/embedders.md`); of others there are estimates at best.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple


class Threshold(NamedTuple):
    """value: None where there is no idea. is_measured: False for an estimate, which deserves a warning."""

    value: float | None
    is_measured: bool


E5_SMALL_Q4: Final = "e5-small-q4"
USE_MULTILINGUAL: Final = "use-multilingual-v3"

# The models of one family share how close strangers are to each other.
_KNOWN: Final = (
    (re.compile(r"e5-small-q4"), Threshold(0.97, is_measured=True)),
    (re.compile(r"use-multilingual-v3"), Threshold(0.93, is_measured=True)),
    (re.compile(r"multilingual-e5-"), Threshold(0.97, is_measured=False)),
    (re.compile(r"all-minilm-l6-v2", re.IGNORECASE), Threshold(0.92, is_measured=True)),
    (re.compile(r"text-embedding-ada-002"), Threshold(0.96, is_measured=False)),
    (re.compile(r"text-embedding-3-|text-embedding-v[34]\b"), Threshold(0.92, is_measured=False)),
    (re.compile(r"\bembed-(v4|(english|multilingual)(-light)?-v3)"), Threshold(0.92, is_measured=False)),
    (re.compile(r"\bbge-|nomic-embed"), Threshold(0.92, is_measured=False)),
)
_UNKNOWN: Final = Threshold(None, is_measured=False)


def threshold_for(model: str) -> Threshold:
    """The default of a model, by its name."""
    return next((threshold for pattern, threshold in _KNOWN if pattern.search(model)), _UNKNOWN)
