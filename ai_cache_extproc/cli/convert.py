"""`aicache convert`: what a foreign document comes to, as a document of ours."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
import yaml
from pydantic import SecretStr

from ai_cache_extproc.cli.output import Output, OutputOption, print_json
from ai_cache_extproc.config.environment import PREFIX
from ai_cache_extproc.config.load import HOSTS, MASK, load
from ai_cache_extproc.config.translation import Translation
from ai_cache_extproc.errors import ConfigError

HostsOption = Annotated[
    list[str] | None,
    typer.Option("--host", metavar="NAME=HOST:PORT", help="Where a service of a Higress document is; repeatable."),
]


class Form(StrEnum):
    """Whose form a document has."""

    HIGRESS = "higress"
    APISIX = "apisix"


NAMES = {Form.HIGRESS: "Higress", Form.APISIX: "APISIX"}


class _Dumper(yaml.SafeDumper):
    """The safe dumper; text with line ends or worse stands between double quotes, the only form that keeps them."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        """One text as a node."""
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')


_Dumper.add_representer(str, _Dumper.represent_text)


def convert(
    form: Annotated[Form, typer.Argument(metavar="higress|apisix", help="Whose document FILE is.")],
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="YAML or JSON: the configuration, alone or in its WasmPlugin or route."),
    ],
    host: HostsOption = None,
    redact: Annotated[
        bool, typer.Option("--redact", help="Mask secrets. Without it the password of Redis is printed in clear.")
    ] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Print a document of ours that does the same as FILE, as YAML with comments; with the secrets that FILE holds.

    It is complete: what FILE leaves to the plugin's defaults is written out. Exit code 1 if FILE must not start.

    Example: aicache convert higress ai-cache.yaml > aicache.yaml
    """
    # What belongs to the translation, and nothing that is to win over its result later.
    environ = {name: value for name, value in os.environ.items() if not name.upper().startswith(PREFIX)}
    translation = load(file, environ=environ, flags={HOSTS: tuple(host or ())}).translation
    if translation is None or translation.form != form:
        raise ConfigError("", f"is no document of {NAMES[form]}; `aicache check` says what it is", source=str(file))
    values = {name: _plain(value, redact=redact) for name, value in translation.values.items()}
    if output is Output.JSON:
        print_json(values)
        return
    typer.echo("\n".join(f"# {line}" for line in _remarks(translation, file, redacted=redact)))
    typer.echo(yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=sys.maxsize), nl=False)


def _remarks(translation: Translation, file: Path, *, redacted: bool) -> Iterator[str]:
    yield f"From {file} by `aicache convert {translation.form}`."
    if _holds_secret(translation.values):
        yield "Its secrets are masked: put them in before use." if redacted else "It holds the secrets of that file."
    yield from map(str, translation.notes)


def _plain(value: object, *, redact: bool) -> object:
    match value:
        case SecretStr():
            return MASK if redact else value.get_secret_value()
        case Mapping():
            return {str(name): _plain(member, redact=redact) for name, member in value.items()}
        case list() | tuple():
            return [_plain(member, redact=redact) for member in value]
        case _:
            return value


def _holds_secret(value: object) -> bool:
    if isinstance(value, Mapping):
        return any(map(_holds_secret, value.values()))
    return isinstance(value, SecretStr)
