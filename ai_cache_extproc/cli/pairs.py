"""Labelled pairs of questions for `aicache calibrate`: ours, those of a package, or a person's own file."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from ai_cache_extproc.cache.guards.classes import CLASSES, Classed
from ai_cache_extproc.errors import AICacheError

OURS: Final = ("en", "zh")
FOW: Final = "fow-cache"
BUILT_IN: Final = (*OURS, FOW)
LINE_CHARS_MAX: Final = 20_000
LABELS: Final[Mapping[str, bool]] = {"same": True, "1": True, "different": False, "0": False}
VERDICTS: Final[Mapping[str, bool | None]] = {"same": True, "alike": True, "different": False, "unsure": None}
"""What shadow mode says of two answers: whether the questions had one answer; None for what it does not know."""
_FAULTS_SHOWN: Final = 5
T = TypeVar("T")
_LANGUAGES: Final = ("en", "zh", "other")


class BadPairs(AICacheError):
    """Pairs that cannot be read; a line for each fault, with its place and the way out."""


class Pair(NamedTuple):
    """Two questions, and whether one answer is right for both. kind: what sort of pair it is, in a word or empty."""

    asked: str
    stored: str
    is_same: bool
    kind: str


class Sample(NamedTuple):
    """How alike the embedder finds two questions, how they differ, and whether one answer is right for both."""

    similarity: float
    is_same: bool
    classed: Classed
    kind: str = ""


class Labelled(NamedTuple):
    """What was read: pairs, which are still to be embedded, and samples, which are not. unsure: left out."""

    pairs: Sequence[Pair]
    samples: Sequence[Sample]
    unsure: int


def read_pairs(names: Iterable[str]) -> Labelled:
    """All pairs of these sets and files. Raises BadPairs."""
    pairs: list[Pair] = []
    samples: list[Sample] = []
    unsure = 0
    for name in names:
        if name in OURS:
            pairs += ours(name)
        elif name == FOW:
            pairs += fow()
        elif _is_json(text := _text_of(Path(name))):
            read = _read(text, name, _sample)
            samples += [sample for sample in read if sample is not None]
            unsure += read.count(None)
        else:
            pairs += _read(text, name, _pair)
    if not pairs and not samples:
        raise BadPairs("there are no labelled pairs in " + ", ".join(names))
    return Labelled(pairs, samples, unsure)


def ours(language: str) -> list[Pair]:
    """The pairs that come with us. Every other one, beginning with the first, was not looked at for the word lists."""
    name = f"pairs_{language}.tsv"
    text = files("ai_cache_extproc.cli").joinpath(name).read_text(encoding="utf-8")
    return _read(text, name, _pair)


def fow() -> list[Pair]:
    """The 600 English pairs of the package fow-cache (Mabon ap Gwyn, CC BY 4.0). Raises BadPairs where it is missing."""
    if find_spec("fow_cache") is None:
        raise BadPairs(f"the package {FOW} is missing; pip install {FOW}==0.1.0")
    text = files("fow_cache").joinpath("data/pairs.jsonl").read_text(encoding="utf-8")
    return [Pair(row["a"], row["b"], row["same_answer"], row["category"]) for row in map(json.loads, text.splitlines())]


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadPairs(f"{path}: is no UTF-8 (byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        reason = f"{path}: cannot be read ({error.strerror}); --pairs takes {', '.join(BUILT_IN)} or a file"
        raise BadPairs(reason) from error


def _is_json(text: str) -> bool:
    return text.lstrip().startswith("{")


def _read(text: str, name: str, read: Callable[[str], T]) -> list[T]:
    """Each line that says something. Raises BadPairs with the first few that cannot be read, by number."""
    found: list[T] = []
    faults: list[str] = []
    for number, line in _lines(text):
        try:
            if len(line) > LINE_CHARS_MAX:
                raise ValueError(
                    f"has {len(line)} characters, at most {LINE_CHARS_MAX} are read; shorten its questions"
                )
            found.append(read(line))
        except ValueError as error:
            faults.append(f"{name}:{number}: {error}")
    if faults:
        others = [f"{name}: and {len(faults) - _FAULTS_SHOWN} more"] if len(faults) > _FAULTS_SHOWN else []
        raise BadPairs("\n".join(faults[:_FAULTS_SHOWN] + others))
    return found


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Without empty lines, comments and the line that names the columns. A line ends with a line feed and nothing else."""
    for number, line in enumerate(re.split(r"\r?\n", text), start=1):
        if line.strip() and not line.startswith("#") and not (number == 1 and line.startswith("label\t")):
            yield number, line


def _pair(line: str) -> Pair:
    columns = [column.strip() for column in line.split("\t")]
    if len(columns) not in {3, 4}:
        raise ValueError(
            f"has {len(columns)} columns; write LABEL, QUESTION, QUESTION and if you like a KIND, with a tab between them"
        )
    label, asked, stored, *kind = columns
    if label not in LABELS:
        raise ValueError(f'"{label[:40]}" is no label; write same or different')
    if not asked or not stored:
        raise ValueError("lacks a question; write both")
    return Pair(asked, stored, LABELS[label], kind[0] if kind else "")


def _sample(line: str) -> Sample | None:
    """A line of shadow mode; None for one that it is not sure of."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        reason = 'is no JSON object; write {"similarity": 0.97, "verdict": "same", "class": "R"} on a line'
        raise ValueError(reason)  # noqa: TRY004 - of a line, not of an argument
    similarity, verdict = row.get("similarity"), row.get("verdict")
    klass, language = row.get("class"), row.get("language", "en")
    if isinstance(similarity, bool) or not isinstance(similarity, int | float) or not -1 <= similarity <= 1:
        raise ValueError(f'"similarity" is {str(similarity)[:40]}; write the cosine, a number from -1 to 1')
    if not isinstance(verdict, str) or verdict not in VERDICTS:
        raise ValueError(f'"verdict" is {str(verdict)[:40]}; write {", ".join(VERDICTS)}')
    name = next((name for name in CLASSES if name == klass), None)
    if name is None:
        raise ValueError(f'"class" is {str(klass)[:40]}; write one of {", ".join(CLASSES)}')
    if language not in _LANGUAGES:
        raise ValueError(f'"language" is {str(language)[:40]}; write one of {", ".join(_LANGUAGES)}')
    is_same = VERDICTS[verdict]
    if is_same is None:
        return None
    classed = Classed(name, None, language, is_long=row.get("is_long") is True)
    return Sample(float(similarity), is_same, classed, "shadow")
