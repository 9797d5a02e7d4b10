"""What a document that is not ours comes to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ai_cache_extproc.config.higress_notes import Note


@dataclass(frozen=True, slots=True)
class Translation:
    """values: a native document, secrets as SecretStr."""

    values: dict[str, object]
    notes: tuple[Note, ...]
    form: Literal["higress", "apisix"] = "higress"
