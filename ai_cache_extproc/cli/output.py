"""`--output`: for people, or for programs."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import orjson
import typer


class Output(StrEnum):
    """How a command prints what it found."""

    TEXT = "text"
    JSON = "json"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="For people, or for programs.")]


def print_json(document: object) -> None:
    """Print a document for programs, indented so that people can read it too."""
    typer.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
