"""Header fields as options of a command, or as lines of a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer


def fields_of(given: Sequence[str], option: str) -> dict[str, str]:
    """Names in lower case, repeated fields joined, as Envoy shows them. option: where they were given."""
    own: dict[str, str] = {}
    for field in given:
        name, colon, value = field.partition(":")
        name = name.strip().lower()
        if not colon or not name:
            raise typer.BadParameter(f"{name or field!r} has no colon; write 'name: value'", param_hint=option)
        own[name] = f"{own[name]}, {value.strip()}" if name in own else value.strip()
    return own


def fields_in(file: Path, option: str) -> dict[str, str]:
    """One field on each line: what should not stand on a command line, where other users of the machine see it."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not text"
        raise typer.BadParameter(f"{file}: {reason}", param_hint=option) from error
    for number, line in enumerate(lines, 1):
        # The line may be a secret: it is named by its number.
        if line.strip() and not line.partition(":")[1]:
            raise typer.BadParameter(f"{file}, line {number}: has no colon; write 'name: value'", param_hint=option)
    return fields_of([line for line in lines if line.strip()], option)
