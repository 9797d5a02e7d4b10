"""The sections of the document that say how questions become vectors, one for each kind of embedder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Discriminator, Field, SecretStr, model_validator

from ai_cache_extproc.config.http import HttpService, ServiceUrl, refuse_two
from ai_cache_extproc.config.section import Section

MIB = 1024 * 1024
DIMENSIONS_MAX = 16_384

Word = Annotated[str, Field(min_length=1, max_length=256)]
Dimensions = Annotated[int, Field(ge=2, le=DIMENSIONS_MAX)]


class _Embedding(Section):
    """What all embedders have."""

    cache_bytes_max: int = Field(16 * MIB, ge=0)
    """Vectors of texts asked again are kept in the process, up to here; 0 keeps none."""


class _Local(_Embedding):
    """A model that runs in this process, in one thread."""

    timeout_ms: int = Field(50, ge=1)
    """The budget of one embedding, its wait for the thread included. A late one is a miss."""
    chars_max: int | None = Field(None, ge=1)
    """Longer questions are matched exactly only. null: measured at start, so that one stays inside `timeout_ms`."""
    queue_max: int = Field(8, ge=1)
    """So many texts wait for the thread; beyond it a lookup is a miss."""
    failures_max: int = Field(5, ge=1)
    """So many late embeddings in a row open the circuit breaker."""
    probe_ms: int = Field(1000, ge=10)
    """How often one text is tried while it is open."""
    threads: int = Field(2, ge=1, le=64)
    """Processors that one embedding may use, at most as many as there are; use-multilingual-v3 always takes one."""
    scheduling: Literal["idle", "normal"] = "idle"
    """idle: they run while nothing else wants the processor (Linux, SCHED_IDLE), so that exact hits do not wait for them;
    on a machine that is never idle, nothing is then embedded in time."""


class EmbeddedEmbedder(_Local):
    """A small multilingual model that comes with the `embedded` extra; nothing leaves the machine."""

    type: Literal["embedded"]
    model: Literal["auto", "e5-small-q4", "use-multilingual-v3"] = "auto"
    """auto: e5-small-q4 where the processor has AVX2 (or is ARM), else use-multilingual-v3, which is lighter."""


class OnnxEmbedder(_Local):
    """A model of your own: a folder with `model.onnx` and `tokenizer.json`; needs the `onnx` extra."""

    type: Literal["onnx"]
    path: Path
    """The folder."""
    prefix: str = ""
    """Put before every text; `query: ` for the e5 family."""
    pooling: Literal["mean", "cls"] = "mean"
    """How the vectors of the tokens become one; a model that gives one vector per text is taken as it is."""
    tokens_max: int = Field(512, ge=8)
    """Longer texts are refused, never cut."""


class _Remote(HttpService, _Embedding):
    """A model behind an HTTP API."""

    chars_max: int = Field(512, ge=1)
    """Longer questions are matched exactly only, never cut."""
    prefix: str = ""
    """Put before every text, where the model wants one."""
    batch: int = Field(16, ge=1, le=256)
    """Texts in one call, where several are embedded at once; the API's own limit holds as well."""


class _Keyed(_Remote):
    api_key: SecretStr | None = None
    api_key_file: Path | None = None
    """Read again when it changes, so that a rotated key is picked up."""

    @model_validator(mode="after")
    def _one_key(self) -> _Keyed:
        refuse_two("api_key", self.api_key, self.api_key_file)
        return self


class _NeedsKey(_Keyed):
    @model_validator(mode="after")
    def _has_key(self) -> _NeedsKey:
        if self.api_key is None and self.api_key_file is None:
            raise ValueError("needs the service's key; write `api_key_file` (or `api_key`)")
        return self


class OpenAIEmbedder(_Keyed):
    """OpenAI's embeddings API, and everything that speaks it (vLLM, TEI, LiteLLM, ...)."""

    type: Literal["openai"]
    url: ServiceUrl = "https://api.openai.com/v1"
    path: str = Field("/embeddings", pattern=r"^/[\x21-\x7e]{0,255}$")
    """After the URL."""
    model: Word = "text-embedding-3-small"
    dimensions: Dimensions | None = None
    """Ask for shorter vectors, where the model can; else leave it out."""


class AzureOpenAIEmbedder(_NeedsKey):
    """A deployment in Azure."""

    type: Literal["azure_openai"]
    url: ServiceUrl
    """`https://RESOURCE.openai.azure.com`."""
    model: Word
    """The name of the deployment."""
    api_version: str | None = Field(None, pattern=r"^[A-Za-z0-9.-]{1,32}$")
    """Such as `2024-10-21`, for the API of dated versions; without it the `v1` API is asked, which has none."""
    dimensions: Dimensions | None = None


class DashScopeEmbedder(_NeedsKey):
    """Alibaba Cloud Model Studio, its own API."""

    type: Literal["dashscope"]
    url: ServiceUrl = "https://dashscope.aliyuncs.com"
    """`https://dashscope-intl.aliyuncs.com` outside China."""
    model: Word = "text-embedding-v4"
    dimensions: Dimensions | None = None
    text_type: Literal["query", "document"] = "query"
    """What the texts are to the model; both sides of a comparison get the same."""


class CohereEmbedder(_NeedsKey):
    """Cohere's v2 API."""

    type: Literal["cohere"]
    url: ServiceUrl = "https://api.cohere.com"
    model: Word = "embed-v4.0"
    dimensions: Dimensions | None = None
    """For embed-v4.0 and later."""
    input_type: Literal["search_document", "search_query", "classification", "clustering"] = "search_document"
    """What the texts are to the model; both sides of a comparison get the same."""


class OllamaEmbedder(_Keyed):
    """Ollama, on this machine or another."""

    type: Literal["ollama"]
    url: ServiceUrl = "http://localhost:11434"
    model: Word = "nomic-embed-text"
    dimensions: Dimensions | None = None
    keep_alive: str | None = Field(None, pattern=r"^-?[0-9]{1,9}(ms|s|m|h)?$")
    """How long Ollama keeps the model in memory after a call, such as `30m`; its own default is 5 minutes."""


class HuggingFaceEmbedder(_NeedsKey):
    """Feature extraction by Hugging Face's inference service, or an endpoint of your own."""

    type: Literal["huggingface"]
    url: ServiceUrl = "https://router.huggingface.co/hf-inference"
    path: str = Field("/models/{model}/pipeline/feature-extraction", pattern=r"^(/[\x21-\x7e]{0,255})?$")
    """After the URL; `{model}` stands for the model. Empty for an inference endpoint of your own."""
    model: Word = Field("sentence-transformers/all-MiniLM-L6-v2", pattern=r"^[\w.-]+(/[\w.-]+)?$")


class TextinEmbedder(_Remote):
    """TextIn's acge model."""

    type: Literal["textin"]
    url: ServiceUrl = "https://api.textin.com"
    app_id: Word
    app_secret: SecretStr | None = None
    app_secret_file: Path | None = None
    dimensions: Annotated[int, Field(ge=2, le=1792)] = 1792
    """The length of the vectors: 1024 or 1792 keep its quality."""

    @model_validator(mode="after")
    def _one_secret(self) -> TextinEmbedder:
        _one_of("app_secret", self.app_secret, self.app_secret_file)
        return self


class XfyunEmbedder(_Remote):
    """iFlytek's text embedding. Its signatures hold the time: a clock that is minutes off is refused."""

    type: Literal["xfyun"]
    url: ServiceUrl = "https://emb-cn-huabei-1.xf-yun.com"
    app_id: Word
    api_key: SecretStr | None = None
    api_key_file: Path | None = None
    api_secret: SecretStr | None = None
    api_secret_file: Path | None = None
    domain: Literal["query", "para"] = "query"
    """What the texts are to the model; both sides of a comparison get the same."""

    @model_validator(mode="after")
    def _one_secret(self) -> XfyunEmbedder:
        _one_of("api_key", self.api_key, self.api_key_file)
        _one_of("api_secret", self.api_secret, self.api_secret_file)
        return self


def _one_of(name: str, value: SecretStr | None, file: Path | None) -> None:
    refuse_two(name, value, file)
    if value is None and file is None:
        raise ValueError(f"needs the service's secret; write `{name}_file` (or `{name}`)")


RemoteEmbedder = (
    OpenAIEmbedder
    | AzureOpenAIEmbedder
    | DashScopeEmbedder
    | CohereEmbedder
    | OllamaEmbedder
    | HuggingFaceEmbedder
    | TextinEmbedder
    | XfyunEmbedder
)
Embedder = Annotated[EmbeddedEmbedder | OnnxEmbedder | RemoteEmbedder, Discriminator("type")]
