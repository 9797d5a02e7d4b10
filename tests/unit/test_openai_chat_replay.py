"""OpenAI chat: an entry turned into an answer, in the mode it was captured in and in the other one."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from ai_cache_extproc.dialects.framing.sse import encode, frames
from ai_cache_extproc.model import Mode, Replay
from tests.support import openai_sdk as sdk
from tests.support.chat_answers import (
    DIALECT,
    JSON_TYPE,
    KEPT_JSON,
    KEPT_STREAMS,
    STREAM_TYPE,
    captured,
    question,
    settle,
)

USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
# No usage was sent; Azure's asynchronous filter and pieces of audio contradict themselves.
NOT_MERGED = {"text", "cr", "no_space", "azure_async_filter", "audio"}
# The SDK keeps the empty id of Azure's first chunk, and only the first of the filter results.
MISREAD_BY_THE_SDK = {"azure"}


def _as_stream(body: bytes, *, name: str = "", usage_chunk: bool = True) -> Replay | None:
    return DIALECT.replay(question(Mode.STREAM, name=name, usage_chunk=usage_chunk), [captured(Mode.JSON, body)])


def _as_json(stream: bytes, *, name: str = "") -> Replay | None:
    return DIALECT.replay(question(Mode.JSON, name=name), [captured(Mode.STREAM, stream)])


def _stream(*chunks: Mapping[str, object]) -> bytes:
    return b"".join(encode(json.dumps(chunk)) for chunk in (*chunks, {"choices": [], "usage": USAGE})) + encode(
        "[DONE]"
    )


def _delta(delta: object, finish: str | None = None, **members: object) -> dict[str, object]:
    return {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": finish} | members]}


def _message(*deltas: object) -> object:
    """The message that these deltas add up to; None if they cannot be merged."""
    replay = _as_json(_stream(*map(_delta, deltas), _delta({}, "stop")))
    return None if replay is None else json.loads(replay.body)["choices"][0]["message"]


def _chunks(replay: Replay | None) -> list[dict[str, object]]:
    assert replay is not None
    *payloads, end = [frame.data for frame in frames(replay.body, 1024 * 1024)]
    assert b"[DONE]" == end
    return [json.loads(payload or b"") for payload in payloads]


@pytest.mark.parametrize("mode", [Mode.JSON, Mode.STREAM])
def test_same_mode(mode: Mode) -> None:
    """A capture of the asked mode is replayed to the byte, with its own content type, whatever else there is."""
    for body in (KEPT_JSON if mode is Mode.JSON else KEPT_STREAMS).values():
        same = captured(mode, body)
        other = captured(Mode.STREAM if mode is Mode.JSON else Mode.JSON, b"not looked at")
        for captures in ([same], [same, other], [other, same]):
            assert Replay(same.content_type, body, same) == DIALECT.replay(question(mode), captures)


@pytest.mark.parametrize("name", KEPT_JSON)
def test_json_as_stream(name: str) -> None:
    """A JSON answer replayed as a stream adds up, in the SDK's own hands, to the JSON answer."""
    replay = _as_stream(KEPT_JSON[name], name=name)
    assert replay is not None
    assert STREAM_TYPE == replay.content_type
    assert sdk.completion(JSON_TYPE, KEPT_JSON[name]) == sdk.accumulated(replay.content_type, replay.body)


@pytest.mark.parametrize("name", KEPT_JSON)
def test_json_as_stream_may_be_kept(name: str) -> None:
    """A rebuilt stream passes the judge that captured ones pass, and merges to the answer that it came from."""
    replay = _as_stream(KEPT_JSON[name], name=name)
    assert replay is not None
    settle(question(Mode.STREAM, name=name), Mode.STREAM, replay.body, tool_calls=True)
    back = _as_json(replay.body, name=name)
    assert back is not None
    answer = json.loads(KEPT_JSON[name])
    for choice in answer["choices"]:
        choice["message"].setdefault("refusal", None)
    assert answer == json.loads(back.body)


@pytest.mark.parametrize("name", sorted(set(KEPT_STREAMS) - NOT_MERGED))
def test_stream_as_json(name: str) -> None:
    """A stream replayed as JSON is what the SDK makes of the stream."""
    replay = _as_json(KEPT_STREAMS[name], name=name)
    assert replay is not None
    assert JSON_TYPE == replay.content_type
    settle(question(Mode.JSON, name=name), Mode.JSON, replay.body, tool_calls=True)
    if name not in MISREAD_BY_THE_SDK:
        assert sdk.accumulated(STREAM_TYPE, KEPT_STREAMS[name]) == sdk.completion(JSON_TYPE, replay.body)


@pytest.mark.parametrize("name", sorted(NOT_MERGED))
def test_stream_not_merged(name: str) -> None:
    """A stream without usage, or with members that do not add up, is a miss for a JSON question."""
    assert _as_json(KEPT_STREAMS[name], name=name) is None


def test_azure_stream_as_json() -> None:
    """Azure's first chunk lends its filter results, not its empty id, and the filter results of all pieces are united."""
    replay = _as_json(KEPT_STREAMS["azure"])
    assert replay is not None
    expected = json.loads(KEPT_JSON["azure"])
    expected["prompt_filter_results"][0]["content_filter_results"].pop("jailbreak")
    assert expected == json.loads(replay.body)


def test_required_members() -> None:
    """A JSON answer made of a stream has every member that the API requires."""
    replay = _as_json(_stream(_delta({"reasoning": "Hm."}), _delta({}, "stop")))
    assert replay is not None
    message = {"role": "assistant", "content": None, "refusal": None, "reasoning": "Hm."}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    assert {"object": "chat.completion", "id": "c", "choices": [choice], "usage": USAGE} == json.loads(replay.body)


def test_obfuscation_is_dropped() -> None:
    """Padding is not part of an answer."""
    replay = _as_json(KEPT_STREAMS["obfuscation"])
    assert replay is not None
    assert b"obfuscation" not in replay.body
    assert replay == _as_json(KEPT_STREAMS["obfuscation"])


def test_usage_chunk_only_if_asked() -> None:
    """The usage is the last chunk for who asked for it, and appears nowhere for who did not."""
    *others, last = _chunks(_as_stream(KEPT_JSON["text"]))
    assert ([], json.loads(KEPT_JSON["text"])["usage"]) == (last["choices"], last["usage"])
    assert {None} == {chunk["usage"] for chunk in others}
    without = _chunks(_as_stream(KEPT_JSON["text"], usage_chunk=False))
    assert all("usage" not in chunk and chunk["choices"] for chunk in without)
    assert len(others) == len(without)


def test_usage_lacking() -> None:
    """A JSON answer without usage answers no one who asked for a usage chunk, and everyone else."""
    answer = json.loads(KEPT_JSON["text"])
    del answer["usage"]
    body = json.dumps(answer).encode()
    assert _as_stream(body) is None
    assert 3 == len(_chunks(_as_stream(body, usage_chunk=False)))


def test_stream_in_order() -> None:
    """Per choice the role comes first, reasoning before content, the finish last; all share id, model and time."""
    chunks = _chunks(_as_stream(KEPT_JSON["reasoning"], usage_chunk=False))
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]  # type: ignore[index]  # parsed JSON
    assert [
        {"role": "assistant", "content": ""},
        {"reasoning_content": "Compare 9.11 and 9.8 digit by digit: 8 > 1."},
        {"content": "9.8"},
        {},
    ] == deltas
    assert {("8f2e", "deepseek-reasoner", 1763697601, "chat.completion.chunk")} == {
        (chunk["id"], chunk["model"], chunk["created"], chunk["object"]) for chunk in chunks
    }


def test_lists_and_objects_once() -> None:
    """Members of the answer that are lists or objects stand in the first chunk alone, plain ones in every chunk."""
    first, *others = _chunks(_as_stream(KEPT_JSON["azure"]))
    assert json.loads(KEPT_JSON["azure"])["prompt_filter_results"] == first["prompt_filter_results"]
    assert not any("prompt_filter_results" in chunk for chunk in others)
    assert {"fp_az"} == {chunk["system_fingerprint"] for chunk in (first, *others)}


def test_choices_and_calls_in_order_of_index() -> None:
    """Choices and tool calls stand in the order of their indexes, whichever came first."""

    def call(index: int) -> dict[str, object]:
        return {"tool_calls": [{"index": index, "id": f"call_{index}", "type": "function"}]}

    parts = [{"index": choice, "delta": call(index)} for choice, index in ((1, 1), (0, 1), (1, 0), (0, 0))]
    ends: list[dict[str, object]] = [{"index": choice, "delta": {}, "finish_reason": "tool_calls"} for choice in (1, 0)]
    replay = _as_json(_stream(*({"id": "c", "choices": [choice]} for choice in (*parts, *ends))))
    assert replay is not None
    choices = json.loads(replay.body)["choices"]
    assert [0, 1] == [choice["index"] for choice in choices]
    ids = [[made["id"] for made in choice["message"]["tool_calls"]] for choice in choices]
    assert [["call_0", "call_1"]] * 2 == ids


def test_last_usage_counts() -> None:
    """Of several usages, as hosts send them that count while they answer, the last is the answer's."""
    early = _delta({"content": "a"}, "stop") | {"usage": {"total_tokens": 1}}
    replay = _as_json(_stream(early))
    assert replay is not None
    assert USAGE == json.loads(replay.body)["usage"]


def test_long_texts_in_pieces() -> None:
    """Long texts and arguments travel in lines that fit a buffer of 64 KiB, and arrive unchanged."""
    calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": '"\\u0000' * 5_000}}]
    message = {"role": "assistant", "content": "\0🌍é" * 10_000, "refusal": None, "tool_calls": calls}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "tool_calls"}
    answer = {"object": "chat.completion", "id": "c", "choices": [choice], "usage": USAGE}
    replay = _as_stream(json.dumps(answer).encode())
    assert replay is not None
    assert max(map(len, replay.body.splitlines())) < 65_536
    back = _as_json(replay.body)
    assert back is not None
    assert answer == json.loads(back.body)


@pytest.mark.parametrize(
    "message",
    [
        None,
        {"content": "a", "tool_calls": "f"},
        {"content": "a", "tool_calls": ["f"]},
        {"content": "a", "tool_calls": [{"index": 1, "id": "1", "type": "function", "function": {"name": "f"}}]},
        {"content": "a", "tool_calls": [{"id": "1", "type": "function", "function": "f"}]},
        {"content": "a", "function_call": "f"},
        {"content": "a", "deep": json.loads("[" * 300 + "]" * 300)},
    ],
)
def test_json_not_split(message: object) -> None:
    """A JSON answer that cannot be written in pieces is a miss for who asked for a stream."""
    answer = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": USAGE}
    assert _as_stream(json.dumps(answer).encode()) is None


def test_unusual_members_as_stream() -> None:
    """Content in parts, calls of an unknown kind, calls without arguments: all arrive."""
    calls: list[dict[str, object]] = [
        {"id": "1", "type": "function", "function": {"name": "f"}, "index": 0},
        {"id": "2", "type": "unknown", "unknown": {"a": 1}},
    ]
    parts = [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "Hi"}]
    message = {
        "role": "assistant",
        "refusal": None,
        "content": parts,
        "tool_calls": calls,
        "native": {"b": [1]},
        "c": 0,
    }
    choice = {"index": 0, "message": message, "logprobs": {"tokens": ["Hi"]}, "finish_reason": "stop", "x": "y"}
    answer = {"object": "chat.completion", "choices": [choice], "usage": USAGE, "citations": ["z"], "t": 0.25}
    replay = _as_stream(json.dumps(answer).encode())
    assert replay is not None
    back = _as_json(replay.body)
    assert back is not None
    del calls[0]["index"]
    assert answer == json.loads(back.body)


@pytest.mark.parametrize(
    ("deltas", "members"),
    [
        ([{"role": "assistant"}, {"role": "assistant", "content": "a"}, {"content": None}], {"content": "a"}),
        ([{"content": None}, {"content": ""}, {"content": None}], {"content": ""}),
        ([{"content": [{"type": "text", "text": "a"}]}], {"content": [{"type": "text", "text": "a"}]}),
        (
            [{"content": "a", "annotations": []}, {"annotations": [{"n": 1}]}],
            {"content": "a", "annotations": [{"n": 1}]},
        ),
        ([{"content": "a", "flag": False}], {"content": "a", "flag": False}),
        ([{"content": "a", "obfuscation": "x"}, {"content": "b", "obfuscation": "y"}], {"content": "ab"}),
        ([{"content": "a"}, {"tool_calls": []}, {"tool_calls": None}], {"content": "a", "tool_calls": []}),
    ],
)
def test_merged(deltas: list[object], members: dict[str, object]) -> None:
    """Repeated roles, empties of both kinds and members that come once are merged."""
    expected: dict[str, object] = {"role": "assistant", "refusal": None} | members
    assert expected == _message(*deltas)


@pytest.mark.parametrize(
    "deltas",
    [
        [{"role": "assistant", "content": "a"}, {"role": "tool"}],
        [{"content": "a", "unknown": "b"}, {"unknown": "b"}],
        [{"content": "a", "flag": False}, {"flag": False}],
        [{"content": "a"}, {"content": [{"type": "text", "text": "b"}]}],
        [{"content": [{"type": "text", "text": "a"}]}, {"content": "b"}],
        [{"reasoning_details": [{"text": "a"}]}, {"reasoning_details": [{"text": "b"}]}],
        [{"tool_calls": [{"id": "1", "function": {"name": "f", "arguments": ""}}]}],
        [{"tool_calls": ["f"]}],
        [{"tool_calls": [{"index": 0, "id": "1"}]}, {"tool_calls": [{"index": 0, "id": "2"}]}],
        [
            {"tool_calls": [{"index": 0, "function": {"name": "f"}}]},
            {"tool_calls": [{"index": 0, "function": {"name": "g"}}]},
        ],
        [{"tool_calls": [{"index": 0, "id": "1"}]}, {"tool_calls": {"index": 0}}],
        [{"function_call": {"name": "f"}}, {"function_call": "g"}],
        [{"content": "a", "deep": json.loads("[" * 300 + "]" * 300)}],
    ],
)
def test_not_merged(deltas: list[object]) -> None:
    """A member that comes twice without a rule for it, or contradicts itself, is not guessed at."""
    assert _message(*deltas) is None


def test_logprobs_of_two_kinds() -> None:
    """Log probabilities that go on as something else, or in lists of an unknown name, are not merged."""
    for name, first, second in (("content", [1], "x"), ("tokens", [1], [2])):
        chunks = [_delta({"content": "a"}, logprobs={name: value}) for value in (first, second)]
        assert _as_json(_stream(*chunks, _delta({}, "stop"))) is None


def test_members_of_choices_and_answers_are_united() -> None:
    """Members around the message may repeat themselves and grow, but not change."""

    def merged(first: object, second: object) -> object:
        replay = _as_json(_stream(_delta({"content": "a"}, x=first), _delta({}, "stop", x=second)))
        return None if replay is None else json.loads(replay.body)["choices"][0]["x"]

    assert 1 == merged(1, 1)
    assert 1 == merged(None, 1) == merged(1, None)
    assert {"a": {"b": 1, "c": [2]}, "d": 3} == merged({"a": {"b": 1}}, {"a": {"c": [2]}, "d": 3})
    assert {"a": 1, "b": 2} == merged({"a": 1, "b": None}, {"a": "", "b": 2})
    assert merged(1, 2) is None
    assert merged({"a": 1}, {"a": 2}) is None
    assert merged({"a": 1}, [1]) is None
    assert merged(0, False) is None
    deep = {"a": {"a": {"a": {"a": {"a": 1}}}}}
    assert deep == merged(deep, deep)
    assert merged(deep, {"a": {"a": {"a": {"a": {"b": 1}}}}}) is None


def test_long_stream_is_not_merged() -> None:
    """A stream over 256 KiB is a miss for a JSON question; one just below it is merged."""
    end = _stream(_delta({"content": "a"}, "stop"))
    for size, answered in ((256 * 1024, True), (256 * 1024 + 1, False)):
        padding = b":" + b"." * (size - len(end) - 2) + b"\n"
        assert answered is (_as_json(padding + end) is not None)


def test_unreadable_entries() -> None:
    """An entry that cannot be read is a miss."""
    assert _as_stream(b"{") is None
    assert _as_json(b"data: {}\n\n") is None
    assert _as_json(encode("{}") + encode("[DONE]")) is None
