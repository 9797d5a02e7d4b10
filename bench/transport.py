"""A grpcio server set up as the sidecar's is, for a handler of raw bytes: what differs is only what is done in between."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from ai_cache_extproc.extproc.server import METHOD, SERVICE, Stream, transport_options

RECEIVE_BYTES_MAX = 4 * 1024 * 1024 + 64 * 1024


async def serve(process: Callable[[object, Stream], Awaitable[None]]) -> None:
    """Serve on a port of the system's choice, print it, and go on until the process is stopped."""
    server = grpc.aio.server(options=transport_options(RECEIVE_BYTES_MAX))
    handler = grpc.stream_stream_rpc_method_handler(process)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),))
    # Envoy's health check asks for it before it sends anything.
    healthy = health.aio.HealthServicer()  # type: ignore[attr-defined]  # left out of its types
    await healthy.set(health.OVERALL_HEALTH, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()
