"""Chat completions of any content: captured in any chunks, turned into the other mode and back, none is changed."""

from __future__ import annotations

import json
from contextlib import suppress
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from ai_cache_extproc.dialects.openai_chat_answer import chunks
from ai_cache_extproc.dialects.openai_chat_merge import merge
from ai_cache_extproc.dialects.openai_chat_split import split
from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.model import Mode
from tests.support.chat_answers import DIALECT, KEPT_STREAMS, STREAM_TYPE, answer_head, captured, question, settle

LINE_BYTES_MAX = 1024 * 1024

texts = st.text(max_size=20)
scalars = (
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | texts
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=8
)
unknown = st.dictionaries(st.sampled_from(["x_a", "x_b", "citations", "native_finish_reason"]), values, max_size=3)


def _object(**members: st.SearchStrategy[object]) -> st.SearchStrategy[dict[str, object]]:
    """Members that are always there, beside unknown ones."""
    return st.builds(lambda known, more: known | more, st.fixed_dictionaries(dict(members)), unknown)


calls = st.lists(
    _object(id=texts, type=st.just("function"), function=_object(name=texts, arguments=texts))
    | _object(id=texts, type=st.just("custom"), custom=_object(name=texts, input=texts)),
    max_size=3,
)
tokens = st.none() | st.lists(_object(token=texts, logprob=st.floats(-100, 0)), max_size=3)
messages = st.builds(
    lambda message, more: message | more,
    _object(role=st.just("assistant"), content=st.none() | texts, refusal=st.none() | texts),
    st.fixed_dictionaries(
        {},
        optional={
            "reasoning_content": st.none() | texts,
            "reasoning": texts,
            "tool_calls": st.none() | calls,
            "function_call": st.none() | _object(name=texts, arguments=texts),
            "audio": st.none() | _object(id=texts, data=texts),
            "annotations": st.lists(values, max_size=2),
        },
    ),
)
choices = st.lists(
    _object(
        message=messages,
        logprobs=st.none() | st.fixed_dictionaries({"content": tokens, "refusal": tokens}),
        finish_reason=st.sampled_from(["stop", "tool_calls", "function_call"]),
    ),
    min_size=1,
    max_size=3,
).map(lambda found: [choice | {"index": index} for index, choice in enumerate(found)])
answers = _object(
    id=texts,
    object=st.just("chat.completion"),
    created=st.integers(0, 2**40),
    model=texts,
    choices=choices,
    usage=st.dictionaries(texts, st.integers(0, 1000), min_size=1, max_size=3),
    system_fingerprint=st.none() | texts,
)


@settings(deadline=None)
@given(answers)
def test_split_and_merged(answer: dict[str, object]) -> None:
    """A JSON answer turned into a stream adds up to exactly that answer, unknown members included."""
    stream = split(answer, usage_chunk=True)
    assert answer == json.loads(merge(chunks(stream, LINE_BYTES_MAX)))


@settings(deadline=None)
@given(st.sampled_from(sorted(KEPT_STREAMS)), st.data())
def test_captured_in_any_chunks(name: str, data: st.DataObject) -> None:
    """A stream cut at random into chunks is captured to the byte, may be kept, and is replayed to the byte."""
    stream = KEPT_STREAMS[name]
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=20).map(sorted))
    pieces = [stream[start:end] for start, end in pairwise([0, *cuts, len(stream)])]
    capture = DIALECT.capture(question(), answer_head(STREAM_TYPE))
    last = len(pieces) - 1
    whole = [capture.feed(piece, end_of_stream=at == last) for at, piece in enumerate(pieces)]
    assert whole[-1]
    asked = question(Mode.STREAM, name=name)
    settle(asked, capture.mode, capture.body(), tool_calls=True)
    replay = DIALECT.replay(asked, [captured(Mode.STREAM, capture.body())])
    assert replay is not None
    assert stream == replay.body


@settings(deadline=None)
@given(st.sampled_from(Mode), st.binary(max_size=200) | values.map(lambda value: json.dumps(value).encode()))
def test_any_body_is_judged(mode: Mode, body: bytes) -> None:
    """Whatever an upstream sends is refused with a word, or kept; nothing else is raised, and no replay fails."""
    other = Mode.STREAM if mode is Mode.JSON else Mode.JSON
    for sent in (body, b"data: " + body + b"\n\ndata: [DONE]\n\n", b'{"choices": [' + body + b"]}"):
        with suppress(DialectError):
            settle(question(mode), mode, sent, tool_calls=True)
        DIALECT.replay(question(other), [captured(mode, sent)])
