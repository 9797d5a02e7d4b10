"""Whether two answers say the same: letter by letter, else by the cosine of how they begin, else by the verifier."""

from __future__ import annotations

import unicodedata
from typing import Final

from ai_cache_extproc.cache.semantic import Semantic
from ai_cache_extproc.config.semantic import Semantic as Settings
from ai_cache_extproc.errors import BackendError
from ai_cache_extproc.telemetry.metrics import Metrics
from ai_cache_extproc.telemetry.shadow import Verdict

COMPARED_CHARS: Final = 512
ALIKE_BELOW: Final = 0.03
"""Two answers of one model to one question are in other words each time: less is asked of them than of questions."""
_AROUND: Final = " .!?*_#\"'。"


class Comparing:
    """Compares the texts of answers with the embedder that compares questions."""

    def __init__(self, semantic: Semantic, *, metrics: Metrics) -> None:
        self._semantic = semantic
        self._metrics = metrics

    async def verdict(self, settings: Settings, stored: str | None, fresh: str | None) -> Verdict:
        """None stands for an answer that is more than text, of which nothing is sure."""
        if stored is None or fresh is None:
            return "unsure"
        if normalised(stored) == normalised(fresh):
            return "same"
        try:
            cosine = await self.cosine(stored, fresh)
        except BackendError as error:
            self._metrics.backend_error(error)
            return "unsure"
        if cosine >= self._alike(settings):
            return "alike"
        verifying = self._semantic.verifying
        if verifying is None:
            return "different"
        from ai_cache_extproc.verifiers.base import Subject  # noqa: PLC0415 - hardly anyone has one

        said = await verifying.ask(stored[:COMPARED_CHARS], fresh[:COMPARED_CHARS], Subject.ANSWERS)
        return "unsure" if said is None else "alike" if said else "different"

    async def cosine(self, one: str, other: str) -> float:
        """How alike two texts begin. Raises BackendError."""
        import numpy as np  # noqa: PLC0415 - it is there where there is an embedder

        sides = []
        for text in (one, other):
            # An embedder that takes less than that is given it in pieces, whose mean stands for the whole.
            vectors = [await self._semantic.vector(piece) for piece in self._pieces(text)]
            mean = np.mean(vectors, axis=0)
            sides.append(mean / max(float(np.linalg.norm(mean)), 1e-9))
        return float(sides[0] @ sides[1])

    def _pieces(self, text: str) -> list[str]:
        """The begin of a text, as long as is compared, in pieces of one length that the embedder takes."""
        begin = text[:COMPARED_CHARS]
        count = -(-len(begin) // self._semantic.embedder.chars_max)
        length = -(-len(begin) // count)
        return [begin[at : at + length] for at in range(0, len(begin), length)]

    def _alike(self, settings: Settings) -> float:
        shadow, threshold = settings.shadow, self._semantic.threshold(settings)
        assert shadow is not None, "only shadow mode compares"
        assert threshold is not None, "nothing is asked without one"
        return threshold - ALIKE_BELOW if shadow.alike_similarity is None else shadow.alike_similarity


def normalised(text: str) -> str:
    """A text without what changes no meaning: case, spaces, width of characters, marks around it."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).strip(_AROUND)
