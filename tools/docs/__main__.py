"""Writes the generated documents; `--check` fails when one differs from what is there."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from tools.docs import configuration, dashboard, phases, reference
from tools.tracked import ROOT


def documents(root: Path) -> Mapping[Path, str]:
    """Every generated document under `root`, by path."""
    docs = root / "docs"
    architecture = docs / "architecture.md"
    return {
        docs / "configuration.md": configuration.page(),
        docs / "configuration.schema.json": configuration.schema(),
        docs / "metrics.md": reference.metrics_page(),
        docs / "reasons.md": reference.reasons_page(),
        root / "deploy" / "grafana" / "aicache.json": dashboard.page(),
        architecture: phases.put_into(architecture.read_text()),
    }


def main() -> int:
    """Write what changed, or name it."""
    arguments = argparse.ArgumentParser(prog="python -m tools.docs", description=__doc__)
    arguments.add_argument("--check", action="store_true", help="change nothing; fail on a difference")
    check = arguments.parse_args().check
    stale = {path: text for path, text in documents(ROOT).items() if not path.exists() or path.read_text() != text}
    for path, text in stale.items():
        print(f"{path.relative_to(ROOT)}: {'differs from the code, run `make docs`' if check else 'written'}")
        if not check:
            path.write_text(text)
    if not stale:
        print("docs: generated documents are up to date")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
