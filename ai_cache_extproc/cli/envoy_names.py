"""The names that Envoy's configuration and ours must agree on. Pure: no type of Envoy's is needed to check them."""

from __future__ import annotations

from collections.abc import Iterator

from ai_cache_extproc.cache.admission import SKIP_HEADER
from ai_cache_extproc.config.labels import TAGS_HEADER
from ai_cache_extproc.config.model import Config
from ai_cache_extproc.config.scope import CREDENTIAL_HEADERS
from ai_cache_extproc.extproc.codec import ATTRIBUTES_NAMESPACE
from ai_cache_extproc.extproc.server import RULE_METADATA
from ai_cache_extproc.telemetry.tracecontext import TRACEPARENT, TRACESTATE

__all__ = ["FILTER_NAME", "RULE_METADATA", "SIDECAR_CLUSTER", "needed_headers", "shown_headers"]

FILTER_NAME = ATTRIBUTES_NAMESPACE
"""Attributes arrive under the filter's own name."""
SIDECAR_CLUSTER = "ai_cache"

_PSEUDO = (":method", ":path", ":authority", ":status")
_ADMISSION = (
    "accept",
    "content-type",
    "content-length",
    "content-encoding",
    "cache-control",
    "upgrade",
    SKIP_HEADER,
)
_ANSWER_CHANGING = (
    "anthropic-version",
    "anthropic-beta",
    "openai-beta",
    "openai-organization",
    "openai-project",
    "x-dashscope-sse",
    "x-dashscope-async",
    "x-dashscope-plugin",
    "x-dashscope-workspace",
    "x-dashscope-datainspection",
    "x-dashscope-ossresourceresolve",
)
_AGAINST_KEEPING = ("vary", "set-cookie")
_TRACE = (TRACEPARENT, TRACESTATE)


def shown_headers(config: Config) -> tuple[str, ...]:
    """What our own configuration of Envoy shows the sidecar: what it needs, and which trace a request belongs to."""
    return tuple(dict.fromkeys((*needed_headers(config), *_TRACE)))


def needed_headers(config: Config) -> tuple[str, ...]:
    """What the sidecar must see, of requests and answers alike; what no rule of `config` names is left out.

    The usual credentials are always among them: a rule that leaves one out of its scope does so on purpose,
    and the next rule may not.
    """
    names = (*_PSEUDO, *_ADMISSION, *CREDENTIAL_HEADERS, *_ANSWER_CHANGING, *_AGAINST_KEEPING, *_named(config))
    return tuple(dict.fromkeys(names if config.tracing.url is None else (*names, *_TRACE)))


def _named(config: Config) -> Iterator[str]:
    for rule in config.rules:
        yield from rule.scope.credentials
        yield from rule.match.headers
        yield from rule.fingerprint.headers
        yield from (header.header for header in rule.bypass_on)
        if rule.controls.ttl_header is not None:
            yield rule.controls.ttl_header
        if rule.controls.trust_answer_tags:
            yield TAGS_HEADER
        yield from (part.header for part in rule.scope.identity if part.header is not None)
