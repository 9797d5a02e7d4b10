"""Hugging Face's feature extraction: the answer is the bare vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ai_cache_extproc.clients.credential import Credential
from ai_cache_extproc.config.embedders import HuggingFaceEmbedder

_BATCH_MAX = 32


class HuggingFace:
    """An Api. Models that give a vector for each token are refused by their shape: pool them behind the service."""

    batch_max = _BATCH_MAX

    def __init__(self, settings: HuggingFaceEmbedder) -> None:
        self.model = settings.model
        self.dimensions: int | None = None
        self.variant = ""
        self._path = settings.path.replace("{model}", settings.model)
        self._key = Credential(settings.type, settings.api_key, settings.api_key_file)

    def headers(self) -> Mapping[str, str]:
        """`authorization: Bearer`."""
        return {"authorization": f"Bearer {self._key.text()}"}

    def request(self, texts: Sequence[str]) -> tuple[str, object]:
        """Waiting for a model to be loaded would outlast any budget, so nobody asks for it: until then it is a miss."""
        return self._path, {"inputs": list(texts)}

    def vectors(self, answer: Any) -> object:  # noqa: ANN401
        """The body; some endpoints answer a list of one text with one flat vector."""
        return answer if isinstance(answer[0], list) else [answer]
