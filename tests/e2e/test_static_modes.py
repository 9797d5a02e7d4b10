"""Body modes that an operator has switched on for every request are served as they are, and named in the log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.gateway import Gateway, Node
from tests.support.load import JSON_ANSWER, STREAM_ANSWER, ask

SENT = {"request_header_mode": "SEND", "response_header_mode": "SEND", "response_trailer_mode": "SEND"}


def modes(request: str, response: str, *, override: bool = False, **more: str) -> Node:
    """A filter with static body modes."""
    processing = SENT | {"request_body_mode": request, "response_body_mode": response} | more
    return {"processing_mode": processing, "allow_mode_override": override}


SERVED = {
    "buffered, streamed": modes("BUFFERED", "STREAMED"),
    "buffered, buffered": modes("BUFFERED", "BUFFERED"),
    "partial, streamed": modes("BUFFERED_PARTIAL", "STREAMED"),
    "streamed, streamed": modes("STREAMED", "STREAMED"),
    "buffered, with overrides": modes("BUFFERED", "STREAMED", override=True),
}


@pytest.mark.parametrize("name", SERVED)
async def test_served_as_configured(tmp_path: Path, name: str) -> None:
    """MISS then HIT for JSON and streams, other traffic untouched, and one warning for each static mode."""
    with Gateway(tmp_path, filter_says=SERVED[name]) as gateway:
        for stream, whole in ((False, JSON_ANSWER), (True, STREAM_ANSWER)):
            answers = [await ask(gateway.port, f"static {stream}", stream=stream) for _ in range(2)]
            assert [(200, "MISS", whole), (200, "HIT", whole)] == answers
        assert 0 == gateway.envoy_stat("ext_proc.ai_cache.spurious_msgs_received$")
        lines = [json.loads(line) for line in gateway.sidecar.log.read_text().splitlines()]
        assert 2 == len([line for line in lines if line["event"] == "static_body_mode"])


async def test_full_duplex_is_echoed(tmp_path: Path) -> None:
    """Full-duplex bodies go through whole, and never meet the cache."""
    duplex = modes("FULL_DUPLEX_STREAMED", "FULL_DUPLEX_STREAMED", request_trailer_mode="SEND")
    with Gateway(tmp_path, filter_says=duplex) as gateway:
        for stream, whole in ((False, JSON_ANSWER), (True, STREAM_ANSWER)):
            answers = [await ask(gateway.port, "duplex", stream=stream) for _ in range(2)]
            assert [(200, "none", whole)] * 2 == answers
        assert 4 == len(gateway.upstream.received)
        assert 0 == gateway.entries()
