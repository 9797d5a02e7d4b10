"""Whether a question asks for an answer that is worth giving again. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from ai_cache_extproc.config.rules import Sampling

DEFAULT_TEMPERATURE = 1.0
"""What every API here takes where none is named."""

# Where the APIs have their sampling parameters: OpenAI and Anthropic on top, Gemini, DashScope, Ollama.
_HOLDERS = ("generationConfig", "generation_config", "parameters", "options")


def is_too_random(body: Mapping[str, object], sampling: Sampling) -> bool:
    """Whether the question is above the rule's temperature, and not tied down by a seed."""
    if sampling.temperature_max is None:
        return False
    if sampling.seed and _numbers(body, "seed"):
        return False
    return max(_numbers(body, "temperature"), default=DEFAULT_TEMPERATURE) > sampling.temperature_max


def _numbers(body: Mapping[str, object], name: str) -> list[float]:
    """The numbers of this name, wherever an API would have it."""
    holders = [body, *(holder for where in _HOLDERS if isinstance(holder := body.get(where), dict))]
    values = [holder.get(name) for holder in holders]
    return [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
