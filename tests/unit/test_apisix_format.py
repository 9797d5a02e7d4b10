"""Entries as APISIX's ai-cache keeps them: an answer in a JSON envelope."""

from __future__ import annotations

import json
import math

import pytest

from ai_cache_extproc.cache.formats.apisix import Apisix
from ai_cache_extproc.cache.formats.base import NotOurs
from ai_cache_extproc.errors import BackendRejected
from ai_cache_extproc.model import Captured, Entry, Identity, Layout, Mode
from tests.support.entries import ALIAS

IDENTITY = Identity("ai-cache:l1:route=1:00", bytes(32), "lease", Layout.APISIX)
ANSWER = '{"id":"é"}'
STREAM = "data: {}\n\ndata: [DONE]\n\n"


def captured(mode: Mode, body: bytes) -> Captured:
    """An answer that came at second 1 800 000 000."""
    return Captured(mode, "x", body, created_s=1_800_000_000.7, expires_s=2e9, elapsed_s=3)


def entry(*captures: Captured) -> Entry:
    """An entry of these captures."""
    return Entry("openai_chat", "m", "default", captures)


@pytest.mark.parametrize(
    ("mode", "body", "word", "content_type"),
    [(Mode.JSON, ANSWER, "json", "application/json"), (Mode.STREAM, STREAM, "sse", "text/event-stream")],
    ids=["json", "sse"],
)
def test_an_answer_goes_into_an_envelope_and_out_of_it(mode: Mode, body: str, word: str, content_type: str) -> None:
    """Body, time and format as the plugin names them; whole seconds."""
    value = Apisix().encode(entry(captured(mode, body.encode())), IDENTITY)
    assert {"body": body, "created_at": 1_800_000_000, "format": word} == json.loads(value)
    (found,) = Apisix().decode(value, IDENTITY).captures
    assert (mode, content_type, body.encode(), 1_800_000_000.0, math.inf) == (
        found.mode,
        found.content_type,
        found.body,
        found.created_s,
        found.expires_s,
    )


def test_the_latest_of_two_captures_is_kept() -> None:
    """The key says one mode; an upstream that changed its mind is believed."""
    both = entry(captured(Mode.STREAM, STREAM.encode()), captured(Mode.JSON, ANSWER.encode()))
    assert "json" == json.loads(Apisix().encode(both, IDENTITY))["format"]


@pytest.mark.parametrize(
    "given",
    [captured(Mode.TEXT, b"text"), captured(Mode.ARRAY, b"[]"), captured(Mode.JSON, b'{"a":"\xff"}')],
    ids=["text", "array", "no UTF-8"],
)
def test_what_has_no_envelope_is_not_written(given: Captured) -> None:
    """The layout knows JSON and server-sent events, as text."""
    with pytest.raises(BackendRejected):
        Apisix().encode(entry(given), IDENTITY)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"not JSON",
        b"\xff",
        b"[]",
        b"{}",
        b'{"body":7}',
        b'{"body":null,"created_at":1,"format":"json"}',
        b'{"text":"hello","written_at":1}',
        b'{"body":"","created_at":1,"format":"json"}',
        b'{"body":"[]","created_at":1,"format":"json"}',
        b'{"body":"{\\"cut","created_at":1,"format":"json"}',
        b'{"body":"data: {}","created_at":1,"format":"sse"}',
        b'{"body":"{}","created_at":1,"format":"xml"}',
        b'{"body":"{}","created_at":1,"format":7}',
        b'{"body":"{}","created_at":-1,"format":"json"}',
        b'{"body":"{}","created_at":"1","format":"json"}',
        b'{"body":"{}","created_at":true,"format":"json"}',
    ],
)
def test_what_is_malformed_is_a_miss_and_stays(value: bytes) -> None:
    """Another program wrote it, and may have a use for it."""
    with pytest.raises(NotOurs):
        Apisix().decode(value, IDENTITY)


@pytest.mark.parametrize(
    ("value", "created_s"),
    [
        (b'{"body":"{}"}', -math.inf),
        (b'{"body":"{}","created_at":null,"format":"json"}', -math.inf),
        (b'{"body":"{}","created_at":1700000000.5}', 1_700_000_000.5),
    ],
    ids=["neither", "null", "fraction"],
)
def test_time_and_format_may_be_missing(value: bytes, created_s: float) -> None:
    """As the plugin allows: such an answer is JSON, and how old it is nobody knows."""
    (found,) = Apisix().decode(value, IDENTITY).captures
    assert (Mode.JSON, created_s) == (found.mode, found.created_s)


@pytest.mark.parametrize("end", ["\n\n", "\r\n\r\n", "\r\r"], ids=["LF", "CRLF", "CR"])
def test_a_stream_ends_with_a_frame(end: str) -> None:
    """Whatever line ends it was sent with."""
    value = json.dumps({"body": f"data: [DONE]{end}", "created_at": 1, "format": "sse"}).encode()
    assert Mode.STREAM is Apisix().decode(value, IDENTITY).captures[0].mode


def test_an_alias_has_no_place_there() -> None:
    """The layout knows answers and nothing that leads to them."""
    with pytest.raises(BackendRejected):
        Apisix().encode(ALIAS, IDENTITY)
