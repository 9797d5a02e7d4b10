"""`aicache path`: what a path finds in a JSON document, one at a time or line by line. No network."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from ai_cache_extproc.errors import AICacheError
from ai_cache_extproc.paths import JSONPATH_NODES_MAX, STEPS_MAX, Found, compile_path

STDIN = "-"
PATIENCE = 100
"""How many times more than in the sidecar a path may cost here, where no request waits for it."""

_HALF_A_PAIR = re.compile("[\ud800-\udfff]")


class NothingFound(AICacheError):
    """The path leads nowhere in this document."""


def path(
    expression: Annotated[
        str | None, typer.Argument(metavar="EXPR", help="GJSON; JSONPath if it begins with $.")
    ] = None,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A JSON document; - for stdin.")] = STDIN,
    *,
    batch: Annotated[
        bool,
        typer.Option(
            "--batch", help='Read lines {"json": "...", "path": "..."}, write {"exists": bool, "string": "..."}.'
        ),
    ] = False,
) -> None:
    """Print what a path finds in a JSON document, as the sidecar would use it.

    Exit code 1 if it finds nothing; with --batch, if a line could not be answered.

    Example: aicache path 'messages.@reverse.0.content' body.json
    """
    if batch:
        if expression is not None:
            raise typer.BadParameter("takes no EXPR; each line brings its own", param_hint="--batch")
        _answer_lines(sys.stdin.buffer)
        return
    if expression is None:
        raise typer.BadParameter("is missing; give a path, or --batch", param_hint="EXPR")
    found = _find(expression, _document(file))
    if found is None:
        raise NothingFound(f"{expression!r} finds nothing in {'standard input' if file == STDIN else file}")
    typer.echo(found.string)


def _find(expression: str, document: bytes) -> Found | None:
    patient = compile_path(expression, steps_max=STEPS_MAX * PATIENCE, jsonpath_nodes_max=JSONPATH_NODES_MAX * PATIENCE)
    return patient.find(document)


def _document(file: str) -> bytes:
    if file == STDIN:
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}", param_hint="FILE") from error


def _answer_lines(lines: Iterable[bytes]) -> None:
    good = True
    for answer in map(_answer, lines):
        good = good and "error" not in answer
        typer.echo(json.dumps(answer, ensure_ascii=False))
    if not good:
        raise typer.Exit(1)


def _answer(line: bytes) -> dict[str, object]:
    """What is found, for one line; a member `error` where the line is not understood, or its path refused."""
    try:
        asked = json.loads(line)
        document, expression = asked["json"], asked["path"]
        # Half of a surrogate pair cannot be written; Go reads it as U+FFFD.
        found = _find(_HALF_A_PAIR.sub("\ufffd", expression), _HALF_A_PAIR.sub("\ufffd", document).encode())
    except (AICacheError, ValueError, LookupError, TypeError, RecursionError) as error:
        return {"exists": False, "string": "", "error": str(error) or type(error).__name__}
    return {"exists": found is not None, "string": "" if found is None else found.string}
