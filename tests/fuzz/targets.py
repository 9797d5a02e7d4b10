"""What is fuzzed: each function takes any bytes, and whatever it raises is a fault.

The first bytes choose, where there is a choice; the rest is what a stranger sends.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress

import orjson

from ai_cache_extproc.cache.formats.base import NotOurs
from ai_cache_extproc.cache.formats.native import Native
from ai_cache_extproc.dialects import Dialects
from ai_cache_extproc.dialects.framing import json_array, sse
from ai_cache_extproc.dialects.framing.ndjson import LineScanner
from ai_cache_extproc.errors import BackendRejected, DialectError, ProtocolViolation
from ai_cache_extproc.extproc.codec import decode
from ai_cache_extproc.model import Identity, RequestHead
from ai_cache_extproc.paths import PathBudget, PathError, compile_path
from ai_cache_extproc.paths.template import compile_template
from tests.support.readings import assert_one_reading, keyed

LINE_BYTES_MAX = 4096
DONE = sse.EndEvent("data", "[DONE]")
KEY = "aicache:0:" + "0" * 16 + ":" + "0" * 64
IDENTITY = Identity(KEY, bytes(32), f"{KEY}:lease")
NATIVE = Native()
DIALECTS = Dialects(LINE_BYTES_MAX)
PATHS = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/messages",
    "/v1beta/models/m:generateContent",
    "/api/chat",
    "/api/v1/services/aigc/text-generation/generation",
)
QUERIES = ("a", "a.b", "*", "a.#.b", "a.#(b>1)#", "a|@reverse", "..0.a", "[a,b.c]", '{"x":a}', "$.a[0]", "$..b")
TEMPLATE = '{"id":"x","choices":[{"message":{"role":"assistant","content":"%s"},"finish_reason":"stop"}]}'


def body(data: bytes) -> None:
    """A request's body: bypassed, or read alike by four parsers."""
    assert_one_reading(data)


def question(data: bytes) -> None:
    """A request's body, as a dialect reads it."""
    chosen, data = data[:1] or b"\0", data[1:]
    path = PATHS[chosen[0] % len(PATHS)]
    value = keyed(data)
    dialect = DIALECTS.match(path, None)
    assert dialect is not None
    if value is not None:
        with suppress(DialectError):
            dialect.read(value, raw=data, head=RequestHead("POST", path, "", {}))


def events(data: bytes) -> None:
    """A stream of events: the same frames and the same end, however it is cut."""
    size, stream = 1 + (data[:1] or b"\0")[0] % 7, data[1:]
    chunks = [stream[at : at + size] for at in range(0, len(stream), size)]
    decoder, scanner = sse.FrameDecoder(LINE_BYTES_MAX), sse.EndScanner(DONE)
    try:
        frames = sse.frames(stream, LINE_BYTES_MAX)
    except DialectError:
        frames = None
    try:
        found = [frame for chunk in chunks for frame in decoder.feed(chunk)]
    except DialectError:
        found = None
    # A line that is too long is told as soon as it is, at whatever cut.
    assert frames == found
    for chunk in chunks:
        scanner.feed(chunk)
    whole = sse.EndScanner(DONE)
    assert whole.feed(stream, end_of_stream=True) == scanner.feed(b"", end_of_stream=True)


def lines(data: bytes) -> None:
    """Lines of JSON and an array in pieces: the same end, however they are cut.

    What is no array is found to end somewhere, and refused by whoever parses it.
    """
    size, stream = 1 + (data[:1] or b"\0")[0] % 7, data[1:]
    chunks = [stream[at : at + size] for at in range(0, len(stream), size)] or [b""]
    whole, cut = _lines(), _lines()
    assert whole.feed(stream) == [cut.feed(chunk) for chunk in chunks][-1]
    array, pieces = json_array.EndScanner(), json_array.EndScanner()
    ends = array.feed(stream), [pieces.feed(chunk) for chunk in chunks][-1]
    if _is_array(stream):
        assert ends == (len(stream.rstrip()), len(stream.rstrip()))


def _is_array(stream: bytes) -> bool:
    try:
        return isinstance(orjson.loads(stream), list)
    except orjson.JSONDecodeError:
        return False


def _lines() -> LineScanner:
    return LineScanner(re.compile(rb'"done" *: *true'), lambda line: line.rstrip().endswith(b"}"))


def query(data: bytes) -> None:
    """A path, ours or any, in any document."""
    chosen, data = data[:1] or b"\0", data[1:]
    text, _, document = data.partition(b"\0")
    spelled = QUERIES[chosen[0] % len(QUERIES)] if chosen[0] < 128 else text.decode("utf-8", "replace")
    with suppress(PathError, PathBudget):
        found = compile_path(spelled).find(document)
        if found is not None:
            assert isinstance(found.string, str)
            assert isinstance(found.raw, str)


def template(data: bytes) -> None:
    """A text in a template is that text again, in JSON that everyone reads."""
    text = data.decode("utf-8", "replace")
    rendered = compile_template(TEMPLATE, is_stream=False).render(text)
    value = keyed(rendered)
    assert value is not None
    found = compile_path("choices.0.message.content").find(rendered)
    assert found is not None
    assert text == found.string


def entry(data: bytes) -> None:
    """A stored value: an entry, or none."""
    with suppress(BackendRejected, NotOurs):
        NATIVE.decode(data, IDENTITY)


def message(data: bytes) -> None:
    """What Envoy sends: an event, nothing that we know, or no message."""
    with suppress(ProtocolViolation):
        decode(data)


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (body, question, events, lines, query, template, entry, message)
}
