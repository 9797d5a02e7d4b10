"""Azure OpenAI: the `v1` API, or a deployment's path with a dated version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from ai_cache_extproc.clients.credential import Credential
from ai_cache_extproc.config.embedders import AzureOpenAIEmbedder
from ai_cache_extproc.embedders.openai import by_index
from ai_cache_extproc.embedders.remote import EVERY


class AzureOpenAI:
    """An Api. `model` is the name of a deployment."""

    batch_max = EVERY

    def __init__(self, settings: AzureOpenAIEmbedder) -> None:
        self.model = settings.model
        self.dimensions = settings.dimensions
        # The version says how the API is spoken, not what the model makes of a text.
        self.variant = ""
        self._version = settings.api_version
        self._key = Credential(settings.type, settings.api_key, settings.api_key_file)

    def headers(self) -> Mapping[str, str]:
        """`api-key`."""
        return {"api-key": self._key.text()}

    def request(self, texts: Sequence[str]) -> tuple[str, object]:
        """The dated API takes the deployment from its path, the other from the body."""
        body: dict[str, object] = {"input": list(texts)}
        if self.dimensions is not None:
            body["dimensions"] = self.dimensions
        if self._version is None:
            return "/openai/v1/embeddings", {"model": self.model, **body}
        deployment = quote(self.model, safe="")
        return f"/openai/deployments/{deployment}/embeddings?api-version={self._version}", body

    def vectors(self, answer: Any) -> object:  # noqa: ANN401
        """As OpenAI's."""
        return by_index(answer["data"], "index")
