"""The tables of docs/semantic.md, made of the figures that `python -m bench.semantic` left."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ai_cache_extproc.cache.guards.rule import Mode
from ai_cache_extproc.telemetry.share import Share
from bench.table import table

ROOT = Path(__file__).resolve().parent.parent
FIGURES = ROOT / "bench" / "semantic.json"
DOCUMENT = ROOT / "docs" / "semantic.md"
BEGIN = "<!-- Written by `python -m bench.semantic --write-docs`; what stands between these two lines is replaced. -->"
END = "<!-- Here it ends. -->"

FOW_NAME = "fow-cache"
LANGUAGES = {"en": "English", "zh": "Chinese"}
HALVES = ("held out", "seen")
SAME_KINDS = ("near_repeat", "paraphrase")


def markdown(figures: Mapping[str, Any]) -> str:
    """fow-cache first, then our pairs by half, then by kind, then conversations."""
    parts = [_sets(figures), _kinds(figures), _conversations(figures), _origin(figures)]
    return "\n\n".join(part for part in parts if part)


def block() -> str:
    """What stands in the document."""
    return DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0].strip()


def write_document(text: str) -> None:
    """Put `text` in its place in the document."""
    document = DOCUMENT.read_text(encoding="utf-8")
    before, _, rest = document.partition(BEGIN)
    after = rest.partition(END)[2]
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def _sets(figures: Mapping[str, Any]) -> str:
    parts = []
    for model, measured in figures["models"].items():
        threshold = measured["threshold"]
        names = {
            "alone": f"threshold {threshold:g} alone",
            "guards": f"threshold {threshold:g} with the guards",
            **{str(mode): f"`{mode}`" for mode in Mode},
        }
        columns = list(measured["sets"])
        rows = [
            [shown, *(_served(measured["sets"][column][name]) for column in columns)] for name, shown in names.items()
        ]
        header = (f"`{model}`", *(_column(column, measured["sets"][column]["alone"]) for column in columns))
        parts.append(table(header, rows))
    return "\n\n".join(parts)


def _column(name: str, counts: list[int]) -> str:
    language, _, half = name.partition(" ")
    shown = f"{LANGUAGES[language]}, {half}" if language in LANGUAGES else name
    return f"{shown} ({counts[1]} / {counts[3]})"


def _served(counts: list[int]) -> str:
    hits, same, wrong, others = counts
    return f"{Share(hits, same)} / {Share(wrong, others)}"


def _kinds(figures: Mapping[str, Any]) -> str:
    """Of the first model: what each mode serves of each kind of trap."""
    kinds = next(iter(figures["models"].values()))["kinds"]
    columns = [FOW_NAME, *(f"{language} {half}" for language in LANGUAGES for half in HALVES)]
    names = dict.fromkeys(kind for column in columns for kind in kinds[column])
    rows = []
    for is_trap in (False, True):
        for kind in names:
            if (kind in SAME_KINDS) is not is_trap:
                label = f"trap: {kind}" if is_trap else kind
                rows.append([label.replace("_", " "), *(_modes(kinds[column].get(kind)) for column in columns)])
    header = ["served, of so many, by " + ", ".join(f"`{mode}`" for mode in Mode), *map(_titled, columns)]
    return table(header, rows)


def _titled(column: str) -> str:
    language, _, half = column.partition(" ")
    return f"{LANGUAGES[language]}, {half}" if language in LANGUAGES else column


def _modes(counts: list[int] | None) -> str:
    if counts is None:
        return ""
    of, *served = counts
    return f"{', '.join(map(str, served))} of {of}"


def _conversations(figures: Mapping[str, Any]) -> str:
    rows = []
    for name, (hits, same, wrong, others) in figures["conversations"].items():
        rows.append([name, f"{Share(hits, same)}", f"{Share(wrong, others)}"])
    first = next(iter(figures["conversations"].values()))
    header = (
        "`strict`, conversations of fow-cache",
        f"of one meaning ({first[1]})",
        f"traps ({first[3]})",
    )
    return table(header, rows)


def _origin(figures: Mapping[str, Any]) -> str:
    packages = " and ".join(measured["package"] for measured in figures["models"].values())
    return f"Measured {figures['date']} with {packages}."
