"""What a document that is not ours comes to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ai_cache_extproc.config.apisix_semantic import ApisixSemantic
from ai_cache_extproc.config.higress_notes import Note
from ai_cache_extproc.config.higress_semantic import HigressSemantic


@dataclass(frozen=True, slots=True)
class Translation:
    """values: a native document, secrets as SecretStr. semantic: what is kept of each rule for semantic search."""

    values: dict[str, object]
    notes: tuple[Note, ...]
    semantic: tuple[HigressSemantic | ApisixSemantic, ...]
    form: Literal["higress", "apisix"] = "higress"
