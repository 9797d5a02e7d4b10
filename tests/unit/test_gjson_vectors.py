"""Our GJSON against the answers of the Go original in tests/fixtures/gjson/."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest

from ai_cache_extproc.paths import compile_path
from tests.support.paths import value_of

FOLDER = Path(__file__).parents[1] / "fixtures" / "gjson"
DOCUMENTS: dict[str, str] = json.loads((FOLDER / "documents.json").read_text())
REPEATED_KEYS = "dup"


@dataclass(frozen=True, slots=True)
class Vector:
    """A path on one of the documents, and what the original answers."""

    doc: str
    path: str
    exists: bool
    string: str
    type: str

    @property
    def document(self) -> str:
        """The text of its document."""
        return DOCUMENTS[self.doc]


VECTORS = [Vector(**json.loads(line)) for line in (FOLDER / "vectors.jsonl").read_text().splitlines()]
every_vector = pytest.mark.parametrize("vector", VECTORS, ids=[f"{vector.path} in {vector.doc}" for vector in VECTORS])


@every_vector
def test_string(vector: Vector) -> None:
    """A path finds what the original finds, in the text and with the parsed tree."""
    compiled = compile_path(vector.path)
    tree = None if vector.doc == REPEATED_KEYS else orjson.loads(vector.document)
    for found in (compiled.find(vector.document), compiled.find(vector.document.encode(), tree)):
        assert (vector.exists, vector.string) == (found is not None, found.string if found else "")


@every_vector
def test_type(vector: Vector) -> None:
    """What is found has the type that it has in the original."""
    assert vector.type == value_of(vector.path, vector.document).kind.value
