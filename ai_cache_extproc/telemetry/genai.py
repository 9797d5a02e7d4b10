"""What OpenTelemetry's conventions for generative AI call the parts of an LLM call. Never content.

Attributes and words: https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/ ; all are in development there.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ai_cache_extproc.model import Mode, Question, Usage
from ai_cache_extproc.telemetry.traces import Attribute

PREFIX = "gen_ai."
VARIABLE = "OTEL_SEMCONV_STABILITY_OPT_IN"
"""The environment variable of the conventions: words between commas."""
OPT_IN = "gen_ai_latest_experimental"
"""The word in it that asks for these attributes."""
MODEL_CHARS_MAX = 200
"""A client may write anything as its model; no more of it is sent."""

_NO_VENDOR = "other"
_VENDORS: Mapping[str, str] = MappingProxyType(
    {
        "openai_chat": "openai",
        "openai_completions": "openai",
        "openai_responses": "openai",
        "openai_embeddings": "openai",
        "anthropic_messages": "anthropic",
        "anthropic_count_tokens": "anthropic",
        "gemini": "gcp.gemini",
        "gemini_count_tokens": "gcp.gemini",
        # The conventions have no word for these two.
        "dashscope": "dashscope",
        "ollama": "ollama",
    }
)
_OPERATIONS: Mapping[str, str] = MappingProxyType(
    {
        "openai_chat": "chat",
        "openai_completions": "text_completion",
        "openai_responses": "chat",
        "openai_embeddings": "embeddings",
        "anthropic_messages": "chat",
        "anthropic_count_tokens": "count_tokens",
        "gemini": "generate_content",
        "gemini_count_tokens": "count_tokens",
        "dashscope": "chat",
        "ollama": "chat",
    }
)


def is_opted_in(environ: Mapping[str, str]) -> bool:
    """Whether the environment asks for the attributes of the conventions."""
    return OPT_IN in (word.strip() for word in environ.get(VARIABLE, "").split(","))


def vendor_of(dialect: str) -> str:
    """Whose API a dialect is, from a closed set. Who serves it may be somebody else."""
    return _VENDORS.get(dialect, _NO_VENDOR)


def asked(question: Question) -> dict[str, Attribute]:
    """What is known of a call once it is read. Nothing where the conventions have no name for it, as for a template's."""
    if question.dialect not in _OPERATIONS:
        return {}
    return {
        "gen_ai.operation.name": _OPERATIONS[question.dialect],
        "gen_ai.provider.name": vendor_of(question.dialect),
        "gen_ai.request.model": _bounded(question.model),
        # If and only if it streams, as the convention has it.
        "gen_ai.request.stream": None if question.mode is Mode.JSON else True,
    }


def answered(model: str | None) -> dict[str, Attribute]:
    """What an answer says of itself. model: None where it does not say, or was not looked at."""
    return {"gen_ai.response.model": _bounded(model)}


def used(usage: Usage | None) -> dict[str, Attribute]:
    """The tokens of an answer that came from the upstream just now; all input counts, the upstream's own cache included."""
    if usage is None:
        return {}
    return {
        "gen_ai.usage.input_tokens": usage.input_tokens + usage.cached_tokens,
        "gen_ai.usage.output_tokens": usage.output_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens or None,
    }


def spared(usage: Usage | None) -> dict[str, Attribute]:
    """The tokens of an answer from the cache, under names of our own: whoever adds up the convention's counts none twice."""
    if usage is None:
        return {}
    return {
        "saved_input_tokens": usage.input_tokens + usage.cached_tokens,
        "saved_output_tokens": usage.output_tokens,
    }


def _bounded(model: str | None) -> str | None:
    return model[:MODEL_CHARS_MAX] if model else None
