"""Refuses Python files over 400 lines and functions over 70 (docstrings not counted); generated code is left out."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from tools.tracked import ROOT, tracked

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70
GENERATED = "_generated"


def faults_in(source: str, name: str) -> Iterator[str]:
    """What is too long in one file, as lines that an editor can jump to."""
    lines = len(source.splitlines())
    if lines > FILE_LINES_MAX:
        yield f"{name}:1: {lines} lines, at most {FILE_LINES_MAX}"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = _length(node)
            if length > FUNCTION_LINES_MAX:
                yield f"{name}:{node.lineno}: {node.name} has {length} lines, at most {FUNCTION_LINES_MAX}"


def _length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from `def` to the end, less the docstring."""
    length = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None:
        length -= (first.end_lineno or first.lineno) - first.lineno + 1
    return length


def main() -> int:
    """Print every fault; 1 if there is any."""
    sources: list[Path] = [path for path in tracked() if path.suffix == ".py" and GENERATED not in path.parts]
    faults = [fault for path in sources for fault in faults_in(path.read_text(), str(path.relative_to(ROOT)))]
    print("\n".join(faults) if faults else f"sizes: {len(sources)} files within limits")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
