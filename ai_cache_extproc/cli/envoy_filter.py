"""The ext_proc filter as types: everything off but request headers, and never a failed request.

The files under `envoy/` say in comments why each field is as it is; a test holds them to this.
"""

from __future__ import annotations

from datetime import timedelta

from envoy_data_plane.envoy.config.common.mutation_rules.v3 import HeaderMutationRules
from envoy_data_plane.envoy.config.core.v3 import GrpcService, GrpcServiceEnvoyGrpc, HeaderValue
from envoy_data_plane.envoy.extensions.filters.http.ext_proc.v3 import (
    ExternalProcessor,
    ExternalProcessorRouteCacheAction,
    ExtProcOverrides,
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

from ai_cache_extproc.cli.envoy_names import FILTER_NAME, RULE_METADATA, SIDECAR_CLUSTER, shown_headers
from ai_cache_extproc.cli.mutations import may_change
from ai_cache_extproc.config.model import Config
from ai_cache_extproc.config.snapshot import Snapshot
from ai_cache_extproc.extproc.codec import (
    CLUSTER_ATTRIBUTE,
    METADATA_NAMESPACE,
    ROUTE_ATTRIBUTE,
)


def ext_proc_filter(config: Config) -> HttpFilter:
    """The filter with the timeouts that `config` counts on, shown every header, attribute and namespace its rules name."""
    wanted = Snapshot(config).wanted
    attributes = dict.fromkeys((ROUTE_ATTRIBUTE, CLUSTER_ATTRIBUTE, *wanted.attributes))
    namespaces = list(dict.fromkeys(namespace for namespace, *_ in wanted.metadata))
    forwarded = MetadataOptionsMetadataNamespaces(untyped=namespaces) if namespaces else None
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
                mutation_rules=HeaderMutationRules(
                    disallow_all=True, allow_expression=RegexMatcher(regex=may_change(config))
                ),
                request_attributes=list(attributes),
                response_attributes=[CLUSTER_ATTRIBUTE],
                metadata_options=MetadataOptions(
                    forwarding_namespaces=forwarded,
                    receiving_namespaces=MetadataOptionsMetadataNamespaces(untyped=[METADATA_NAMESPACE]),
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


def rule_named(rule: str) -> dict[str, Any]:
    """What a route says that names the sidecar's rule itself."""
    metadata = [HeaderValue(key=RULE_METADATA, value=rule)]
    return {FILTER_NAME: Any.pack(ExtProcPerRoute(overrides=ExtProcOverrides(grpc_initial_metadata=metadata)))}
