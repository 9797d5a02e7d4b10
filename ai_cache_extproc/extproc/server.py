"""The gRPC service: a stream in, its exchange, replies out.

The last net is here: whatever goes wrong in an exchange, its request passes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Protocol

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from ai_cache_extproc.config.addresses import TcpAddress, listen_addresses
from ai_cache_extproc.errors import ConfigError
from ai_cache_extproc.extproc.codec import decode, encode
from ai_cache_extproc.extproc.endpoints import Claim, claim
from ai_cache_extproc.extproc.events import Event, Pending, Reply
from ai_cache_extproc.model import Wanted

SERVICE = "envoy.service.ext_proc.v3.ExternalProcessor"
METHOD = "Process"
RULE_METADATA = "x-ai-cache-rule"
"""Names a rule: a key of `grpc_initial_metadata`, in the filter's configuration or a route's override of it."""

PENDING_STREAMS_MAX = 100_000
"""Streams that gRPC has read and we have not yet begun. Its own bounds (1000, then 3000) drop a burst of Envoy's."""
CLOSING_S_MAX = 1.0
"""How long cancelled streams may take to leave; nothing in their way awaits."""

Stream = grpc.aio.ServicerContext[bytes, bytes]
END = grpc.aio.EOF  # type: ignore[attr-defined]  # left out of grpc-stubs

log = structlog.get_logger()


class DrivenExchange(Protocol):
    """What the server asks of an exchange."""

    @property
    def wanted(self) -> Wanted:
        """What the request's headers are to come with."""
        ...

    @property
    def answered(self) -> bool:
        """Whether the client has its answer from us, so that nothing more will be said."""
        ...

    def handle(self, event: Event) -> Reply | Pending:
        """The reply to an event, or what to await for it."""
        ...

    def give_up(self, event: Event) -> Reply:
        """The reply that lets this part pass, after a fault."""
        ...

    def close(self) -> None:
        """The stream ended."""
        ...


class StreamMetrics(Protocol):
    """What the server counts."""

    def streams(self, delta: int) -> None:
        """Open exchanges became more or fewer."""
        ...

    def exchange_fault(self) -> None:
        """An exchange met a bug of ours."""
        ...


class Server:
    """One gRPC server on any number of addresses.

    receive_bytes_max: the longest message taken; 64 KiB more than the bodies that Envoy may send whole.
    A longer one ends its stream with an error, which Envoy's fail-open covers.
    new_exchange: is given the rule that Envoy's route names, or nothing.
    """

    def __init__(
        self,
        *,
        listen: Sequence[str],
        new_exchange: Callable[[str], DrivenExchange],
        metrics: StreamMetrics,
        receive_bytes_max: int,
        insecure_listen: bool = False,
    ) -> None:
        self._listen = listen
        self._insecure_listen = insecure_listen
        self._new_exchange = new_exchange
        self._metrics = metrics
        self._receive_bytes_max = receive_bytes_max
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]  # left out of grpc-stubs
        self._grpc: grpc.aio.Server | None = None
        self._claims: list[Claim] = []
        self._bound: tuple[str, ...] = ()
        self._streams = 0
        self._no_stream = asyncio.Event()
        self._no_stream.set()

    @property
    def bound(self) -> tuple[str, ...]:
        """Where the server listens, with the ports that the system chose; empty before `start`."""
        return self._bound

    async def start(self) -> None:
        """Bind every address, serve, and say so. Raises ConfigError for an address that cannot be had."""
        addresses = listen_addresses(self._listen, insecure=self._insecure_listen)
        try:
            for address in addresses:
                self._claims.append(claim(address, "listen"))
            server = self._make()
            self._bound = tuple([self._bind(server, claimed) for claimed in self._claims])
        except ConfigError:
            self._release()
            raise
        self._grpc = server
        await server.start()
        await self.set_serving(True)

    async def set_serving(self, serving: bool) -> None:
        """Tell Envoy's health checks whether to send new streams here."""
        states = health_pb2.HealthCheckResponse
        state = states.SERVING if serving else states.NOT_SERVING
        for service in (health.OVERALL_HEALTH, SERVICE):
            await self._health.set(service, state)

    async def stop(self, grace_s: float) -> None:
        """Refuse new streams at once, let open ones end within grace_s, cancel the rest.

        Idempotent; another call while one waits, with a shorter grace, hastens it.
        """
        server = self._grpc
        if server is None:
            return
        await self.set_serving(False)
        await server.stop(grace_s)
        # gRPC does not wait for the streams that it cancels, while write-back must have what they hand over.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._no_stream.wait(), CLOSING_S_MAX)
        self._grpc = None
        self._release()

    def _make(self) -> grpc.aio.Server:
        server = grpc.aio.server(options=transport_options(self._receive_bytes_max))
        service = {METHOD: grpc.stream_stream_rpc_method_handler(self._process)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, service),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        return server

    def _bind(self, server: grpc.aio.Server, claimed: Claim) -> str:
        try:
            port = server.add_insecure_port(claimed.target)
        except RuntimeError as error:
            raise ConfigError("listen", f"{str(claimed.address)!r} cannot be bound; choose another address") from error
        claimed.opened()
        address = claimed.address
        return str(TcpAddress(address.host, port)) if isinstance(address, TcpAddress) else str(address)

    def _release(self) -> None:
        for claimed in self._claims:
            claimed.release()
        self._claims.clear()

    async def _process(self, _requests: object, context: Stream) -> None:
        self._opened()
        exchange: DrivenExchange | None = None
        try:
            exchange = self._new_exchange(_named_rule(context))
            await self._converse(exchange, context)
        except (grpc.RpcError, grpc.aio.BaseError):
            # Envoy hung up while a reply was on its way. One of the three usual ends of a stream.
            log.debug("stream_cut")
        except Exception:
            # Without a reply that can be sent, a clean end of the stream lets everything that is left pass.
            log.exception("stream_fault")
            self._metrics.exchange_fault()
        finally:
            self._closed()
            if exchange is not None:
                exchange.close()

    async def _converse(self, exchange: DrivenExchange, context: Stream) -> None:
        while (message := await context.read()) is not END:
            event = decode(message, exchange.wanted)
            if event is None:
                # No reply is right for a part that is unknown here; ending the stream lets it pass.
                log.warning("part_unknown", bytes=len(message))
                return
            reply = self._handled(exchange, event)
            while isinstance(reply, Pending):
                if reply.first is not None:
                    await context.write(encode(reply.first))
                reply = await self._finished(exchange, event, reply)
            await context.write(reply)
            if exchange.answered:
                # Envoy ends the stream of an immediate answer by itself; to wait for that costs a read.
                return

    def _handled(self, exchange: DrivenExchange, event: Event) -> bytes | Pending:
        try:
            outcome = exchange.handle(event)
            return outcome if isinstance(outcome, Pending) else encode(outcome, _header_left_out)
        except Exception as fault:  # noqa: BLE001 - the last net
            return self._given_up(exchange, event, fault)

    async def _finished(self, exchange: DrivenExchange, event: Event, pending: Pending) -> bytes | Pending:
        try:
            outcome = await pending.finish()
            return outcome if isinstance(outcome, Pending) else encode(outcome, _header_left_out)
        except Exception as fault:  # noqa: BLE001 - the last net
            return self._given_up(exchange, event, fault)

    def _given_up(self, exchange: DrivenExchange, event: Event, fault: Exception) -> bytes:
        log.error("exchange_fault", part=event.part.value, exc_info=fault)
        self._metrics.exchange_fault()
        return encode(exchange.give_up(event), _header_left_out)

    def _opened(self) -> None:
        self._streams += 1
        self._no_stream.clear()
        self._metrics.streams(1)

    def _closed(self) -> None:
        self._streams -= 1
        if not self._streams:
            self._no_stream.set()
        self._metrics.streams(-1)


def _named_rule(context: Stream) -> str:
    """What Envoy's configuration says; no client writes the metadata of this stream."""
    named = ""
    for name, value in context.invocation_metadata() or ():
        if name == RULE_METADATA and isinstance(value, str):
            named = value
    return named


def _header_left_out(name: str) -> None:
    log.warning("header_left_out", header=name)


def transport_options(receive_bytes_max: int) -> list[tuple[str, int]]:
    """The settings of a gRPC server that Envoy talks to. receive_bytes_max: the longest message taken."""
    # Concurrent streams are not limited: Envoy's first burst would meet REFUSED_STREAM.
    return [
        ("grpc.max_receive_message_length", receive_bytes_max),
        ("grpc.max_send_message_length", -1),
        # Two processes must not share one port by mistake: Envoy's connections would all go to one.
        ("grpc.so_reuseport", 0),
        ("grpc.server.max_pending_requests", PENDING_STREAMS_MAX),
        ("grpc.server.max_pending_requests_hard_limit", PENDING_STREAMS_MAX),
        # Envoy's connection_keepalive pings an idle connection as well.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        # Windows that grow with the traffic let what is not read yet pile up, megabytes for each stream.
        ("grpc.http2.bdp_probe", 0),
    ]
