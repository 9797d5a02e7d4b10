"""How pairs are classed, what is decided wrongly, and what it costs: `python -m bench.guards [--model M] [--wrong]`.

The pairs are those of `bench.semantic`, which says what is served of them.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence

from ai_cache_extproc.cache.guards import chinese, english, reading, rule
from ai_cache_extproc.cache.guards.classes import CLASSES
from ai_cache_extproc.cache.guards.rule import Mode, decide
from bench.semantic import MODELS, Measured, deciders, measured, sets
from bench.table import table


def by_class(group: Iterable[Measured], threshold: float) -> list[list[str]]:
    """What each class holds and what of it each mode serves."""
    by_name: dict[str, list[Measured]] = defaultdict(list)
    for each in group:
        by_name[each.classed.name].append(each)
    found = deciders(threshold)
    rows = []
    for name in CLASSES:
        row: list[str] = [name]
        for is_same in (True, False):
            members = [each for each in by_name[name] if each.pair.is_same is is_same]
            served = ", ".join(str(sum(map(found[mode], members))) for mode in Mode)
            row.append(f"{served} of {len(members)}")
        rows.append(row)
    return rows


def costs(group: Sequence[Measured]) -> list[str]:
    """Microseconds per pair: texts never seen, then texts that were read before, mean and the 99th percentile."""
    forget()
    figures = []
    for _ in range(2):
        took_us = []
        for each in group:
            rule._classified.cache_clear()  # noqa: SLF001  # the pair is new, its texts may be known
            began_s = time.perf_counter()
            decide(each.pair.asked, each.pair.stored, each.similarity, threshold=0.97, mode=Mode.STRICT)
            took_us.append((time.perf_counter() - began_s) * 1e6)
        took_us.sort()
        figures += [f"{sum(took_us) / len(took_us):.0f}", f"{took_us[int(len(took_us) * 0.99)]:.0f}"]
    return figures


def forget() -> None:
    """Forget everything that is remembered of texts and words."""
    rule._classified.cache_clear()  # noqa: SLF001  # measured cold
    reading.read.cache_clear()
    for remembered in (english.stem, english.english_keys, chinese.chinese_keys):
        remembered.cache_clear()


def wrong(group: Iterable[Measured], threshold: float) -> None:
    """Print what `loose` decides wrongly."""
    serves = deciders(threshold)[Mode.LOOSE]
    for each in group:
        if serves(each) != each.pair.is_same:
            word = "missed" if each.pair.is_same else "trap served"
            print(word, each.classed.name, each.classed.guard, f"{each.similarity:.3f}", *each.pair[:2], sep=" | ")


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m bench.guards", description=__doc__)
    parser.add_argument("--model", choices=MODELS, default=next(iter(MODELS)))
    parser.add_argument("--wrong", action="store_true", help="list it, but for the halves that are held out")
    arguments = parser.parse_args()
    found, threshold = asyncio.run(measured(sets(), arguments.model))
    for name, group in found.items():
        print(f"\n{name} ({arguments.model}, {len(group)} pairs)\n")
        header = ("class; served by " + ", ".join(Mode), "of one meaning", "others")
        print(table(header, by_class(group, threshold)))
        if arguments.wrong and "held" not in name:
            wrong(group, threshold)
    print("\n" + table(("us per pair", "mean, new", "p99, new", "mean, read before", "p99"), [
        [name, *costs(group)] for name, group in found.items()
    ]))  # fmt: skip


if __name__ == "__main__":
    main()
