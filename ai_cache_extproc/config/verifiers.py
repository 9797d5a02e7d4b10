"""The sections of the document that name a service which is asked whether two questions mean the same."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Discriminator, Field, SecretStr, model_validator

from ai_cache_extproc.config.http import HttpService, ServiceUrl, refuse_two

Word = Annotated[str, Field(min_length=1, max_length=256)]
UrlPath = Annotated[str, Field(pattern=r"^(/[\x21-\x7e]{0,255})?$")]


class _Verifying(HttpService):
    """What both kinds have. Questions are sent to this service."""

    timeout_ms: int = Field(500, ge=1)
    """For one call, connecting and reading included. A late answer is a no."""
    api_key: SecretStr | None = None
    api_key_file: Path | None = None
    """Read again when it changes, so that a rotated key is picked up."""
    remembered_max: int = Field(4096, ge=0)
    """So many answers are remembered in the process."""

    @model_validator(mode="after")
    def _one_key(self) -> _Verifying:
        refuse_two("api_key", self.api_key, self.api_key_file)
        return self


class RerankVerifier(_Verifying):
    """A reranker: Cohere, Jina, or a server of your own (text-embeddings-inference, vLLM, Infinity)."""

    type: Literal["rerank"]
    url: ServiceUrl
    """`https://api.cohere.com/v2`, `https://api.jina.ai/v1`, `http://HOST:PORT`."""
    path: UrlPath = "/rerank"
    """After the URL."""
    style: Literal["cohere", "tei"] = "cohere"
    """`cohere`: asked with `documents`, answers `results` with `relevance_score`, as Jina and vLLM do too. `tei`: asked with
    `texts`, answers a list with `score`."""
    model: Word | None = None
    """`rerank-v3.5`, `jina-reranker-v2-base-multilingual`; a server of one model needs none."""
    score_min: float = Field(0.9, ge=0, le=1)
    """From which score on the answer is yes; rerankers score relevance, so try it on pairs of your own."""


class LlmVerifier(_Verifying):
    """A chat model behind OpenAI's API, or one compatible with it, which answers yes or no."""

    type: Literal["llm"]
    url: ServiceUrl = "https://api.openai.com/v1"
    path: UrlPath = "/chat/completions"
    """After the URL."""
    model: Word
    timeout_ms: int = Field(2000, ge=1)
    """For one call, connecting and reading included. A late answer is a no."""


Verifier = Annotated[RerankVerifier | LlmVerifier, Discriminator("type")]
