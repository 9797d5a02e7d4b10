"""OpenAI embeddings: which requests are questions, which answers may be kept, and what a rule wants changed."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from ai_cache_extproc.config.rules import Replaying
from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.model import Mode, Question, Reason, ResponseHead
from tests.support import openai_more_sdk as sdk
from tests.support.openai_more_answers import EMBEDDINGS, NOW_S, Asked

JSON, REFUSED = EMBEDDINGS.kept[Mode.JSON], EMBEDDINGS.refused[Mode.JSON]
BODY: dict[str, object] = {"model": "embed", "input": "one"}
REASONS = {
    "error": Reason.IN_BAND_ERROR,
    "fewer": Reason.CUT,
    "twice_the_same": Reason.CUT,
    "empty_vector": Reason.EMPTY_ANSWER,
    "empty_text": Reason.EMPTY_ANSWER,
    "null_vector": Reason.EMPTY_ANSWER,
    "not_numbers": Reason.ANSWER_NOT_UNDERSTOOD,
    "object_vector": Reason.ANSWER_NOT_UNDERSTOOD,
}


def read(body: dict[str, object]) -> Question:
    """Read a body."""
    return EMBEDDINGS.read(Asked("/v1/embeddings", body))


def test_plain_question() -> None:
    """A body with model and input is a question for JSON; how to encode the vectors stays in the body."""
    body = BODY | {"encoding_format": "base64", "dimensions": 256, "stream": False}
    assert asdict(Question("openai_embeddings", "embed", Mode.JSON, body)) == asdict(read(body))


@pytest.mark.parametrize(
    ("inputs", "count"),
    [
        pytest.param("one", 1, id="text"),
        pytest.param(["one"], 1, id="list of one"),
        pytest.param(["one", "two", "https://example.org"], 3, id="texts"),
        pytest.param([3, 5], 1, id="tokens"),
        pytest.param([[3, 5], [7]], 2, id="tokens of two"),
        pytest.param([{"text": "one"}, {"image": "data:image/png;base64,iVBO"}], 2, id="objects"),
        pytest.param(["one", {"image": "iVBORw0KGgo="}], 2, id="text and object"),
    ],
)
def test_inputs(inputs: object, count: int) -> None:
    """Every input asks for a vector."""
    assert count == read(BODY | {"input": inputs}).choices


@pytest.mark.parametrize(
    "members",
    [
        pytest.param({"input": None}, id="null"),
        pytest.param({"input": []}, id="no inputs"),
        pytest.param({"input": 3}, id="number"),
        pytest.param({"input": ["one", 3]}, id="text and token"),
        pytest.param({"input": [[]]}, id="no tokens"),
        pytest.param({"input": [{"text": "one"}, 3]}, id="object and token"),
        pytest.param({"stream": True}, id="streamed"),
        pytest.param({"model": 1}, id="model is a number"),
    ],
)
def test_not_understood(members: dict[str, object]) -> None:
    """A body of another shape is bypassed as not understood."""
    with pytest.raises(DialectError) as caught:
        read(BODY | members)
    assert Reason.NOT_UNDERSTOOD == caught.value.reason


def test_remote_media() -> None:
    """Images that the upstream would fetch may change."""
    with pytest.raises(DialectError) as caught:
        read(BODY | {"input": [{"image": "https://example.org/a.png"}]})
    assert Reason.REMOTE_MEDIA == caught.value.reason


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    """Every bad shape is refused with its word."""
    with pytest.raises(DialectError) as caught:
        EMBEDDINGS.settle(Mode.JSON, REFUSED[name], name)
    assert REASONS[name] == caught.value.reason


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"data": [1]}', b'{"data": [{"embedding": [1]}]}'])
def test_answer_not_understood(body: bytes) -> None:
    """What holds no vectors is refused."""
    with pytest.raises(DialectError) as caught:
        EMBEDDINGS.settle(Mode.JSON, body)
    assert Reason.ANSWER_NOT_UNDERSTOOD == caught.value.reason


def test_more_vectors_than_inputs() -> None:
    """An answer to another question is refused."""
    with pytest.raises(DialectError) as caught:
        EMBEDDINGS.settle(Mode.JSON, JSON["two_inputs"])
    assert Reason.CUT == caught.value.reason


def test_event_stream() -> None:
    """Embeddings are never streamed."""
    with pytest.raises(DialectError) as caught:
        EMBEDDINGS.dialect.capture(read(BODY), ResponseHead(200, {"content-type": "text/event-stream"}))
    assert Reason.CONTENT_TYPE == caught.value.reason


@pytest.mark.parametrize("name", JSON)
def test_as_the_sdk_reads_them(name: str) -> None:
    """The SDK holds the same vectors, base64 ones too, after a replay with other counts."""
    asked = EMBEDDINGS.question(Mode.JSON, name)
    replay = EMBEDDINGS.replay(asked, Mode.JSON, JSON[name], Replaying(usage="zero"))
    assert replay is not None
    came, replayed = [sdk.embeddings(("application/json", body)) for body in (JSON[name], replay.body)]
    assert isinstance(came, dict)
    assert isinstance(replayed, dict)
    assert {0, None} >= set(replayed.pop("usage").values())
    came.pop("usage")
    assert came == replayed


def test_wishes() -> None:
    """Zero counts, and an id and a time of its own for hosts that send one."""
    replay = EMBEDDINGS.replay(read(BODY), Mode.JSON, JSON["vllm"], Replaying(usage="zero", ids="fresh"))
    assert replay is not None
    zero = {"prompt_tokens": 0, "total_tokens": 0, "completion_tokens": 0, "prompt_tokens_details": None}
    fresh = {"id": "embd-abcdefghijklmnopqrstuvwxyzABC", "created": int(NOW_S), "usage": zero}
    assert json.loads(JSON["vllm"]) | fresh == json.loads(replay.body)


def test_nothing_to_change() -> None:
    """OpenAI's own embeddings have no id: the bytes stay as they came."""
    replay = EMBEDDINGS.replay(read(BODY), Mode.JSON, JSON["floats"], Replaying(ids="fresh"))
    assert replay is not None
    assert JSON["floats"] == replay.body
