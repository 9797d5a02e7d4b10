"""OpenAI's embeddings API (POST /v1/embeddings), which many servers speak."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ai_cache_extproc.clients.credential import Credential
from ai_cache_extproc.config.embedders import OpenAIEmbedder
from ai_cache_extproc.embedders.remote import EVERY


class OpenAI:
    """An Api. Where no key is configured, none is sent: servers of one's own often take none."""

    batch_max = EVERY

    def __init__(self, settings: OpenAIEmbedder) -> None:
        self.model = settings.model
        self.dimensions = settings.dimensions
        self.variant = ""
        self._path = settings.path
        self._key = Credential(settings.type, settings.api_key, settings.api_key_file)

    def headers(self) -> Mapping[str, str]:
        """`authorization: Bearer`."""
        key = self._key.text()
        return {"authorization": f"Bearer {key}"} if key else {}

    def request(self, texts: Sequence[str]) -> tuple[str, object]:
        """`input` may be a list everywhere. `encoding_format` stays away: not every server knows it."""
        body: dict[str, object] = {"model": self.model, "input": list(texts)}
        if self.dimensions is not None:
            body["dimensions"] = self.dimensions
        return self._path, body

    def vectors(self, answer: Any) -> object:  # noqa: ANN401
        """`data[].embedding`, by `index`."""
        return by_index(answer["data"], "index")


def by_index(items: Sequence[Mapping[str, Any]], name: str) -> list[object]:
    """The embeddings of `items` in the order that each says under `name`. Raises ValueError for gaps."""
    ordered = sorted(items, key=lambda item: int(item[name]))
    if [item[name] for item in ordered] != list(range(len(ordered))):
        raise ValueError("the indices are not those of the texts")
    return [item["embedding"] for item in ordered]
