"""`aicache check` and `explain`: what a configuration does, and what it does to one request. No network."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ai_cache_extproc.cli.convert import HostsOption
from ai_cache_extproc.cli.explanation import explain_request
from ai_cache_extproc.cli.output import Output, OutputOption, print_json
from ai_cache_extproc.cli.plan import plan_of
from ai_cache_extproc.cli.words import listed, table
from ai_cache_extproc.config.load import HOSTS, load
from ai_cache_extproc.config.model import Config, SqliteStore
from ai_cache_extproc.config.snapshot import Snapshot
from ai_cache_extproc.dialects import Dialects
from ai_cache_extproc.keys.identity import Keyring
from ai_cache_extproc.model import RequestHead
from ai_cache_extproc.stores.sqlite import default_path, key_path

DEFAULT_PATH = "/v1/chat/completions"
STDIN = "-"


def check(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A YAML or JSON configuration, or a document of Higress' ai-cache.")
    ],
    host: HostsOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Check a configuration and print the effective plan. Touches no network and opens no store.

    Exit code 1 if it must not start, with one line for each fault.

    Example: aicache check aicache.yaml
    """
    plan = plan_of(load(file, flags={HOSTS: tuple(host or ())}), os.environ)
    if output is Output.JSON:
        rules = [{"name": rule.name, **dict(rule.rows)} for rule in plan.rules]
        notes = [{"source": note.source, "path": note.path, "text": note.text, "fix": note.fix} for note in plan.notes]
        document = {"ok": True, "source": plan.source, "dialect": plan.dialect, "plan": dict(plan.rows), "rules": rules}
        print_json(document | {"notes": notes, "warnings": list(plan.warnings)})
        return
    kind = "" if plan.dialect == "native" else ", a document of Higress' ai-cache"
    lines = [f"{plan.source}: good{kind}", *table(plan.rows)]
    for rule in plan.rules:
        lines += ["", f"rule {rule.name}", *table(rule.rows, indent="  ")]
    if plan.notes:
        lines += ["", "of the document", *(f"  {note}" for note in plan.notes)]
    if plan.warnings:
        lines += ["", "think twice", *(f"  {warning}" for warning in plan.warnings)]
    typer.echo("\n".join(lines))


def explain(
    *,
    request: Annotated[Path, typer.Option("--request", "-r", metavar="BODY.json", help="The body; - for stdin.")],
    config: Annotated[
        Path | None, typer.Option("--config", "-c", metavar="FILE", help="Embedded defaults without it.")
    ] = None,
    path: Annotated[str, typer.Option("--path", help="The path with its query.")] = DEFAULT_PATH,
    header: Annotated[
        list[str] | None, typer.Option("--header", "-H", metavar="'k: v'", help="A request header; may be repeated.")
    ] = None,
    method: Annotated[str, typer.Option("--method", "-X")] = "POST",
    host: Annotated[
        list[str] | None,
        typer.Option(
            "--host", help="The authority that the client asks, localhost unless given; NAME=HOST:PORT as for check."
        ),
    ] = None,
    route: Annotated[str, typer.Option("--route", help="Envoy's route name (xds.route_name).")] = "",
    output: OutputOption = Output.TEXT,
) -> None:
    """Say what the sidecar would do with a request, and why. Shows lengths and hashes, never content.

    Example: aicache explain --config aicache.yaml --request body.json --header 'authorization: Bearer x'
    """
    # No authority has an equals sign in it.
    services = tuple(word for word in host or () if "=" in word)
    authority = next((word for word in host or () if "=" not in word), "localhost")
    loaded = load(config, flags={HOSTS: services})
    body = _body(request)
    headers = _headers(header or [], body)
    secret, key = _known_key(loaded.config)
    explanation = explain_request(
        RequestHead(method, path, authority, headers, route),
        body,
        snapshot=Snapshot(loaded.config),
        dialects=Dialects(loaded.config.limits.sse_line_bytes_max),
        # Prefix and epoch stand before an entry's name, not in it.
        keyring=None if secret is None else Keyring(secret, loaded.config.key_prefix, 0),
    )
    document = explanation.document() | {"key": key}
    if output is Output.JSON:
        print_json(document)
    else:
        typer.echo("\n".join(table((name, _word(value)) for name, value in document.items() if value)))


def _body(request: Path) -> bytes:
    if str(request) == STDIN:
        return sys.stdin.buffer.read()
    try:
        return request.read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"{request}: {error.strerror}", param_hint="--request") from error


def _headers(given: Sequence[str], body: bytes) -> dict[str, str]:
    """As Envoy shows them: lower case, repeated fields joined; with what every client of such an API sends."""
    headers = {"content-type": "application/json", "content-length": str(len(body))}
    own: dict[str, str] = {}
    for field in given:
        name, colon, value = field.partition(":")
        name = name.strip().lower()
        if not colon or not name:
            raise typer.BadParameter(f"{name or field!r} has no colon; write 'name: value'", param_hint="--header")
        own[name] = f"{own[name]}, {value.strip()}" if name in own else value.strip()
    return headers | own


def _known_key(config: Config) -> tuple[bytes | None, str]:
    """The identity key, if it can be seen from here, and where it is from. Nothing is made."""
    if config.identity.secret is not None:
        return config.identity.secret, "configured"
    if not isinstance(config.store, SqliteStore):
        return None, "made at each start: entries have other names then"
    file = key_path(config.store.path or default_path(os.environ))
    try:
        return file.read_bytes(), str(file)
    except OSError:
        return None, f"not readable here; the sidecar keeps it in {file}"


def _word(value: object) -> str:
    match value:
        case dict():
            return ", ".join(f"{name} {_word(member)}" for name, member in value.items())
        case list() | tuple():
            return listed([str(member) for member in value], joint="and")
        case _:
            return str(value)
