"""OpenAI completions: which requests are questions, and which are bypassed with what word."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.model import Mode, Question, Reason
from tests.support.openai_more_answers import COMPLETIONS, Asked

BODY: dict[str, object] = {"model": "gpt", "prompt": "A star is"}


def read(body: dict[str, object]) -> Question:
    """Read a body."""
    return COMPLETIONS.read(Asked("/v1/completions", body))


def test_plain_question() -> None:
    """A body with model and prompt is a question for one JSON answer."""
    assert asdict(Question("openai_completions", "gpt", Mode.JSON, BODY)) == asdict(read(BODY))


def test_full_question() -> None:
    """Stream, number of choices and the wish for a usage chunk are read; all else stays in the body."""
    said = {"suffix": "!", "echo": True, "logprobs": 2, "best_of": 3, "max_tokens": 9}
    body = BODY | {"stream": True, "n": 3, "stream_options": {"include_usage": True}} | said
    expected = Question("openai_completions", "gpt", Mode.STREAM, body, choices=3, usage_chunk=True)
    assert asdict(expected) == asdict(read(body))


@pytest.mark.parametrize(
    ("prompt", "choices"),
    [
        pytest.param("", 1, id="empty text"),
        pytest.param(["A star is"], 1, id="one text"),
        pytest.param(["A star is", "A moon is"], 2, id="two texts"),
        pytest.param([464, 3491, 318], 1, id="tokens"),
        pytest.param([[464, 3491], [464]], 2, id="tokens of two"),
    ],
)
def test_prompts(prompt: object, choices: int) -> None:
    """Every prompt asks for choices of its own."""
    assert choices == read(BODY | {"prompt": prompt}).choices
    assert 2 * choices == read(BODY | {"prompt": prompt, "n": 2}).choices


def test_question_without_model() -> None:
    """Azure names the model in the path."""
    assert "" == read({"prompt": "A star is"}).model


@pytest.mark.parametrize(
    "members",
    [
        pytest.param({"prompt": None}, id="null prompt"),
        pytest.param({"prompt": []}, id="no prompt"),
        pytest.param({"prompt": 3}, id="number"),
        pytest.param({"prompt": {"text": "A"}}, id="object"),
        pytest.param({"prompt": ["A", 3]}, id="text and token"),
        pytest.param({"prompt": [True]}, id="flag"),
        pytest.param({"prompt": [[1], []]}, id="no tokens"),
        pytest.param({"prompt": [["A"]]}, id="texts in a list of lists"),
        pytest.param({"model": None}, id="null model"),
        pytest.param({"stream": 1}, id="stream is a number"),
        pytest.param({"n": 0}, id="no choices"),
        pytest.param({"stream_options": []}, id="options are a list"),
    ],
)
def test_not_understood(members: dict[str, object]) -> None:
    """A body of another shape is bypassed as not understood."""
    with pytest.raises(DialectError) as caught:
        read(BODY | members)
    assert Reason.NOT_UNDERSTOOD == caught.value.reason


def test_chat_at_the_wrong_path() -> None:
    """Messages are no prompt."""
    with pytest.raises(DialectError) as caught:
        read({"model": "gpt", "messages": [{"role": "user", "content": "Why?"}]})
    assert Reason.NOT_UNDERSTOOD == caught.value.reason


def test_side_effects() -> None:
    """What makes the upstream act is bypassed."""
    with pytest.raises(DialectError) as caught:
        read(BODY | {"store": True})
    assert Reason.SIDE_EFFECT == caught.value.reason
