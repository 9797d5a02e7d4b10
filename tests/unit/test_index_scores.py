"""From every vendor's score to a cosine."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ai_cache_extproc.indexes import scores
from ai_cache_extproc.indexes.elasticsearch import Driver as Elasticsearch
from ai_cache_extproc.indexes.layout import NATIVE, NEVER_S, higress_layout

COSINES = [1.0, 0.97, 0.0, -1.0]
SCORES: dict[str, tuple[scores.ToCosine, Callable[[float], float]]] = {
    "similarity": (scores.similarity, lambda cosine: cosine),
    "distance": (scores.distance, lambda cosine: 1 - cosine),
    "halved": (scores.halved, lambda cosine: (1 + cosine) / 2),
    "euclidean": (scores.euclidean, lambda cosine: (2 - 2 * cosine) ** 0.5),
    "squared": (scores.squared_euclidean, lambda cosine: 2 - 2 * cosine),
    "negated": (scores.negated_dot, lambda cosine: -cosine),
    "dot-distance": (scores.dot_distance, lambda cosine: 1 - cosine),
    "elastic-l2": (Elasticsearch.metrics["l2_norm"], lambda cosine: 1 / (1 + 2 - 2 * cosine)),
}


@pytest.mark.parametrize("name", SCORES)
def test_a_score_becomes_a_cosine(name: str) -> None:
    """As the vendor's formula has it for unit vectors."""
    to_cosine, score = SCORES[name]
    assert COSINES == pytest.approx([to_cosine(score(cosine)) for cosine in COSINES])


FACTS = {"partition": "a", "key": "k", "created_s": 1.0, "expires_s": 5.0, "payload": '{"asked": "q"}'}


@pytest.mark.parametrize(
    "change",
    [
        {"partition": "b"},
        {"partition": None},
        {"expires_s": 2.0},
        {"expires_s": None},
        {"expires_s": "soon"},
        {"expires_s": True},
        {"expires_s": float("nan")},
        {"created_s": []},
        {"key": 7},
        {"payload": "{"},
        {"payload": "[]"},
        {"payload": 3},
    ],
    ids=lambda change: "-".join(f"{name}-{value}" for name, value in change.items()),
)
def test_a_row_that_is_not_whole_is_no_match(change: dict[str, object]) -> None:
    """Nothing of it is guessed."""
    assert NATIVE.match("1", FACTS, 1.0, partition="a", now_s=2.0) is not None
    assert NATIVE.match("1", FACTS | change, 1.0, partition="a", now_s=2.0) is None


def test_a_similarity_that_is_no_number_is_no_match() -> None:
    """And one that leaves the range by rounding is brought back."""
    assert NATIVE.match("1", FACTS, float("nan"), partition="a", now_s=2.0) is None
    found = NATIVE.match("1", FACTS, 1.0000002, partition="a", now_s=2.0)
    assert found is not None
    assert 1.0 == found.similarity


def test_text_numbers_and_the_end_of_time_are_read() -> None:
    """Stores that keep text give numbers as text."""
    found = NATIVE.match("1", FACTS | {"expires_s": str(NEVER_S), "created_s": "1.5"}, 0.5, partition="a", now_s=2.0)
    assert found is not None
    assert (float("inf"), 1.5) == (found.expires_s, found.created_s)


def test_a_point_without_its_question_is_none_of_the_plugins() -> None:
    """The payload's first part must be there."""
    layout = higress_layout("qdrant", partitioned=False)
    assert layout.match("1", {"answer": "a"}, 1.0, partition="x", now_s=0.0) is None
