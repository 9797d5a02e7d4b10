"""Refuses tracked text that names one machine: a path of its file system, or where its packages came from."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

from tools.tracked import ROOT, tracked

FORBIDDEN = {
    "a path of one machine": re.compile(r"(?<![\w.])/(?:work|root|Users)/|(?<![\w.])/home/(?!nonroot\b|aicache\b)\w"),
    "an address of a package index": re.compile(r"\bpy(?:pi|thonhosted)\.|\bnpm(?:js|mirror)\.|\bproxy\.golang\."),
    "an option that chooses a package index": re.compile(
        r"^\s*--(?:extra-)?index-url|^\s*--(?:find-links|trusted-host)"
    ),
    "a file address": re.compile(r"\bfile:///?\w"),
}


def faults_in(text: str, name: str) -> Iterator[str]:
    """What one file should not say, as lines that an editor can jump to."""
    for number, line in enumerate(text.splitlines(), start=1):
        for what, pattern in FORBIDDEN.items():
            if found := pattern.search(line):
                yield f"{name}:{number}: {what}: {found.group()!r}"


def main() -> int:
    """Print every fault; 1 if there is any."""
    faults: list[str] = []
    paths = tracked()
    for path in paths:
        name = str(path.relative_to(ROOT))
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        faults.extend(faults_in(text, name))
    print("\n".join(faults) if faults else f"tree: {len(paths)} files name no machine")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
