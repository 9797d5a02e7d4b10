"""Anthropic messages: what a rule may wish of a replayed answer, and what stays as it is."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from ai_cache_extproc.config.rules import Replaying
from ai_cache_extproc.model import Mode
from tests.support.anthropic_answers import KEPT_JSON, KEPT_STREAMS, OTHER, USAGE, message, replayed


@pytest.mark.parametrize("mode", [Mode.JSON, Mode.STREAM])
def test_no_cross_mode(mode: Mode) -> None:
    """Where a rule forbids it, no mode is made of the other; the same mode is replayed all the same."""
    body = KEPT_JSON["text"] if mode is Mode.JSON else KEPT_STREAMS["text"]
    wishes = Replaying(cross_mode=False)
    assert replayed(mode, body, OTHER[mode], wishes) is None
    assert replayed(mode, body, mode, wishes) == replayed(mode, body, mode)


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


@pytest.mark.parametrize("asked", [Mode.JSON, Mode.STREAM])
@pytest.mark.parametrize("mode", [Mode.JSON, Mode.STREAM])
@pytest.mark.parametrize("name", ["cache_usage", "thinking", "tool_search", "context_management"])
def test_usage_zero(name: str, mode: Mode, asked: Mode) -> None:
    """Where a rule wishes so, every count of the usage is 0 wherever the API counts; nothing else is touched."""
    body = KEPT_JSON[name] if mode is Mode.JSON else KEPT_STREAMS[name]
    usual, changed = (replayed(mode, body, asked, wishes) for wishes in (Replaying(), Replaying(usage="zero")))
    assert usual is not None
    assert changed is not None
    messages = []
    for replay in (usual, changed):
        assert usual.content_type == replay.content_type
        whole = replay if asked is Mode.JSON else replayed(asked, replay.body, Mode.JSON)
        assert whole is not None
        messages.append(json.loads(whole.body))
    assert {0} == set(_counts(messages[1]["usage"]))
    assert {0} != set(_counts(messages[0]["usage"]))
    assert messages[0]["usage"].keys() == messages[1]["usage"].keys()
    for each in messages:
        del each["usage"]
    assert messages[0] == messages[1]
    if asked is Mode.STREAM:
        touched = (b"message_start", b"message_delta")
        pairs = zip(usual.body.split(b"\n\n"), changed.body.split(b"\n\n"), strict=True)
        differing = [before for before, after in pairs if before != after]
        assert all(any(kind in before for kind in touched) for before in differing)


@pytest.mark.parametrize("asked", [Mode.JSON, Mode.STREAM])
@pytest.mark.parametrize("mode", [Mode.JSON, Mode.STREAM])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("msg_01XFDUDYJgAACzvnptVvoYEL", "msg_01abcdefghijklmnopqrstuv"),
        ("msg_bdrk_01XFDUDYJgAACzvnptVv", "msg_bdrk_01abcdefghijklmnopqrstuv"),
        ("202511210805", "msg_01abcdefghijklmnopqrstuv"),
    ],
    ids=["Anthropic", "Bedrock", "another host"],
)
def test_fresh_ids(old: str, new: str, mode: Mode, asked: Mode) -> None:
    """Where a rule wishes so, a message has a new id in the API's own form; nothing else is touched."""
    body = KEPT_JSON["thinking_tool"] if mode is Mode.JSON else KEPT_STREAMS["thinking_tool"]
    body = body.replace(b"msg_01XFDUDYJgAACzvnptVvoYEL", old.encode())
    usual, changed = (replayed(mode, body, asked, wishes) for wishes in (Replaying(), Replaying(ids="fresh")))
    assert usual is not None
    assert changed is not None
    assert usual.body.replace(old.encode(), new.encode()) == changed.body


def test_both_wishes() -> None:
    """A rule may wish for both."""
    replay = replayed(Mode.JSON, KEPT_JSON["text"], Mode.JSON, Replaying(usage="zero", ids="fresh"))
    assert replay is not None
    answer = json.loads(replay.body)
    assert "msg_01abcdefghijklmnopqrstuv" == answer["id"]
    assert 0 == answer["usage"]["output_tokens"]


def test_wishes_that_cannot_be_granted() -> None:
    """An answer that cannot be written again with certainty is a miss for a rule that wants it changed."""
    call = {"type": "tool_use", "id": "t", "name": "f", "input": {"n": 123_456_789_012_345_678_901}}
    body = json.dumps(message(call)).encode()
    assert replayed(Mode.JSON, body, Mode.JSON) is not None
    assert replayed(Mode.JSON, body, Mode.JSON, Replaying(usage="zero")) is None
    deep: dict[str, object] = {}
    for _ in range(20):
        deep = {"deeper": deep}
    body = json.dumps(message({"type": "text", "text": "Hi"}, usage=USAGE | deep)).encode()
    assert replayed(Mode.JSON, body, Mode.JSON, Replaying(usage="zero")) is None


def test_wishes_without_what_they_change() -> None:
    """Members that are not there are not added."""
    bare = {name: value for name, value in message().items() if name not in {"id", "usage"}}
    body = json.dumps(bare).encode()
    replay = replayed(Mode.JSON, body, Mode.JSON, Replaying(usage="zero", ids="fresh"))
    assert replay is not None
    assert bare == json.loads(replay.body)
