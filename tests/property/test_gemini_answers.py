"""Gemini's answers of any content: captured in any chunks, turned into the other modes and back, none is changed."""

from __future__ import annotations

import json
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_cache_extproc.config.rules import Replaying
from ai_cache_extproc.dialects.framing.json_array import EndScanner
from ai_cache_extproc.dialects.framing.sse import encode
from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.model import Mode
from tests.support.gemini_answers import DIALECT, KEPT, MODES, answer_head, named, question, replayed, settle

STREAMS = (Mode.STREAM, Mode.ARRAY)
modes = st.sampled_from(MODES)
streams = st.sampled_from(STREAMS)

texts = st.text(max_size=20)
scalars = (
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | texts
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=8
)
unknown = st.dictionaries(st.sampled_from(["xA", "xB", "groundingMetadata"]), values, max_size=2)
counts = st.integers(0, 10_000)


def _object(**members: st.SearchStrategy[object]) -> st.SearchStrategy[dict[str, object]]:
    """Members that are always there, beside unknown ones."""
    return st.builds(lambda known, more: known | more, st.fixed_dictionaries(dict(members)), unknown)


plain = st.fixed_dictionaries({"text": texts}, optional={"thought": st.booleans()})
parts = (
    plain
    | st.fixed_dictionaries({"text": texts, "thoughtSignature": texts})
    | _object(functionCall=st.fixed_dictionaries({"name": texts, "args": st.dictionaries(texts, values, max_size=3)}))
    | _object(inlineData=st.fixed_dictionaries({"mimeType": st.just("audio/wav"), "data": texts}))
)
usages = st.dictionaries(st.sampled_from(["promptTokenCount", "totalTokenCount"]), counts, min_size=1).map(
    lambda usage: usage | {"promptTokensDetails": [{"modality": "TEXT", "tokenCount": 1}]}
)
contents = st.fixed_dictionaries({"parts": st.lists(parts, max_size=4)}, optional={"role": st.just("model")})
candidates = st.lists(
    st.builds(
        lambda candidate, more: candidate | more,
        _object(content=contents, finishReason=st.just("STOP")),
        st.fixed_dictionaries(
            {},
            optional={
                "tokenCount": counts,
                "avgLogprobs": st.floats(-10, 0),
                "logprobsResult": st.fixed_dictionaries({"chosenCandidates": st.lists(values, max_size=2)}),
            },
        ),
    ),
    min_size=1,
    max_size=3,
).map(lambda found: [candidate | {"index": index} for index, candidate in enumerate(found)])
answers = _object(candidates=candidates, usageMetadata=usages, modelVersion=texts, responseId=texts)


def _stream(mode: Mode, chunks: list[dict[str, object]]) -> bytes:
    if mode is Mode.ARRAY:
        return json.dumps(chunks).encode()
    return b"".join(encode(json.dumps(chunk)) for chunk in chunks)


def _pieces(text: str, cuts: list[int]) -> list[str]:
    inside = sorted({cut % (len(text) + 1) for cut in cuts})
    return [text[start:end] for start, end in pairwise([0, *inside, len(text)])]


@given(answers, streams)
def test_json_as_a_stream_and_back(answer: dict[str, object], mode: Mode) -> None:
    """A JSON answer turned into a stream adds up to exactly that answer, unknown members included."""
    stream = replayed(Mode.JSON, json.dumps(answer).encode(), mode)
    assert stream is not None
    back = replayed(mode, stream.body, Mode.JSON)
    assert back is not None
    assert answer == json.loads(back.body)


@given(
    st.lists(st.tuples(st.booleans(), st.text(min_size=1, max_size=20)), min_size=1, max_size=4),
    st.lists(st.integers(0, 20), max_size=6),
    streams,
    st.data(),
)
def test_text_in_pieces(said: list[tuple[bool, str]], cuts: list[int], mode: Mode, data: st.DataObject) -> None:
    """Thoughts and texts in any pieces add up, and a stream of them that is cut after any chunk is never kept."""
    runs: list[list[object]] = []
    for thought, text in [*said, (False, "the end")]:
        if runs and runs[-1][0] is thought:
            runs[-1][1] = f"{runs[-1][1]}{text}"
        else:
            runs.append([thought, text])
    pieces = [
        {"text": piece} | ({"thought": True} if run[0] else {}) for run in runs for piece in _pieces(str(run[1]), cuts)
    ]
    chunks: list[dict[str, object]] = [
        {"candidates": [{"content": {"parts": [piece]}}], "usageMetadata": {"totalTokenCount": at}}
        for at, piece in enumerate(pieces)
    ]
    chunks[-1]["candidates"] = [{"content": {"parts": [pieces[-1]]}, "finishReason": "STOP"}]
    body = _stream(mode, chunks)
    settle(mode, body)
    whole = replayed(mode, body, Mode.JSON)
    assert whole is not None
    parts = json.loads(whole.body)["candidates"][0]["content"]["parts"]
    assert [{"text": run[1]} | ({"thought": True} if run[0] else {}) for run in runs] == parts
    with pytest.raises(DialectError):
        settle(mode, _stream(mode, chunks[: data.draw(st.integers(0, len(chunks) - 1))]))
    with pytest.raises(DialectError):
        settle(mode, body[: data.draw(st.integers(0, len(body) - 2))])


@given(answers, streams)
def test_wishes(answer: dict[str, object], mode: Mode) -> None:
    """What a rule wishes of a stream is what it wishes of the JSON that the stream is made of."""
    body = json.dumps(answer).encode()
    for wishes in (Replaying(usage="zero"), Replaying(ids="fresh"), Replaying(usage="zero", ids="fresh")):
        as_json, as_stream = (replayed(Mode.JSON, body, asked, wishes) for asked in (Mode.JSON, mode))
        assert as_json is not None
        assert as_stream is not None
        back = replayed(mode, as_stream.body, Mode.JSON)
        assert back is not None
        assert json.loads(as_json.body) == json.loads(back.body)


@given(st.sampled_from(named(KEPT)), st.data())
def test_captured_in_any_chunks(kept: tuple[Mode, str], data: st.DataObject) -> None:
    """An answer cut at random into chunks is captured to the byte, may be kept, and is replayed to the byte."""
    mode, name = kept
    body = KEPT[mode][name]
    cuts = data.draw(st.lists(st.integers(0, len(body)), max_size=20).map(sorted))
    capture = DIALECT.capture(question(mode), answer_head(mode))
    pieces = [body[start:end] for start, end in pairwise([0, *cuts, len(body)])]
    whole = [capture.feed(piece, end_of_stream=at == len(pieces) - 1) for at, piece in enumerate(pieces)]
    assert whole[-1]
    settle(capture.mode, capture.body(), name=name)
    replay = replayed(mode, capture.body(), mode)
    assert replay is not None
    assert body == replay.body


@given(st.lists(values, max_size=4), st.lists(st.integers(0, 400), max_size=20), st.binary(max_size=5))
def test_end_of_an_array(array: list[object], cuts: list[int], after: bytes) -> None:
    """An array of anything ends at its closing bracket, in any chunks, and nowhere before."""
    body = json.dumps(array, ensure_ascii=len(array) % 2 == 0).encode()
    ends = sorted({min(cut, len(body) - 1) for cut in cuts})
    scanner = EndScanner()
    assert {None} >= {scanner.feed(body[start:end]) for start, end in pairwise([0, *ends])}
    assert len(body) == scanner.feed(body[ends[-1] if ends else 0 :]) == scanner.feed(after)


@given(modes, modes, st.binary(max_size=200) | values.map(lambda value: json.dumps(value).encode()))
def test_any_body_is_judged(mode: Mode, asked: Mode, body: bytes) -> None:
    """Whatever an upstream sends is refused with a word, or kept; nothing else is raised, and no replay fails."""
    candidate = b'{"candidates": [' + body + b'], "usageMetadata": {}}'
    inner = b'{"candidates": [{"content": {"parts": [' + body + b']}, "finishReason": "STOP"}], "usageMetadata": {}}'
    for one in (body, candidate, inner):
        for sent in (one, b"[" + one + b"]", b"data: " + one + b"\n\n"):
            with suppress(DialectError):
                settle(mode, sent)
            for wishes in (Replaying(), Replaying(usage="zero", ids="fresh")):
                replayed(mode, sent, asked, wishes)
