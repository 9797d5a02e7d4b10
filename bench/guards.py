"""What the guards and the decision rule serve, right and wrong: `python -m bench.guards [--model use-multilingual-v3]`.

The pairs: those of the package fow-cache (Mabon ap Gwyn, CC BY 4.0), and our own, whose odd rows nobody looked at when
the lists were corrected. Shares are of the pairs that should be served and of the traps, with 95 % Wilson intervals.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from ai_cache_extproc.cache.guards import chinese, english, reading, rule
from ai_cache_extproc.cache.guards.classes import CLASSES, classify, vetoed_by
from ai_cache_extproc.cache.guards.reading import plain, read
from ai_cache_extproc.cache.guards.rule import Mode, decide
from ai_cache_extproc.config.embedders import EmbeddedEmbedder
from ai_cache_extproc.embedders import open_embedder
from bench.table import table

FIXTURES = Path(__file__).resolve().parent.parent / "tests/fixtures/semantic"
Z_95 = 1.959964
SHIFTS = (0.01, 0.005, -0.005, -0.015, -0.02)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two questions, whether they have one answer, what kind of pair they are, and how alike the model finds them."""

    asked: str
    stored: str
    is_same: bool
    kind: str
    similarity: float


Row = tuple[str, str, bool, str]
Decision = Callable[[Pair], bool]


def fow() -> list[Row]:
    """The 600 pairs of fow-cache."""
    lines = files("fow_cache").joinpath("data/pairs.jsonl").read_text(encoding="utf-8").splitlines()
    pairs = [json.loads(line) for line in lines]
    return [(pair["a"], pair["b"], pair["same_answer"], pair["category"]) for pair in pairs]


def ours(language: str, half: int) -> list[Row]:
    """Our pairs: half 0 is the one that may be looked at, half 1 the odd rows, held out."""
    lines = (FIXTURES / f"pairs_{language}.tsv").read_text(encoding="utf-8").splitlines()[1:]
    rows = [line.split("\t") for place, line in enumerate(lines, 1) if place % 2 == half]
    return [(asked, stored, label == "same", kind) for label, kind, asked, stored in rows]


async def embedded(sets: dict[str, list[Row]], model: str) -> tuple[dict[str, list[Pair]], float]:
    """The pairs with their cosines, and the model's threshold."""
    section = {"type": "embedded", "model": model, "timeout_ms": 10_000, "chars_max": None}
    async with open_embedder(EmbeddedEmbedder.model_validate(section)) as embedder:
        vectors = {
            text: (await embedder.embed([text]))[0] for rows in sets.values() for row in rows for text in row[:2]
        }
        threshold = embedder.default_threshold or 1.0
    pairs = {
        name: [Pair(a, b, is_same, kind, float(vectors[a] @ vectors[b])) for a, b, is_same, kind in rows]
        for name, rows in sets.items()
    }
    return pairs, threshold


def share(served: int, of: int) -> str:
    """A percentage with its interval."""
    if not of:
        return "-"
    part = served / of
    middle = (part + Z_95**2 / (2 * of)) / (1 + Z_95**2 / of)
    reach = Z_95 * math.sqrt(part * (1 - part) / of + Z_95**2 / (4 * of * of)) / (1 + Z_95**2 / of)
    return f"{part:.1%} [{max(0.0, middle - reach):.0%}-{middle + reach:.0%}]"


def shares(pairs: Sequence[Pair], serves: Decision) -> tuple[str, str]:
    """Of the pairs that should be served, and of the traps."""
    same = [serves(pair) for pair in pairs if pair.is_same]
    traps = [serves(pair) for pair in pairs if not pair.is_same]
    return share(sum(same), len(same)), share(sum(traps), len(traps))


def deciders(threshold: float) -> dict[str, Decision]:
    """By name, what serves a pair."""

    def plainly(pair: Pair, over: float) -> bool:
        return pair.similarity >= over and vetoed_by(read(plain(pair.asked)), read(plain(pair.stored))) is None

    def by_rule(pair: Pair, mode: Mode, shift: float) -> bool:
        return decide(pair.asked, pair.stored, pair.similarity, threshold=threshold, mode=mode, shift=shift).serve

    found: dict[str, Decision] = {
        f"threshold {threshold:g} alone": lambda pair: pair.similarity >= threshold,
        f"threshold {threshold:g} with the guards": lambda pair: plainly(pair, threshold),
    }
    for mode in Mode:
        found[str(mode)] = lambda pair, mode=mode: by_rule(pair, mode, 0.0)  # type: ignore[misc]  # bound here
    for shift in SHIFTS:
        found[f"balanced, shift {shift:+g}"] = lambda pair, shift=shift: by_rule(pair, Mode.BALANCED, shift)  # type: ignore[misc]  # bound here
    return found


def by_class(pairs: Iterable[Pair], threshold: float) -> list[list[str]]:
    """What each class holds and what of it `balanced` serves."""
    groups: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        groups[classify(pair.asked, pair.stored).name].append(pair)
    serves = deciders(threshold)[Mode.BALANCED]
    rows = []
    for name in CLASSES:
        same = [serves(pair) for pair in groups[name] if pair.is_same]
        traps = [serves(pair) for pair in groups[name] if not pair.is_same]
        rows.append([name, f"{sum(same)} of {len(same)}", f"{sum(traps)} of {len(traps)}"])
    return rows


def by_kind(pairs: Sequence[Pair], threshold: float) -> list[list[str]]:
    """What is served of each kind of pair."""
    found = deciders(threshold)
    rows = []
    for kind in dict.fromkeys(pair.kind for pair in pairs):
        group = [pair for pair in pairs if pair.kind == kind]
        served = (f"{sum(found[name](pair) for pair in group)} of {len(group)}" for name in (*Mode,))
        rows.append([kind, *served])
    return rows


def forget() -> None:
    """Forget everything that is remembered of texts and words."""
    rule._classified.cache_clear()  # noqa: SLF001  # measured cold
    reading.read.cache_clear()
    for remembered in (english.stem, english.english_keys, chinese.chinese_keys):
        remembered.cache_clear()


def costs(pairs: Sequence[Pair]) -> list[str]:
    """Microseconds per pair: texts never seen, then texts that were read before, mean and the 99th percentile."""
    forget()
    figures = []
    for _ in range(2):
        took_us = []
        for pair in pairs:
            rule._classified.cache_clear()  # noqa: SLF001  # the pair is new, its texts may be known
            began_s = time.perf_counter()
            decide(pair.asked, pair.stored, pair.similarity, threshold=0.97, mode=Mode.STRICT)
            took_us.append((time.perf_counter() - began_s) * 1e6)
        took_us.sort()
        figures += [f"{sum(took_us) / len(took_us):.0f}", f"{took_us[int(len(took_us) * 0.99)]:.0f}"]
    return figures


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="e5-small-q4")
    parser.add_argument("--served-traps", action="store_true", help="list them, of the half that may be looked at")
    arguments = parser.parse_args()
    sets = {"fow-cache": fow()}
    for language in ("en", "zh"):
        sets |= {f"{language}, seen half": ours(language, 0), f"{language}, held out": ours(language, 1)}
    pairs, threshold = asyncio.run(embedded(sets, arguments.model))
    for name, group in pairs.items():
        print(f"\n{name} ({arguments.model}, {len(group)} pairs)\n")
        rows = [[decider, *shares(group, serves)] for decider, serves in deciders(threshold).items()]
        print(table(("", "should be served", "traps served"), rows))
        print("\n" + table(("served of kind", *Mode), by_kind(group, threshold)))
        print("\n" + table(("class, `balanced`", "should be served", "traps"), by_class(group, threshold)))
        if arguments.served_traps and "held" not in name:
            listed(group, threshold)
    print("\n" + table(("us per pair", "mean, new", "p99, new", "mean, read before", "p99"), [
        [name, *costs(group)] for name, group in pairs.items()
    ]))  # fmt: skip


def listed(pairs: Iterable[Pair], threshold: float) -> None:
    """Print what `loose` decides wrongly."""
    for pair in pairs:
        verdict = decide(pair.asked, pair.stored, pair.similarity, threshold=threshold, mode=Mode.LOOSE)
        if verdict.serve != pair.is_same:
            word = "trap served" if verdict.serve else "missed"
            print(f"{word} {verdict.klass} {verdict.guard} {pair.similarity:.3f} {pair.asked} | {pair.stored}")


if __name__ == "__main__":
    main()
