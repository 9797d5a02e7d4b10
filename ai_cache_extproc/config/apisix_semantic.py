"""What an APISIX document says of semantic search: checked, completed with the plugin's defaults, and kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import SecretStr


@dataclass(frozen=True, slots=True)
class ApisixEmbedder:
    """How questions become vectors. endpoint: the whole URL. model: empty where the endpoint says it.

    dimensions: None where the model's own are taken.
    """

    type: Literal["openai", "azure_openai"]
    endpoint: str
    model: str
    api_key: SecretStr
    dimensions: int | None
    verify: bool
    timeout_ms: int


@dataclass(frozen=True, slots=True)
class ApisixSemantic:
    """The semantic settings of one rule. threshold: cosine similarity, 0 to 1. index: the name of the RediSearch index.

    countback: how many of the messages that are not left out are compared, from the last. enabled: whether `layers` has it.
    """

    rule: str
    enabled: bool
    threshold: float
    top_k: int
    ttl_s: int
    countback: int
    ignore_system: bool
    ignore_assistant: bool
    ignore_tool: bool
    embedder: ApisixEmbedder
    index: str
