"""The section of the document that says where spans go."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator

from ai_cache_extproc.config.http import ServiceUrl, refuse_two
from ai_cache_extproc.config.section import Section

TRACES_PATH = "/v1/traces"
"""Where a collector takes spans (OTLP/HTTP), unless the endpoint names a path of its own."""


def check_authorization(text: str) -> None:
    """Raise ValueError for what no header can hold; the text does not quote it."""
    if not text or not text.isascii() or not text.isprintable():
        raise ValueError("is no value of a header; write `Bearer ...` or `Basic ...` on one line")


def _sendable(authorization: SecretStr) -> SecretStr:
    check_authorization(authorization.get_secret_value())
    return authorization


class Tracing(Section):
    """A span for each LLM call, sent to an OpenTelemetry collector (OTLP over HTTP). Needs the extra `otel`."""

    endpoint: ServiceUrl | None = None
    """`http://HOST:4318`; `/v1/traces` is added where it names no path. Without it there are no spans."""
    ratio: float = Field(1, ge=0, le=1)
    """The share of calls without a `traceparent` that begin a trace. With one, its sampled flag decides."""
    service_name: str = Field("ai-cache-extproc", min_length=1, max_length=200)
    """`service.name` of the spans."""
    authorization: Annotated[SecretStr, AfterValidator(_sendable)] | None = None
    """The header `authorization`, where the collector asks for one: `Bearer ...`."""
    authorization_file: Path | None = None
    """A file that holds it; read at start. Blanks and line ends around it are no part of it."""
    gen_ai: bool | None = None
    """Whether spans have the attributes of OpenTelemetry's conventions for generative AI: operation, provider, models, tokens;
    never content. Without it the environment decides: `OTEL_SEMCONV_STABILITY_OPT_IN=gen_ai_latest_experimental`."""
    timeout_ms: int = Field(2000, ge=1, le=60_000)
    """For sending one batch, in a thread of its own; what cannot be sent is dropped. Also how long a stop waits for it."""
    interval_ms: int = Field(1000, ge=10)
    """How often spans are sent."""
    queue_max: int = Field(2048, ge=1, le=1_000_000)
    """Spans that wait at the most; more are dropped."""

    @model_validator(mode="after")
    def _one_authorization(self) -> Tracing:
        refuse_two("authorization", self.authorization, self.authorization_file)
        return self

    @property
    def url(self) -> str | None:
        """Where batches are posted; None where there are no spans."""
        if self.endpoint is None:
            return None
        return self.endpoint if urlsplit(self.endpoint).path else self.endpoint + TRACES_PATH

    @property
    def headers(self) -> dict[str, str]:
        """What each batch is sent with. `load` has put the content of `authorization_file` into `authorization`."""
        return {} if self.authorization is None else {"authorization": self.authorization.get_secret_value()}
