"""Anthropic messages of any content: captured in any chunks, turned into the other mode and back, none is changed."""

from __future__ import annotations

import json
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_cache_extproc.config.rules import Replaying
from ai_cache_extproc.dialects.anthropic_messages_answer import events
from ai_cache_extproc.dialects.anthropic_messages_merge import merge
from ai_cache_extproc.dialects.anthropic_messages_split import split
from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.model import Mode
from tests.support.anthropic_answers import (
    DIALECT,
    KEPT_STREAMS,
    OTHER,
    STREAM_TYPE,
    answer_head,
    question,
    replayed,
    settle,
)

LINE_BYTES_MAX = 1024 * 1024

texts = st.text(max_size=20)
scalars = (
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | texts
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=8
)
unknown = st.dictionaries(st.sampled_from(["x_a", "x_b", "caller"]), values, max_size=2)
counts = st.integers(0, 10_000)


def _object(**members: st.SearchStrategy[object]) -> st.SearchStrategy[dict[str, object]]:
    """Members that are always there, beside unknown ones."""
    return st.builds(lambda known, more: known | more, st.fixed_dictionaries(dict(members)), unknown)


said = st.builds(
    lambda block, cited: block | cited,
    _object(type=st.just("text"), text=texts),
    st.fixed_dictionaries({}, optional={"citations": st.none() | st.lists(values, max_size=3)}),
)
thoughts = _object(type=st.just("thinking"), thinking=texts, signature=texts)
calls = _object(
    type=st.sampled_from(["tool_use", "server_tool_use"]),
    id=texts,
    name=texts,
    input=st.dictionaries(texts, values, max_size=4),
)
others = _object(type=st.just("redacted_thinking"), data=texts)
usages = st.fixed_dictionaries(
    {"input_tokens": counts, "output_tokens": counts},
    optional={
        "cache_read_input_tokens": st.none() | counts,
        "cache_creation": st.none() | st.dictionaries(texts, counts, max_size=2),
        "server_tool_use": st.none() | st.dictionaries(texts, counts, max_size=2),
        "output_tokens_details": st.dictionaries(texts, counts, max_size=2),
        "service_tier": texts,
        "x_new": counts,
    },
)
answers = st.builds(
    lambda answer, more: answer | more,
    _object(
        id=texts,
        type=st.just("message"),
        role=st.just("assistant"),
        model=texts,
        content=st.lists(said | thoughts | calls | others, max_size=4),
        stop_reason=st.sampled_from(["end_turn", "stop_sequence", "tool_use"]),
        stop_sequence=st.none() | texts,
        usage=usages,
    ),
    st.fixed_dictionaries(
        {},
        optional={
            "stop_details": st.none() | st.dictionaries(texts, texts, max_size=2),
            "container": st.none() | st.dictionaries(texts, texts, max_size=2),
            "context_management": st.none() | values,
        },
    ),
)


@given(answers)
def test_split_and_merged(answer: dict[str, object]) -> None:
    """A JSON answer turned into a stream adds up to exactly that answer, unknown members included."""
    stream = split(json.dumps(answer).encode())
    assert answer == json.loads(merge(events(stream, LINE_BYTES_MAX)))


@given(answers, st.data())
def test_cut(answer: dict[str, object], data: st.DataObject) -> None:
    """A stream of any message is cut after any of its events, or inside of one: never is it kept, were it taken for whole."""
    stream = split(json.dumps(answer).encode())
    frames = stream.split(b"\n\n")[:-1]
    at = data.draw(st.integers(0, len(frames) - 1))
    cuts = [b"\n\n".join(frames[:at]) + b"\n\n", stream[: data.draw(st.integers(0, len(stream) - 1))]]
    for cut in cuts:
        assert not DIALECT.capture(question(), answer_head(STREAM_TYPE)).feed(cut, end_of_stream=False)
        with pytest.raises(DialectError):
            settle(Mode.STREAM, cut)


@given(answers)
def test_wishes(answer: dict[str, object]) -> None:
    """What a rule wishes of a stream is what it wishes of the JSON that the stream is made of."""
    body = json.dumps(answer).encode()
    for wishes in (Replaying(usage="zero"), Replaying(ids="fresh"), Replaying(usage="zero", ids="fresh")):
        as_json, as_stream = (replayed(Mode.JSON, body, asked, wishes) for asked in (Mode.JSON, Mode.STREAM))
        assert as_json is not None
        assert as_stream is not None
        assert json.loads(as_json.body) == json.loads(merge(events(as_stream.body, LINE_BYTES_MAX)))


@given(st.sampled_from(sorted(KEPT_STREAMS)), st.data())
def test_captured_in_any_chunks(name: str, data: st.DataObject) -> None:
    """A stream cut at random into chunks is captured to the byte, may be kept, and is replayed to the byte."""
    stream = KEPT_STREAMS[name]
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=20).map(sorted))
    capture = DIALECT.capture(question(), answer_head(STREAM_TYPE))
    whole = [capture.feed(stream[start:end], end_of_stream=False) for start, end in pairwise([0, *cuts, len(stream)])]
    assert whole[-1]
    settle(capture.mode, capture.body())
    replay = replayed(Mode.STREAM, capture.body(), Mode.STREAM)
    assert replay is not None
    assert stream == replay.body


@given(
    st.sampled_from([Mode.JSON, Mode.STREAM]),
    st.binary(max_size=200) | values.map(lambda value: json.dumps(value).encode()),
)
def test_any_body_is_judged(mode: Mode, body: bytes) -> None:
    """Whatever an upstream sends is refused with a word, or kept; nothing else is raised, and no replay fails."""
    start = b'event: message_start\ndata: {"type":"message_start","message":' + body + b"}\n\n"
    delta = b'event: message_delta\ndata: {"type":"message_delta","delta":' + body + b"}\n\n"
    stop = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
    begun = b'event: message_start\ndata: {"type":"message_start","message":{}}\n\n'
    for sent in (body, start + stop, begun + delta + stop, b'{"type":"message","content":[' + body + b"]}"):
        with suppress(DialectError):
            settle(mode, sent)
        for wishes in (Replaying(), Replaying(usage="zero", ids="fresh")):
            replayed(mode, sent, OTHER[mode], wishes)
            replayed(mode, sent, mode, wishes)
