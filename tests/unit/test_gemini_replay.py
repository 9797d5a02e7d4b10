"""Gemini: an entry turned into an answer, in the mode it was captured in and in the two other ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import product

import pytest

from ai_cache_extproc.config.rules import Replaying
from ai_cache_extproc.dialects.framing.sse import encode, frames
from ai_cache_extproc.dialects.openai_chat_replay import CHANGED_BYTES_MAX, TURNED_BYTES_MAX
from ai_cache_extproc.model import Mode, Replay
from tests.support import gemini_sdk as sdk
from tests.support.gemini_answers import (
    DIALECT,
    KEPT,
    MODES,
    NOT_MERGED,
    TYPES,
    captured,
    named,
    question,
    replayed,
    settle,
)

STREAMS = (Mode.STREAM, Mode.ARRAY)
PAIRS = list(product(MODES, MODES))
TURNED = [(mode, asked, name) for mode, name in named(KEPT) for asked in MODES if asked is not mode]
GOOD = [
    (mode, asked, name)
    for mode, asked, name in TURNED
    if name != "no_usage" and not (asked is Mode.JSON and name in NOT_MERGED)
]
USAGE = {"totalTokenCount": 3}


def _turned(mode: Mode, body: bytes, asked: Mode) -> bytes:
    replay = replayed(mode, body, asked)
    assert replay is not None
    assert TYPES[asked] == replay.content_type
    return replay.body


def _chunks(mode: Mode, body: bytes) -> list[dict[str, object]]:
    """The chunks of an answer."""
    if mode is Mode.STREAM:
        payloads = [frame.data or b"" for frame in frames(body, 1024 * 1024)]
        return [json.loads(payload) for payload in payloads if payload != b"[DONE]"]
    parsed = json.loads(body)
    return parsed if mode is Mode.ARRAY else [parsed]


def _stream(*candidates: dict[str, object], **members: object) -> bytes:
    """A stream of one candidate in pieces; the last of them ends it."""
    chunks = [{"candidates": [candidate], "usageMetadata": USAGE} | members for candidate in candidates]
    chunks[-1]["candidates"] = [candidates[-1] | {"finishReason": "STOP"}]
    return b"".join(encode(json.dumps(chunk)) for chunk in chunks)


def _said(*parts: object) -> dict[str, object]:
    return {"content": {"role": "model", "parts": list(parts)}}


def _merged(stream: bytes) -> dict[str, object] | None:
    """The one candidate that a stream adds up to; None if it does not."""
    settle(Mode.STREAM, stream)
    replay = replayed(Mode.STREAM, stream, Mode.JSON)
    if replay is None:
        return None
    candidate: dict[str, object] = json.loads(replay.body)["candidates"][0]
    return candidate


def _parts(*chunks: list[object]) -> object:
    """The parts that these chunks of parts add up to; None if they do not."""
    candidate = _merged(_stream(*(_said(*parts) for parts in chunks)))
    content = None if candidate is None else candidate["content"]
    return content["parts"] if isinstance(content, dict) else None


@pytest.mark.parametrize("mode", MODES)
def test_same_mode(mode: Mode) -> None:
    """A capture of the asked mode is replayed to the byte, with its own content type, whatever else there is."""
    for body in KEPT[mode].values():
        same, *others = (captured(each, body if each is mode else b"?") for each in sorted(MODES, key=mode.__ne__))
        for captures in ([same], [same, *others], [*others, same]):
            assert Replay(same.content_type, body, same) == DIALECT.replay(question(mode), captures)


@pytest.mark.parametrize(("mode", "asked", "name"), GOOD)
def test_turned(mode: Mode, asked: Mode, name: str) -> None:
    """An answer turned into another mode may be kept, and says what it said, as the SDK's types hold it."""
    body = KEPT[mode][name]
    made = _turned(mode, body, asked)
    settle(asked, made, name=name)
    as_events = {
        each: b"".join(encode(json.dumps(chunk)) for chunk in _chunks(each, answer))
        for each, answer in ((mode, body), (asked, made))
    }
    before, after = (
        [sdk.answer(TYPES[each], answer)] if each is Mode.JSON else sdk.chunks(TYPES[Mode.STREAM], as_events[each])
        for each, answer in ((mode, body), (asked, made))
    )
    assert sdk.said(before) == sdk.said(after)


@pytest.mark.parametrize(("mode", "asked", "name"), [case for case in TURNED if case not in GOOD])
def test_not_turned(mode: Mode, asked: Mode, name: str) -> None:
    """What lacks usage, or does not add up with certainty, is a miss for who asked for another mode."""
    assert replayed(mode, KEPT[mode][name], asked) is None


@pytest.mark.parametrize("name", sorted(set(KEPT[Mode.JSON]) - NOT_MERGED))
@pytest.mark.parametrize("mode", STREAMS)
def test_stream_and_json_of_one_answer(mode: Mode, name: str) -> None:
    """A stream replayed as JSON is the JSON that the API gives for the same answer, every member of it."""
    assert json.loads(KEPT[Mode.JSON][name]) == json.loads(_turned(mode, KEPT[mode][name], Mode.JSON))


@pytest.mark.parametrize("asked", STREAMS)
@pytest.mark.parametrize("name", sorted(set(KEPT[Mode.JSON]) - NOT_MERGED))
def test_json_as_one_chunk(name: str, asked: Mode) -> None:
    """A JSON answer is a stream of one chunk, and back again it is what it was."""
    body = KEPT[Mode.JSON][name]
    stream = _turned(Mode.JSON, body, asked)
    assert [json.loads(body)] == _chunks(asked, stream)
    assert json.loads(body) == json.loads(_turned(asked, stream, Mode.JSON))


@pytest.mark.parametrize(("mode", "asked"), [STREAMS, STREAMS[::-1]])
@pytest.mark.parametrize("name", sorted(set(KEPT[Mode.ARRAY]) - {"no_usage"}))
def test_streams_chunk_by_chunk(mode: Mode, asked: Mode, name: str) -> None:
    """One kind of stream becomes the other chunk by chunk."""
    assert _chunks(mode, KEPT[mode][name]) == _chunks(asked, _turned(mode, KEPT[mode][name], asked))


@pytest.mark.parametrize(("asked", "other"), [STREAMS, STREAMS[::-1]])
def test_streams_before_json(asked: Mode, other: Mode) -> None:
    """Who asks for a stream gets the other kind of stream rather than JSON in one chunk."""
    captures = [captured(mode, KEPT[mode]["text"]) for mode in (Mode.JSON, other)]
    replay = DIALECT.replay(question(asked), captures)
    assert replay is not None
    assert other is replay.source.mode
    assert 3 == len(_chunks(asked, replay.body))


@pytest.mark.parametrize(
    ("chunks", "parts"),
    [
        ([[{"text": "a"}], [{"text": "b"}]], [{"text": "ab"}]),
        (
            [[{"text": "a"}, {"text": "b"}], [{"text": "c"}, {"text": "d"}]],
            [{"text": "a"}, {"text": "bc"}, {"text": "d"}],
        ),
        ([[{"text": "a", "thought": True}], [{"text": "b"}]], [{"text": "a", "thought": True}, {"text": "b"}]),
        ([[{"text": "a", "thought": False}], [{"text": "b"}]], [{"text": "ab", "thought": False}]),
        (
            [[{"text": "a", "thoughtSignature": "s"}], [{"text": "b"}], [{"text": "", "thoughtSignature": "t"}]],
            [{"text": "a", "thoughtSignature": "s"}, {"text": "b"}, {"text": "", "thoughtSignature": "t"}],
        ),
        ([[{"text": ""}], [{"functionCall": {}}], [{"text": ""}]], [{"functionCall": {}}]),
        ([[{"text": ""}, {"text": "a"}]], [{"text": ""}, {"text": "a"}]),
        ([[{"text": "a"}], [], [{"text": "b"}]], [{"text": "ab"}]),
        (
            [[{"inlineData": {"mimeType": "audio/wav", "data": "a"}}], [{"text": "b"}]],
            [{"inlineData": {"mimeType": "audio/wav", "data": "a"}}, {"text": "b"}],
        ),
        (
            [[{"inlineData": {"mimeType": "audio/wav"}}, {"inlineData": {"mimeType": "audio/wav"}}]],
            [{"inlineData": {"mimeType": "audio/wav"}}, {"inlineData": {"mimeType": "audio/wav"}}],
        ),
        ([[{"functionCall": "f"}], [{"inlineData": "d"}]], [{"functionCall": "f"}, {"inlineData": "d"}]),
        ([[{"text": "a", "new": 1}], [{"text": "b"}]], [{"text": "a", "new": 1}, {"text": "b"}]),
    ],
    ids=[
        "texts",
        "several in a chunk",
        "thoughts and text",
        "no thoughts and text",
        "signatures",
        "empty texts",
        "empty text in one chunk",
        "a chunk that says nothing",
        "sound and text",
        "two sounds in a chunk",
        "parts of another shape",
        "a text that says more",
    ],
)
def test_parts(chunks: list[list[object]], parts: list[object]) -> None:
    """Texts of one kind go on across chunks; whatever else a part carries keeps it apart."""
    assert parts == _parts(*chunks)


@pytest.mark.parametrize(
    "chunks",
    [
        [[{"inlineData": {"mimeType": "audio/wav", "data": "a"}}], [{"inlineData": {"mimeType": "audio/wav"}}]],
        [[{"functionCall": {"name": "f", "partialArgs": []}}]],
        [[{"functionCall": {"name": "f", "willContinue": False}}]],
    ],
    ids=["sound in pieces", "arguments in pieces", "a call in pieces"],
)
def test_parts_in_pieces(chunks: list[list[object]]) -> None:
    """Parts that may be pieces of one are not guessed at."""
    assert _parts(*chunks) is None


@pytest.mark.parametrize(
    ("first", "second", "whole"),
    [
        ({"x": {"a": [1]}}, {"x": {"a": [1]}}, {"x": {"a": [1]}}),
        ({"x": None}, {"x": 1}, {"x": 1}),
        ({"x": 1}, {"x": None}, {"x": 1}),
        ({"x": 1}, {"x": 2}, None),
        ({"x": 1}, {"x": True}, None),
        ({"x": 1}, {"x": 1.0}, None),
        ({"x": "a"}, {"x": "b"}, None),
        ({"x": [1]}, {"x": [1, 2]}, None),
        ({"x": json.loads("[" * 300 + "]" * 300)}, {"x": 1}, None),
        ({"tokenCount": 1}, {"tokenCount": 2}, {"tokenCount": 2}),
        ({"safetyRatings": [1]}, {}, {"safetyRatings": [1]}),
        ({"avgLogprobs": -0.5}, {"avgLogprobs": -0.25}, None),
        (
            {"logprobsResult": {"chosenCandidates": [1], "logProbabilitySum": -1}},
            {"logprobsResult": {"chosenCandidates": [2], "topCandidates": [3]}},
            {"logprobsResult": {"chosenCandidates": [1, 2], "logProbabilitySum": -1, "topCandidates": [3]}},
        ),
        ({"logprobsResult": {"chosenCandidates": [1]}}, {"logprobsResult": {"chosenCandidates": "x"}}, None),
    ],
    ids=[
        "the same",
        "null first",
        "null last",
        "another",
        "a truth for a number",
        "a double for an integer",
        "another text",
        "a longer list",
        "deep",
        "counts",
        "ratings",
        "averages",
        "log probabilities",
        "log probabilities of two kinds",
    ],
)
def test_members(first: dict[str, object], second: dict[str, object], whole: dict[str, object] | None) -> None:
    """Members of a candidate must not contradict themselves, but for those whose last word counts."""
    stream = _stream(_said({"text": "a"}) | first, _said({"text": "b"}) | second)
    expected = None if whole is None else _said({"text": "ab"}) | {"finishReason": "STOP"} | whole
    assert expected == _merged(stream)


def test_contents_without_parts() -> None:
    """What a chunk leaves out is not made up."""
    stream = _stream({"index": 0}, _said({"text": "a"}), {"content": {"role": "model"}}, {"content": None})
    assert _said({"text": "a"}) | {"index": 0, "finishReason": "STOP"} == _merged(stream)


def test_last_usage_counts() -> None:
    """Of several usages the last is the answer's; of several times of creation, the first."""
    chunks = [
        {"candidates": [_said({"text": "a"})], "usageMetadata": {"totalTokenCount": 1}, "createTime": "1"},
        {"candidates": [_said({"text": "b"}) | {"finishReason": "STOP"}], "usageMetadata": USAGE, "createTime": "2"},
        {"createTime": "3"},
    ]
    answer = json.loads(_turned(Mode.ARRAY, json.dumps(chunks).encode(), Mode.JSON))
    assert (USAGE, "1") == (answer["usageMetadata"], answer["createTime"])


@pytest.mark.parametrize(("mode", "asked"), [(mode, asked) for mode, asked in PAIRS if mode is not Mode.JSON])
def test_long_stream_is_not_turned(mode: Mode, asked: Mode) -> None:
    """A stream over a limit is a miss where it would be turned or changed; one just below it is not."""
    wishes, limit = Replaying(), TURNED_BYTES_MAX
    if mode is asked:
        wishes, limit = Replaying(usage="zero"), CHANGED_BYTES_MAX
    for size, answered in ((limit, True), (limit + 1, False)):
        body = KEPT[mode]["text"]
        padding = b" " * (size - len(body) - 2)
        padded = b":" + padding + b"\n" + body if mode is Mode.STREAM else b"  " + padding + body
        assert size == len(padded)
        assert answered is (replayed(mode, padded, asked, wishes) is not None)
        assert replayed(mode, padded, mode) is not None


def test_long_numbers() -> None:
    """An answer with a number that may not survive is a miss in another mode, and where a rule wants it changed."""
    call = {"functionCall": {"name": "f", "args": {"n": 123_456_789_012_345_678_901}}}
    body = json.dumps({"candidates": [_said(call) | {"finishReason": "STOP"}], "usageMetadata": USAGE}).encode()
    settle(Mode.JSON, body)
    assert replayed(Mode.JSON, body, Mode.JSON) is not None
    assert replayed(Mode.JSON, body, Mode.STREAM) is None
    assert replayed(Mode.JSON, body, Mode.JSON, Replaying(usage="zero")) is None
    fraction = body.replace(b"123456789012345678901", b"0.00012345678901234567")
    assert replayed(Mode.JSON, fraction, Mode.STREAM) is not None


@pytest.mark.parametrize(("mode", "asked"), [(mode, asked) for mode, asked in PAIRS if mode is not asked])
def test_unreadable_entries(mode: Mode, asked: Mode) -> None:
    """An entry that cannot be read is a miss in another mode."""
    for body in (b"{", b"[]", b'"', b"", b"data: {}\n\n"):
        assert replayed(mode, body, asked) is None


@pytest.mark.parametrize(("mode", "asked"), PAIRS)
def test_no_cross_mode(mode: Mode, asked: Mode) -> None:
    """Where a rule forbids it, no mode is made of another; the same mode is replayed all the same."""
    replay = replayed(mode, KEPT[mode]["text"], asked, Replaying(cross_mode=False))
    assert (mode is asked) is (replay is not None)


def _counts(value: object) -> Iterator[object]:
    """The numbers in a value, at any depth."""
    match value:
        case dict():
            for member in value.values():
                yield from _counts(member)
        case list():
            for item in value:
                yield from _counts(item)
        case str() | bool() | None:
            pass
        case _:
            yield value


@pytest.mark.parametrize(("mode", "asked"), PAIRS)
@pytest.mark.parametrize("name", ["text", "thoughts", "vertex", "safety_ratings"])
def test_usage_zero(name: str, mode: Mode, asked: Mode) -> None:
    """Where a rule wishes so, every count of tokens is 0 wherever the API counts; nothing else is touched."""
    body = KEPT[mode][name]
    usual, changed = (replayed(mode, body, asked, wishes) for wishes in (Replaying(), Replaying(usage="zero")))
    assert usual is not None
    assert changed is not None
    assert usual.content_type == changed.content_type
    for before, after in zip(_chunks(asked, usual.body), _chunks(asked, changed.body), strict=True):
        usages = before.pop("usageMetadata"), after.pop("usageMetadata")
        assert {0} >= set(_counts(usages[1]))
        assert all(isinstance(usage, dict) for usage in usages)
        expected = json.loads(json.dumps(before).replace('"tokenCount": 12', '"tokenCount": 0'))
        assert expected == after


@pytest.mark.parametrize(("mode", "asked"), PAIRS)
@pytest.mark.parametrize("name", ["text", "vertex"])
def test_fresh_ids(name: str, mode: Mode, asked: Mode) -> None:
    """Where a rule wishes so, all chunks have one new id and time of creation, where they had one; nothing else changes."""
    body = KEPT[mode][name]
    usual, changed = (replayed(mode, body, asked, wishes) for wishes in (Replaying(), Replaying(ids="fresh")))
    assert usual is not None
    assert changed is not None
    fresh = {"responseId": "abcdefghijklmnopqrstuvw", "createTime": "2025-11-21T04:00:00.500000Z"}
    for before, after in zip(_chunks(asked, usual.body), _chunks(asked, changed.body), strict=True):
        assert before | {key: value for key, value in fresh.items() if key in before} == after


def test_wishes_without_what_they_change() -> None:
    """Members that are not there are not added, and an answer without them stays to the byte."""
    body = b'{"candidates" : [{"content":{"parts":[{"text":"Hi"}]},"finishReason":"STOP"}]}'
    replay = replayed(Mode.JSON, body, Mode.JSON, Replaying(usage="zero", ids="fresh"))
    assert replay is not None
    assert body == replay.body
