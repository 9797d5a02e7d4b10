"""Refuses a coverage report (JSON, by `coverage json`) in which one file falls under its floor."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

FLOOR = 95.0
FLOORS = {
    "ai_cache_extproc/extproc/": 100.0,
    "ai_cache_extproc/cache/": 100.0,
    "ai_cache_extproc/keys/": 100.0,
}


def floor_of(name: str) -> float:
    """The least coverage of this file in per cent, branches included."""
    return next((floor for folder, floor in FLOORS.items() if name.startswith(folder)), FLOOR)


def faults_in(covered: Mapping[str, float]) -> Iterator[str]:
    """The files under their floor; `covered` is per cent by file name."""
    for name, per_cent in sorted(covered.items()):
        floor = floor_of(name)
        if per_cent < floor:
            yield f"{name}: {per_cent:.2f} % covered, at least {floor:g} %"


def main() -> int:
    """Print every fault; 1 if there is any."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("report", type=Path, help="what `coverage json` wrote")
    report = json.loads(arguments.parse_args().report.read_text())
    covered = {name: file["summary"]["percent_covered"] for name, file in report["files"].items()}
    faults = list(faults_in(covered))
    print("\n".join(faults) if faults else f"floors: {len(covered)} files are covered enough")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
