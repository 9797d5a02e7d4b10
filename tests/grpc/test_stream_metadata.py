"""What comes with a stream beside its messages, and what of a message an exchange asks for."""

from __future__ import annotations

from ai_cache_extproc.extproc.events import RequestHeaders
from ai_cache_extproc.extproc.server import METHOD, RULE_METADATA, SERVICE
from ai_cache_extproc.model import Wanted
from tests.grpc.scripted import ask, request_headers, served


async def test_the_metadata_of_a_stream_names_the_rule() -> None:
    """The last value counts; without one, or in other metadata, no rule is named."""
    async with served() as running:
        for metadata in (
            ((RULE_METADATA, "batch"),),
            ((RULE_METADATA, "first"), ("x-other", "y"), (RULE_METADATA, "second")),
            (("x-other", "batch"),),
            (),
        ):
            call = running.channel.stream_stream(f"/{SERVICE}/{METHOD}", None, None)(None, metadata=metadata)
            assert await ask(call, request_headers()) is not None
            await call.done_writing()
        assert ["batch", "second", "", ""] == [exchange.named for exchange in running.exchanges]


async def test_a_header_of_the_request_names_no_rule() -> None:
    """Clients write headers; only Envoy writes the metadata of the stream."""
    message = request_headers()
    message.request_headers.headers.headers.add(key=RULE_METADATA, raw_value=b"batch")
    async with served() as running:
        assert await ask(running.call(), message) is not None
        assert [""] == [exchange.named for exchange in running.exchanges]


async def test_an_exchange_gets_the_attributes_and_metadata_it_wants() -> None:
    """And no others of those that Envoy sent."""
    message = request_headers()
    fields = message.attributes["envoy.filters.http.ext_proc"].fields
    fields["source.address"].string_value = "10.0.0.1:5"
    fields["source.port"].number_value = 5
    claims = message.metadata_context.filter_metadata["jwt"].fields["payload"].struct_value.fields
    claims["sub"].string_value = "alice"
    claims["email"].string_value = "a@b"
    async with served(wanted=Wanted(("source.address",), (("jwt", "payload", "sub"),))) as running:
        assert await ask(running.call(), message) is not None
        (event,) = running.exchanges[0].events
        assert isinstance(event, RequestHeaders)
        assert {"source.address": "10.0.0.1:5"} == event.head.attributes
        assert {"jwt": {"payload": {"sub": "alice"}}} == event.head.metadata
