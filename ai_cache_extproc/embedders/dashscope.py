"""DashScope's own text embedding API (Alibaba Cloud Model Studio)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ai_cache_extproc.clients.credential import Credential
from ai_cache_extproc.config.embedders import DashScopeEmbedder
from ai_cache_extproc.embedders.openai import by_index

_PATH = "/api/v1/services/embeddings/text-embedding/text-embedding"


class DashScope:
    """An Api. v3 and v4 take ten texts in a call, the older ones 25."""

    batch_max = 10

    def __init__(self, settings: DashScopeEmbedder) -> None:
        self.model = settings.model
        self.dimensions = settings.dimensions
        self.variant: str = settings.text_type
        self._key = Credential(settings.type, settings.api_key, settings.api_key_file)

    def headers(self) -> Mapping[str, str]:
        """`authorization: Bearer`."""
        return {"authorization": f"Bearer {self._key.text()}"}

    def request(self, texts: Sequence[str]) -> tuple[str, object]:
        """`dimension` only where it was asked for: v1 and v2 refuse it."""
        parameters: dict[str, object] = {"text_type": self.variant}
        if self.dimensions is not None:
            parameters["dimension"] = self.dimensions
        return _PATH, {"model": self.model, "input": {"texts": list(texts)}, "parameters": parameters}

    def vectors(self, answer: Any) -> object:  # noqa: ANN401
        """`output.embeddings[].embedding`, by `text_index`."""
        return by_index(answer["output"]["embeddings"], "text_index")
