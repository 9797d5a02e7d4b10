"""The ext_proc filter as types: everything off but request headers, and never a failed request.

The files under `envoy/` say in comments why each field is as it is; a test holds them to this.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from envoy_data_plane.envoy.config.common.mutation_rules.v3 import HeaderMutationRules
from envoy_data_plane.envoy.config.core.v3 import GrpcService, GrpcServiceEnvoyGrpc
from envoy_data_plane.envoy.extensions.filters.http.ext_proc.v3 import (
    ExternalProcessor,
    ExternalProcessorRouteCacheAction,
    ExtProcPerRoute,
    HeaderForwardingRules,
    MetadataOptions,
    MetadataOptionsMetadataNamespaces,
    ProcessingMode,
    ProcessingModeBodySendMode,
    ProcessingModeHeaderSendMode,
)
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.envoy.type.matcher.v3 import ListStringMatcher, RegexMatcher, StringMatcher
from envoy_data_plane.google.protobuf import Any

from ai_cache_extproc.cache.admission import SKIP_HEADER
from ai_cache_extproc.config.model import Config
from ai_cache_extproc.config.rules import CREDENTIAL_HEADERS
from ai_cache_extproc.extproc.codec import (
    ATTRIBUTES_NAMESPACE,
    CLUSTER_ATTRIBUTE,
    METADATA_NAMESPACE,
    ROUTE_ATTRIBUTE,
)

FILTER_NAME = ATTRIBUTES_NAMESPACE
"""Attributes arrive under the filter's own name."""
SIDECAR_CLUSTER = "ai_cache"

MAY_CHANGE = "x-ai-cache-.*|cache-status|age|content-type|accept-encoding"
"""The headers that the sidecar sets or removes; Envoy matches the whole name."""

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


def ext_proc_filter(config: Config) -> HttpFilter:
    """The filter with the timeouts that `config` counts on, shown every header that its rules name."""
    off = ProcessingModeHeaderSendMode.SKIP
    return HttpFilter(
        name=FILTER_NAME,
        typed_config=Any.pack(
            ExternalProcessor(
                grpc_service=GrpcService(envoy_grpc=GrpcServiceEnvoyGrpc(cluster_name=SIDECAR_CLUSTER)),
                stat_prefix=SIDECAR_CLUSTER,
                failure_mode_allow=True,
                message_timeout=timedelta(milliseconds=config.envoy.message_timeout_ms),
                max_message_timeout=timedelta(milliseconds=config.envoy.max_message_timeout_ms),
                allow_mode_override=True,
                processing_mode=ProcessingMode(
                    request_header_mode=ProcessingModeHeaderSendMode.SEND,
                    request_body_mode=ProcessingModeBodySendMode.NONE,
                    request_trailer_mode=off,
                    response_header_mode=off,
                    response_body_mode=ProcessingModeBodySendMode.NONE,
                    response_trailer_mode=off,
                ),
                route_cache_action=ExternalProcessorRouteCacheAction.RETAIN,
                mutation_rules=HeaderMutationRules(disallow_all=True, allow_expression=RegexMatcher(regex=MAY_CHANGE)),
                request_attributes=[ROUTE_ATTRIBUTE, CLUSTER_ATTRIBUTE],
                response_attributes=[CLUSTER_ATTRIBUTE],
                metadata_options=MetadataOptions(
                    receiving_namespaces=MetadataOptionsMetadataNamespaces(untyped=[METADATA_NAMESPACE])
                ),
                forward_rules=HeaderForwardingRules(
                    allowed_headers=ListStringMatcher(
                        patterns=[StringMatcher(exact=name) for name in shown_headers(config)]
                    )
                ),
            )
        ),
    )


def filter_off() -> dict[str, Any]:
    """What a route says that carries no LLM calls."""
    return {FILTER_NAME: Any.pack(ExtProcPerRoute(disabled=True))}


def shown_headers(config: Config) -> tuple[str, ...]:
    """What the sidecar must see, of requests and answers alike; what no rule of `config` names is left out.

    The usual credentials are always among them: a rule that leaves one out of its scope does so on purpose,
    and the next rule may not.
    """
    names = (*_PSEUDO, *_ADMISSION, *CREDENTIAL_HEADERS, *_ANSWER_CHANGING, *_AGAINST_KEEPING, *_named(config))
    return tuple(dict.fromkeys(names))


def _named(config: Config) -> Iterator[str]:
    for rule in config.rules:
        yield from rule.scope.credentials
        yield from rule.match.headers
        yield from rule.fingerprint.headers
