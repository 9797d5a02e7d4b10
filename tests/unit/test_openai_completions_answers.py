"""OpenAI completions: which whole answers may be kept, how one mode becomes the other, and what a rule wants changed."""

from __future__ import annotations

import json

import pytest

from ai_cache_extproc.config.rules import Replaying
from ai_cache_extproc.dialects.framing.sse import encode, frames
from ai_cache_extproc.dialects.openai_completions import OpenAICompletions
from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.model import Mode, Reason
from tests.support.openai_more_answers import COMPLETIONS, NOW_S, case_id, cases

JSON, STREAM = COMPLETIONS.kept[Mode.JSON], COMPLETIONS.kept[Mode.STREAM]
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
DONE = b"data: [DONE]\n\n"
DEEP = json.loads("[" * 300 + "]" * 300)
REASONS = {
    "length": Reason.FINISH_REASON,
    "content_filter": Reason.FINISH_REASON,
    "no_finish": Reason.FINISH_REASON,
    "one_of_two_finished": Reason.FINISH_REASON,
    "empty": Reason.EMPTY_ANSWER,
    "error": Reason.IN_BAND_ERROR,
    "error_event": Reason.IN_BAND_ERROR,
}
ID = "cmpl-abcdefghijklmnopqrstuvwxyzABC"


def _refusal(mode: Mode, body: bytes, name: str = "") -> str:
    with pytest.raises(DialectError) as caught:
        COMPLETIONS.settle(mode, body, name)
    return caught.value.reason


def _answer(*choices: object, **members: object) -> bytes:
    return json.dumps({"id": "c", "choices": choices, "usage": USAGE} | members).encode()


def _choice(text: object, finish: object = "stop", index: object = 0, **members: object) -> dict[str, object]:
    return {"index": index, "text": text, "finish_reason": finish} | members


def _stream(*choices: dict[str, object]) -> bytes:
    chunks = [{"id": "c", "choices": [choice]} for choice in choices]
    return b"".join(encode(json.dumps(chunk)) for chunk in (*chunks, {"choices": [], "usage": USAGE})) + DONE


def _objects(stream: bytes | None) -> list[dict[str, object]]:
    assert stream is not None
    *payloads, end = [frame.data for frame in frames(stream, 1024 * 1024)]
    assert b"[DONE]" == end
    return [json.loads(payload or b"") for payload in payloads]


@pytest.mark.parametrize("case", cases((COMPLETIONS,), "refused"), ids=case_id)
def test_refused(case: tuple[object, Mode, str]) -> None:
    """Every bad shape is refused with its word, although it ends as a good one does."""
    _, mode, name = case
    assert REASONS[name] == _refusal(mode, COMPLETIONS.refused[mode][name], name)


@pytest.mark.parametrize("mode", [Mode.JSON, Mode.STREAM])
def test_fewer_choices_than_asked(mode: Mode) -> None:
    """An answer with fewer choices than the prompts ask for is cut."""
    name = "text" if mode is Mode.JSON else "text_usage"
    for asked in ("two_prompts", "two_choices"):
        assert Reason.CUT == _refusal(mode, COMPLETIONS.kept[mode][name], asked)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"<html>", id="not JSON"),
        pytest.param(b"{}", id="no choices"),
        pytest.param(_answer("text"), id="choice is text"),
        pytest.param(_answer(_choice(3)), id="text is a number"),
        pytest.param(_answer(_choice("a", index=None)), id="no index"),
        pytest.param(_answer(_choice("a"), _choice("b")), id="one index twice"),
    ],
)
def test_not_understood(body: bytes) -> None:
    """What is no text completion is refused, however it is broken."""
    assert Reason.ANSWER_NOT_UNDERSTOOD == _refusal(Mode.JSON, body)


def test_finish_of_another_kind() -> None:
    """Only `stop` is good, and a bad word is not unsaid by a later good one."""
    for finish in ("error", "", None, ["stop"], 0):
        assert Reason.FINISH_REASON == _refusal(Mode.JSON, _answer(_choice("a", finish)))
    assert Reason.FINISH_REASON == _refusal(Mode.STREAM, _stream(_choice("a", "length"), _choice("", "stop")))


def test_line_over_the_limit() -> None:
    """A stream with a line over the limit is refused."""
    strict = OpenAICompletions(sse_line_bytes_max=60)
    with pytest.raises(DialectError) as caught:
        strict.settle(
            COMPLETIONS.question(Mode.STREAM), COMPLETIONS.captured(Mode.STREAM, STREAM["text"]), tool_calls=True
        )
    assert Reason.ANSWER_NOT_UNDERSTOOD == caught.value.reason


# Turned.


def _as_stream(body: bytes, *, usage: bool) -> bytes | None:
    asked = COMPLETIONS.question(Mode.STREAM, stream_options={"include_usage": usage})
    replay = COMPLETIONS.replay(asked, Mode.JSON, body)
    return None if replay is None else replay.body


def test_usage_chunk_only_if_asked() -> None:
    """The usage is the last chunk for who asked for it, and appears nowhere for who did not."""
    *others, last = _objects(_as_stream(JSON["text"], usage=True))
    assert ([], json.loads(JSON["text"])["usage"]) == (last["choices"], last["usage"])
    assert {None} == {chunk["usage"] for chunk in others}
    without = _objects(_as_stream(JSON["text"], usage=False))
    assert len(others) == len(without)
    assert not any("usage" in chunk for chunk in without)


def test_usage_lacking() -> None:
    """A JSON answer without usage answers no one who asked for a usage chunk, and everyone else."""
    body = _answer(_choice("a"), usage=None)
    assert _as_stream(body, usage=True) is None
    assert 2 == len(_objects(_as_stream(body, usage=False)))
    assert COMPLETIONS.turned(Mode.JSON, STREAM["text"]) is None


def test_stream_in_order() -> None:
    """Choice by choice the text comes with its log probabilities, the finish last; all chunks are of one answer."""
    chunks = _objects(_as_stream(JSON["logprobs"], usage=False))
    first, last = [chunk["choices"][0] for chunk in chunks]  # type: ignore[index]  # parsed JSON
    expected = json.loads(JSON["logprobs"])["choices"][0]
    assert expected | {"finish_reason": None} == first
    assert {"index": 0, "text": "", "logprobs": None, "finish_reason": "stop"} == last
    assert {("cmpl-B7a", "text_completion")} == {(chunk["id"], chunk["object"]) for chunk in chunks}


def test_lists_and_objects_once() -> None:
    """Filter results of the prompt stand in the first chunk alone."""
    first, *others = _objects(_as_stream(JSON["azure"], usage=False))
    assert json.loads(JSON["azure"])["prompt_filter_results"] == first["prompt_filter_results"]
    assert not any("prompt_filter_results" in chunk for chunk in others)


def test_long_text_in_pieces() -> None:
    """Long texts travel in lines that fit a buffer of 64 KiB, and arrive unchanged."""
    answer = {"choices": [_choice("\0🌍é" * 10_000, logprobs=None)], "usage": USAGE}
    stream = _as_stream(json.dumps(answer).encode(), usage=True)
    assert stream is not None
    assert max(map(len, stream.splitlines())) < 65_536
    back = COMPLETIONS.turned(Mode.JSON, stream)
    assert back is not None
    assert answer == json.loads(back)


def test_long_stream_is_not_merged() -> None:
    """A stream over 256 KiB is a miss for a JSON question; one just below it is merged."""
    for size, answered in ((256 * 1024, True), (256 * 1024 + 1, False)):
        padding = b":" + b"." * (size - len(STREAM["text_usage"]) - 2) + b"\n"
        assert answered is (COMPLETIONS.turned(Mode.JSON, padding + STREAM["text_usage"]) is not None)


@pytest.mark.parametrize(
    "choices",
    [
        pytest.param([_choice("a", None, deep=DEEP), _choice("b", deep=DEEP)], id="deep members to compare"),
        pytest.param([_choice("a", None, seed=1), _choice("b", seed=2)], id="a member contradicts itself"),
        pytest.param([_choice("a", None), _choice(["b"])], id="a text goes on as a list"),
        pytest.param(
            [_choice("a", None, logprobs={"x": [1]}), _choice("b", logprobs={"x": [2]})], id="unknown logprobs"
        ),
    ],
)
def test_not_merged(choices: list[dict[str, object]]) -> None:
    """A member without a rule for it is not guessed at."""
    assert COMPLETIONS.turned(Mode.JSON, _stream(*choices)) is None


@pytest.mark.parametrize("text", [None, 3, ["a"]])
def test_not_split(text: object) -> None:
    """A JSON answer that cannot be written in pieces is a miss for who asked for a stream."""
    assert _as_stream(_answer(_choice(text)), usage=True) is None
    assert _as_stream(_answer(_choice("a", deep=DEEP)), usage=True) is None


# Wishes.


@pytest.mark.parametrize("asked", [Mode.JSON, Mode.STREAM])
@pytest.mark.parametrize("came", [Mode.JSON, Mode.STREAM])
def test_wishes(came: Mode, asked: Mode) -> None:
    """Zero usage and fresh ids, whichever mode came: all of it, the same everywhere, and nothing else is changed."""
    name = "text" if came is Mode.JSON else "text_usage"
    question = COMPLETIONS.question(asked, stream_options={"include_usage": True})
    body = COMPLETIONS.kept[came][name]
    plain = COMPLETIONS.replay(question, came, body)
    replay = COMPLETIONS.replay(question, came, body, Replaying(usage="zero", ids="fresh"))
    assert plain is not None
    assert replay is not None
    before, after = [[json.loads(each.body)] if asked is Mode.JSON else _objects(each.body) for each in (plain, replay)]
    fresh = {"id": ID, "created": int(NOW_S)}
    zero = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    assert [one | fresh | ({"usage": zero} if one.get("usage") else {}) for one in before] == after
    assert plain.content_type == replay.content_type
