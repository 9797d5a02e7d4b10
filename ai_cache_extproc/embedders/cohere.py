"""Cohere's embed API, version 2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ai_cache_extproc.clients.credential import Credential
from ai_cache_extproc.config.embedders import CohereEmbedder


class Cohere:
    """An Api."""

    batch_max = 96

    def __init__(self, settings: CohereEmbedder) -> None:
        self.model = settings.model
        self.dimensions = settings.dimensions
        self.variant: str = settings.input_type
        self._key = Credential(settings.type, settings.api_key, settings.api_key_file)

    def headers(self) -> Mapping[str, str]:
        """`authorization: Bearer`."""
        return {"authorization": f"Bearer {self._key.text()}"}

    def request(self, texts: Sequence[str]) -> tuple[str, object]:
        """A text that is too long is an error (`truncate: NONE`): a cut one would match what it does not say."""
        body: dict[str, object] = {
            "model": self.model,
            "texts": list(texts),
            "input_type": self.variant,
            "embedding_types": ["float"],
            "truncate": "NONE",
        }
        if self.dimensions is not None:
            body["output_dimension"] = self.dimensions
        return "/v2/embed", body

    def vectors(self, answer: Any) -> object:  # noqa: ANN401
        """`embeddings.float`."""
        return answer["embeddings"]["float"]
