"""Ollama's embed API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ai_cache_extproc.clients.credential import Credential
from ai_cache_extproc.config.embedders import OllamaEmbedder
from ai_cache_extproc.embedders.remote import EVERY


class Ollama:
    """An Api. A key is sent where one is configured, for a proxy in front or Ollama's cloud."""

    batch_max = EVERY

    def __init__(self, settings: OllamaEmbedder) -> None:
        self.model = settings.model
        self.dimensions = settings.dimensions
        self.variant = ""
        self._keep_alive = settings.keep_alive
        self._key = Credential(settings.type, settings.api_key, settings.api_key_file)

    def headers(self) -> Mapping[str, str]:
        """`authorization: Bearer`, if at all."""
        key = self._key.text()
        return {"authorization": f"Bearer {key}"} if key else {}

    def request(self, texts: Sequence[str]) -> tuple[str, object]:
        """Ollama cuts what is too long unless `truncate` is false; a cut text would match what it does not say."""
        body: dict[str, object] = {"model": self.model, "input": list(texts), "truncate": False}
        if self.dimensions is not None:
            body["dimensions"] = self.dimensions
        if self._keep_alive is not None:
            body["keep_alive"] = self._keep_alive
        return "/api/embed", body

    def vectors(self, answer: Any) -> object:  # noqa: ANN401
        """`embeddings`."""
        return answer["embeddings"]
