"""The other APIs of OpenAI and its likes: one mode turned into the other, as the official SDKs read it, and back."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ai_cache_extproc.config.rules import Replaying
from ai_cache_extproc.model import Mode
from tests.support import openai_more_sdk as sdk
from tests.support.openai_more_answers import (
    COMPLETIONS,
    DASHSCOPE,
    EMBEDDINGS,
    OLLAMA,
    RESPONSES,
    STREAMING,
    Api,
    case_id,
    cases,
    other,
)

Case = tuple[Api, Mode, str]
Members = dict[str, object]

# A stream without usage, and several choices with a usage each.
NOT_TURNED = {
    (COMPLETIONS.folder, Mode.STREAM, "text"),
    (DASHSCOPE.folder, Mode.STREAM, "two_choices_incremental"),
    (DASHSCOPE.folder, Mode.JSON, "two_choices"),
}
TURNED = [case for case in cases(STREAMING) if (case[0].folder, *case[1:]) not in NOT_TURNED]
# Ollama's SDK reads no blank lines.
UNREAD = {"blank_lines_chat"}


def _as_read(api: Api, mode: Mode, name: str, body: bytes) -> object:
    """What the official SDK makes of an answer."""
    answer = (api.types[mode], body)
    is_json = mode is Mode.JSON
    if api is COMPLETIONS:
        return sdk.completion(answer) if is_json else sdk.completion_stream(answer)
    if api is RESPONSES:
        return sdk.response(answer) if is_json else sdk.response_stream(answer)
    if api is OLLAMA:
        is_chat = "generate" not in name
        return sdk.ollama_answer(answer, is_chat=is_chat) if is_json else sdk.ollama_stream(answer, is_chat=is_chat)
    in_parts = "parts" in name
    if is_json:
        return sdk.dashscope_answer(answer, in_parts=in_parts)
    return sdk.dashscope_stream(answer, in_parts=in_parts, incremental="incremental" in name)


def _turned(api: Api, mode: Mode, name: str, body: bytes) -> bytes | None:
    """An answer in the other mode, for who wants to know the usage."""
    options = {"stream_options": {"include_usage": True}} if api is COMPLETIONS else {}
    replay = api.replay(api.question(other(mode), name, **options), mode, body)
    if replay is None:
        return None
    assert api.types[other(mode)] == replay.content_type
    return replay.body


@pytest.mark.parametrize("case", TURNED, ids=case_id)
def test_turned_as_the_sdk_reads_it(case: Case) -> None:
    """An answer replayed in the other mode is the same in the hands of the official SDK, and may be kept."""
    api, mode, name = case
    body = api.kept[mode][name]
    turned = _turned(api, mode, name, body)
    assert turned is not None
    api.settle(other(mode), turned, name)
    if name not in UNREAD:
        assert _as_read(api, mode, name, body) == _as_read(api, other(mode), name, turned)


@pytest.mark.parametrize("case", [case for case in TURNED if case[1] is Mode.STREAM], ids=case_id)
def test_stream_as_the_same_json(case: Case) -> None:
    """A stream makes the JSON answer that the API gives to the same question."""
    api, mode, name = case
    turned = _turned(api, mode, name, api.kept[mode][name])
    assert turned is not None
    plain = name.removesuffix("_incremental").removesuffix("_cumulative")
    expected = api.kept[Mode.JSON].get(plain)
    if expected is not None:
        assert json.loads(expected) == json.loads(turned)


@pytest.mark.parametrize("case", [case for case in TURNED if case[1] is Mode.JSON], ids=case_id)
def test_json_there_and_back(case: Case) -> None:
    """A JSON answer turned into a stream makes that JSON answer again, captured in one chunk for each byte or in one."""
    api, mode, name = case
    stream = _turned(api, mode, name, api.kept[mode][name])
    assert stream is not None
    for chunks in ([stream], [stream[at : at + 1] for at in range(len(stream))]):
        assert stream == api.fed(Mode.STREAM, chunks, name)
    back = _turned(api, Mode.STREAM, name, stream)
    assert back is not None
    assert json.loads(api.kept[mode][name]) == json.loads(back)


@pytest.mark.parametrize(
    "case",
    [(api, *rest) for api in STREAMING for folder, *rest in sorted(NOT_TURNED) if folder == api.folder],
    ids=case_id,
)
def test_not_turned(case: Case) -> None:
    """What would lack a field that the API always sends, or is not certain, is a miss."""
    api, mode, name = case
    assert _turned(api, mode, name, api.kept[mode][name]) is None


@pytest.mark.parametrize("case", cases((*STREAMING, EMBEDDINGS)), ids=case_id)
def test_cross_mode_off(case: Case) -> None:
    """Where a rule forbids it, no answer is turned; one that came in the asked mode is replayed."""
    api, mode, name = case
    body, wishes = api.kept[mode][name], Replaying(cross_mode=False)
    if api is not EMBEDDINGS:
        assert api.replay(api.question(other(mode), name), mode, body, wishes) is None
    same = api.replay(api.question(mode, name), mode, body, wishes)
    assert same is not None
    assert body == same.body


@pytest.mark.parametrize("api", STREAMING, ids=lambda api: api.folder)
def test_the_asked_mode_first(api: Api) -> None:
    """Of two captures the one in the asked mode answers, wherever it stands."""
    for mode in (Mode.JSON, Mode.STREAM):
        same = api.captured(mode, next(iter(api.kept[mode].values())))
        foreign = api.captured(other(mode), b"not looked at")
        for captures in ([same, foreign], [foreign, same]):
            replay = api.dialect.replay(api.question(mode), captures)
            assert replay is not None
            assert (same, same.body, same.content_type) == (replay.source, replay.body, replay.content_type)


# Answers of any content.

texts = st.text(max_size=20)
said = st.text(min_size=1, max_size=20)
numbers = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
unknown = st.dictionaries(st.sampled_from(["x_a", "x_b"]), values, max_size=2)
counts = st.dictionaries(texts, st.integers(0, 1000), min_size=1, max_size=3)


def _object(**members: st.SearchStrategy[object]) -> st.SearchStrategy[Members]:
    """Members that are always there, beside unknown ones."""
    return st.builds(lambda known, more: known | more, st.fixed_dictionaries(dict(members)), unknown)


def _some(known: st.SearchStrategy[Members], **members: st.SearchStrategy[object]) -> st.SearchStrategy[Members]:
    """And members that may be there."""
    return st.builds(lambda one, two: one | two, known, st.fixed_dictionaries({}, optional=dict(members)))


tokens = st.lists(_object(token=texts, logprob=st.floats(-100, 0)), max_size=3)
token_lists = st.fixed_dictionaries(
    {"tokens": st.lists(texts), "token_logprobs": st.lists(st.none() | st.floats(-9, 0))}
)
completions = _object(
    id=texts,
    object=st.just("text_completion"),
    created=st.integers(0, 2**40),
    model=texts,
    usage=counts,
    choices=st.lists(
        _object(text=said, logprobs=st.none() | token_lists, finish_reason=st.just("stop")), min_size=1, max_size=3
    ).map(lambda found: [choice | {"index": index} for index, choice in enumerate(found)]),
)

parts = st.lists(
    _object(type=st.just("output_text"), text=texts, annotations=st.lists(unknown, max_size=2), logprobs=tokens)
    | _object(type=st.just("refusal"), refusal=texts),
    min_size=1,
    max_size=3,
)
thoughts = st.lists(_object(type=st.just("summary_text"), text=texts), max_size=3)
contents = st.lists(_object(type=st.just("reasoning_text"), text=texts), max_size=3)
status = st.just("completed")
items = (
    _object(type=st.just("message"), id=texts, role=st.just("assistant"), status=status, content=parts)
    | _some(_object(type=st.just("reasoning"), id=texts, summary=thoughts), content=contents, encrypted_content=texts)
    | _object(type=st.just("function_call"), id=texts, call_id=texts, name=texts, arguments=texts, status=status)
    | _object(type=st.just("custom_tool_call"), id=texts, call_id=texts, name=texts, input=texts)
)
call_item = _object(type=st.just("function_call"), id=texts, call_id=texts, name=texts, arguments=texts, status=status)
responses = _object(
    id=texts,
    object=st.just("response"),
    created_at=st.integers(0, 2**40) | st.floats(0, 2**40),
    completed_at=st.none() | st.integers(0, 2**40),
    status=status,
    error=st.none(),
    output=st.builds(lambda some, last: [*some, last], st.lists(items, max_size=3), call_item),
    usage=counts,
)

calls = st.lists(
    _object(id=texts, type=st.just("function"), function=_object(name=texts, arguments=texts)), max_size=3
).map(lambda found: [call | {"index": index} for index, call in enumerate(found)])
messages = st.builds(
    lambda message, content: message | {"content": content},
    _some(_object(role=st.just("assistant")), reasoning_content=texts, tool_calls=calls),
    said | st.lists(st.fixed_dictionaries({"text": said}), min_size=1, max_size=1),
)
choices = _some(
    _object(message=messages, finish_reason=st.sampled_from(["stop", "tool_calls"])),
    logprobs=st.fixed_dictionaries({"content": tokens}),
    index=st.just(0),
)
generations = _object(
    request_id=texts,
    usage=counts,
    output=choices.map(lambda choice: {"choices": [choice]})
    | st.fixed_dictionaries({"text": said, "finish_reason": st.just("stop")}),
)

ollama_calls = st.lists(_object(function=_object(name=texts, arguments=unknown)), max_size=3)
ends = {
    "model": texts,
    "created_at": texts,
    "done": st.just(True),
    "done_reason": st.just("stop"),
    "eval_count": st.integers(0, 2**31),
}
ollama_messages = _some(_object(role=st.just("assistant"), content=said), thinking=texts, tool_calls=ollama_calls)
chats = _some(_object(message=ollama_messages, **ends), logprobs=tokens)
generated = _some(_object(response=said, **ends), logprobs=tokens, thinking=texts, context=st.lists(st.integers(0, 9)))


@settings(deadline=None)
@given(st.data())
@pytest.mark.parametrize(
    ("api", "name", "answers"),
    [
        pytest.param(COMPLETIONS, "", completions, id="completions"),
        pytest.param(RESPONSES, "", responses, id="responses"),
        pytest.param(DASHSCOPE, "incremental", generations, id="dashscope-incremental"),
        pytest.param(DASHSCOPE, "cumulative", generations, id="dashscope-cumulative"),
        pytest.param(OLLAMA, "chat", chats, id="ollama-chat"),
        pytest.param(OLLAMA, "generate", generated, id="ollama-generate"),
    ],
)
def test_any_json_there_and_back(api: Api, name: str, answers: st.SearchStrategy[Members], data: st.DataObject) -> None:
    """A JSON answer turned into a stream makes exactly that answer again, unknown members included."""
    answer = data.draw(answers)
    stream = _turned(api, Mode.JSON, name, json.dumps(answer).encode())
    assert stream is not None
    assert stream == api.fed(Mode.STREAM, [stream], name)
    back = _turned(api, Mode.STREAM, name, stream)
    assert back is not None
    assert answer == json.loads(back)
