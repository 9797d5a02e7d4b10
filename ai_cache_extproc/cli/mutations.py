"""Which headers the sidecar changes, as Envoy's `mutation_rules` must allow it. Pure, and without Envoy's own types."""

from __future__ import annotations

import re

from ai_cache_extproc.config.labels import NAMED
from ai_cache_extproc.config.model import Config

MAY_CHANGE = "x-ai-cache-.*|cache-status|age|content-type|accept-encoding"
"""What the shipped files allow; Envoy matches the whole name."""


def may_change(config: Config) -> str:
    """The expression that allows every header that the sidecar sets or removes under this configuration."""
    return "|".join((MAY_CHANGE, *map(re.escape, beyond(config))))


def beyond(config: Config) -> tuple[str, ...]:
    """The names of labels that the shipped files do not allow."""
    names = (getattr(config.labels, label) for label in NAMED)
    return tuple(name for name in names if name is not None and not re.fullmatch(MAY_CHANGE, name))
