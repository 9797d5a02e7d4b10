"""OpenAI chat: what a rule wants changed in a replayed answer, and what stays to the byte."""

from __future__ import annotations

import json
import re
import time

import pytest

from ai_cache_extproc.config.rules import AS_IT_CAME, Replaying
from ai_cache_extproc.dialects.framing.sse import frames
from ai_cache_extproc.dialects.openai_chat import OpenAIChat
from ai_cache_extproc.model import Mode
from tests.support import openai_sdk as sdk
from tests.support.openai_more_answers import CHAT, NOW_S, case_id, cases, other

JSON, STREAM = CHAT.kept[Mode.JSON], CHAT.kept[Mode.STREAM]
ZERO, FRESH, BOTH = Replaying(usage="zero"), Replaying(ids="fresh"), Replaying(usage="zero", ids="fresh")
ID = "chatcmpl-abcdefghijklmnopqrstuvwxyzABC"
DONE = b"data: [DONE]\n\n"
# No usage was sent; Azure's asynchronous filter and pieces of audio contradict themselves.
NOT_MERGED = {"text", "cr", "no_space", "azure_async_filter", "audio"}


def _replayed(mode: Mode, came: Mode, body: bytes, wishes: Replaying, name: str = "") -> bytes | None:
    question = CHAT.question(mode, name, stream_options={"include_usage": True})
    replay = CHAT.replay(question, came, body, wishes)
    return None if replay is None else replay.body


def _same(mode: Mode, body: bytes, wishes: Replaying) -> bytes:
    replayed = _replayed(mode, mode, body, wishes)
    assert replayed is not None
    return replayed


def _objects(mode: Mode, body: bytes) -> list[dict[str, object]]:
    if mode is Mode.JSON:
        return [json.loads(body)]
    data = [frame.data or b"" for frame in frames(body, 1024 * 1024)]
    return [json.loads(payload) for payload in data if payload.startswith(b"{")]


def _wished(members: dict[str, object]) -> dict[str, object]:
    """What a whole answer, or a chunk of one, looks like with both wishes; empty ids and times stay empty."""
    wished = dict(members)
    if members.get("id"):
        wished["id"] = ID
    if members.get("created"):
        wished["created"] = int(NOW_S)
    if members.get("usage"):
        wished["usage"] = _zero(members["usage"])
    return wished


def _zero(value: object) -> object:
    return {name: _zero(part) for name, part in value.items()} if isinstance(value, dict) else 0


@pytest.mark.parametrize("case", cases((CHAT,)), ids=case_id)
def test_same_mode(case: tuple[object, Mode, str]) -> None:
    """Every count is 0, id and time are new and the same in all chunks, and nothing else is changed."""
    _, mode, name = case
    body = CHAT.kept[mode][name]
    assert [_wished(members) for members in _objects(mode, body)] == _objects(mode, _same(mode, body, BOTH))
    assert body == _same(mode, body, AS_IT_CAME)


@pytest.mark.parametrize("case", cases((CHAT,)), ids=case_id)
def test_other_mode(case: tuple[object, Mode, str]) -> None:
    """The same where one mode is turned into the other."""
    _, mode, name = case
    body, asked = CHAT.kept[mode][name], other(mode)
    plain = _replayed(asked, mode, body, AS_IT_CAME, name)
    replayed = _replayed(asked, mode, body, BOTH, name)
    if mode is Mode.STREAM and name in NOT_MERGED:
        assert plain is replayed is None
        return
    assert plain is not None
    assert replayed is not None
    assert [_wished(members) for members in _objects(asked, plain)] == _objects(asked, replayed)


@pytest.mark.parametrize("case", cases((CHAT,)), ids=case_id)
def test_cross_mode_off(case: tuple[object, Mode, str]) -> None:
    """Where a rule forbids it, no answer is turned; one that came in the asked mode is replayed."""
    _, mode, name = case
    body, wishes = CHAT.kept[mode][name], Replaying(cross_mode=False)
    assert _replayed(other(mode), mode, body, wishes, name) is None
    assert body == _replayed(mode, mode, body, wishes, name)


def test_as_the_sdk_reads_it() -> None:
    """The SDK adds a changed stream up to the changed JSON answer."""
    stream = _replayed(Mode.STREAM, Mode.JSON, JSON["parallel_tool_calls"], BOTH)
    whole = _same(Mode.JSON, JSON["parallel_tool_calls"], BOTH)
    assert stream is not None
    types = CHAT.types
    assert sdk.completion(types[Mode.JSON], whole) == sdk.accumulated(types[Mode.STREAM], stream)


def test_only_what_changes_is_written_again() -> None:
    """Chunks without counts stay to the byte, and so do comments, line ends and what is no chunk."""
    before, after = [
        body.splitlines(keepends=True) for body in (STREAM["crlf"], _same(Mode.STREAM, STREAM["crlf"], ZERO))
    ]
    assert len(before) == len(after)
    changed = [one for one, two in zip(before, after, strict=True) if one != two]
    assert all(b'"usage"' in line for line in changed)
    assert all(line.endswith(b"\r\n") for line in after)
    keep_alive = _same(Mode.STREAM, STREAM["keep_alive"], FRESH)
    assert [line for line in STREAM["keep_alive"].splitlines() if line.startswith(b":")] == [
        line for line in keep_alive.splitlines() if line.startswith(b":")
    ]


def test_nothing_to_change() -> None:
    """An answer without usage, id and time stays to the byte."""
    for mode, body in ((Mode.JSON, b'{ "choices": [] }'), (Mode.STREAM, b'data: { "choices": [] }\n\n' + DONE)):
        assert body == _same(mode, body, BOTH)


def test_data_in_several_lines() -> None:
    """Data that came in several lines is one, and goes out as one."""
    body = b'\xef\xbb\xbfid: 7\ndata: {"id": "a",\ndata: "choices": []}\n\n' + DONE
    assert b'id: 7\ndata: {"id":"%b","choices":[]}\n\n' % ID.encode() + DONE == _same(Mode.STREAM, body, FRESH)
    no_space = b'data:{"id":"a"}\n\n'
    assert b'data:{"id":"%b"}\n\n' % ID.encode() + DONE == _same(Mode.STREAM, no_space + DONE, FRESH)


def test_counts_of_other_hosts() -> None:
    """Groq counts in a member of its own, Moonshot in the choice, OpenRouter counts money too."""
    counts = {"total_tokens": 7, "cost": 0.25, "is_byok": False, "details": [{"n": 1}], "tier": "on"}
    zero = {"total_tokens": 0, "cost": 0, "is_byok": False, "details": [{"n": 0}], "tier": "on"}
    choice = {"index": 0, "delta": {"content": "7"}}

    def answer(usage: object) -> dict[str, object]:
        return {
            "usage": usage,
            "x_groq": {"id": "req", "usage": usage},
            "choices": [choice | {"usage": usage}, choice, 3],
        }

    assert answer(zero) == json.loads(_same(Mode.JSON, json.dumps(answer(counts)).encode(), ZERO))
    body = json.dumps({"x_groq": {"id": "req"}, "choices": [choice]}).encode()
    assert body == _same(Mode.JSON, body, ZERO)


@pytest.mark.parametrize(
    ("mode", "body"),
    [
        pytest.param(Mode.JSON, b"{", id="not JSON"),
        pytest.param(Mode.JSON, b"[]", id="no object"),
        pytest.param(Mode.JSON, b'{"usage":' + b'{"a":' * 9 + b"1" + b"}" * 10, id="usage too deep"),
        pytest.param(Mode.JSON, b'{"id":"a","x":' + b"[" * 300 + b"]" * 300 + b"}", id="too deep to be written"),
        pytest.param(Mode.STREAM, b"data: {\n\n" + DONE, id="chunk is not JSON"),
        pytest.param(Mode.STREAM, b":" + b"." * 512 * 1024 + b"\n" + DONE, id="a stream over 512 KiB"),
    ],
)
def test_not_changed(mode: Mode, body: bytes) -> None:
    """What cannot be changed with certainty, or takes too long, is a miss."""
    assert _replayed(mode, mode, body, BOTH) is None


def test_ids_of_its_own() -> None:
    """Outside of tests ids are random, of OpenAI's own form, and times are the clock's."""
    dialect = OpenAIChat(sse_line_bytes_max=1024)
    before = int(time.time())
    ids = set()
    for _ in range(9):
        replay = dialect.replay(CHAT.question(Mode.JSON), [CHAT.captured(Mode.JSON, JSON["text"])], FRESH)
        assert replay is not None
        answer = json.loads(replay.body)
        assert re.fullmatch(r"chatcmpl-[A-Za-z0-9]{29}", answer["id"])
        assert before <= answer["created"] <= time.time()
        ids.add(answer["id"])
    assert 9 == len(ids)
