"""`aicache check` and `explain`: what a configuration does, and what it does to one request. No network."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from ai_cache_extproc.cli.convert import HostsOption
from ai_cache_extproc.cli.explanation import explain_request
from ai_cache_extproc.cli.fields import fields_of
from ai_cache_extproc.cli.output import Output, OutputOption, print_json
from ai_cache_extproc.cli.plan import plan_of
from ai_cache_extproc.cli.words import listed, table
from ai_cache_extproc.config.load import HOSTS, load
from ai_cache_extproc.config.model import Config, SqliteStore
from ai_cache_extproc.config.snapshot import Snapshot
from ai_cache_extproc.dialects import Dialects
from ai_cache_extproc.extproc.codec import CLUSTER_ATTRIBUTE, ROUTE_ATTRIBUTE
from ai_cache_extproc.keys.identity import Keyring
from ai_cache_extproc.model import RequestHead, ResponseHead
from ai_cache_extproc.stores.sqlite import default_path, key_path

DEFAULT_PATH = "/v1/chat/completions"
STDIN = "-"
KINDS = {
    "native": "",
    "higress": ", a document of Higress' ai-cache",
    "apisix": ", a document of APISIX's ai-cache",
}


def check(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A YAML or JSON configuration; or one of Higress or APISIX.")
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
    kind = KINDS[plan.dialect]
    lines = [f"{plan.source}: good{kind}", *table(plan.rows)]
    for rule in plan.rules:
        lines += ["", f"rule {rule.name}", *table(rule.rows, indent="  ")]
    if plan.notes:
        lines += ["", "of the document", *(f"  {note}" for note in plan.notes)]
    if plan.warnings:
        lines += ["", "think twice", *(f"  {warning}" for warning in plan.warnings)]
    typer.echo("\n".join(lines))


def explain(  # noqa: PLR0913 - an option each
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
    rule: Annotated[str, typer.Option("--rule", help="The rule that the route names (x-ai-cache-rule).")] = "",
    attribute: Annotated[
        list[str] | None,
        typer.Option("--attribute", metavar="NAME=VALUE", help="An Envoy attribute; may be repeated."),
    ] = None,
    metadata: Annotated[
        str, typer.Option("--metadata", metavar="JSON", help="Envoy's dynamic metadata, by namespace.")
    ] = "{}",
    answer_status: Annotated[
        int | None, typer.Option("--answer-status", help="Say too whether an answer with this status is kept.")
    ] = None,
    answer_header: Annotated[
        list[str] | None, typer.Option("--answer-header", metavar="'k: v'", help="A header of that answer.")
    ] = None,
    answer_cluster: Annotated[str, typer.Option("--answer-cluster", help="Envoy's cluster that answered.")] = "",
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
        _head(method, path, authority, headers=headers, route=route, attributes=attribute or [], metadata=metadata),
        body,
        snapshot=Snapshot(loaded.config),
        dialects=Dialects(loaded.config.limits.sse_line_bytes_max),
        # Prefix and epoch stand before an entry's name, not in it.
        keyring=None if secret is None else Keyring(secret, loaded.config.key_prefix, 0),
        named=rule,
        answer=_answer(answer_status, answer_header or [], answer_cluster),
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


def _head(
    method: str,
    path: str,
    authority: str,
    *,
    headers: Mapping[str, str],
    route: str,
    attributes: Sequence[str],
    metadata: str,
) -> RequestHead:
    """The request's head as Envoy shows it."""
    shown: dict[str, str] = {}
    for field in attributes:
        name, equals, value = field.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"{field!r} has no value; write NAME=VALUE", param_hint="--attribute")
        shown[name] = value
    try:
        # Numbers of Envoy's metadata are doubles.
        spaces = json.loads(metadata, parse_int=float)
    except json.JSONDecodeError as error:
        raise typer.BadParameter(f"is no JSON: {error}", param_hint="--metadata") from error
    if not isinstance(spaces, dict):
        raise typer.BadParameter("must be an object, a member for each namespace", param_hint="--metadata")
    route = route or shown.get(ROUTE_ATTRIBUTE, "")
    return RequestHead(method, path, authority, headers, route, shown.get(CLUSTER_ATTRIBUTE, ""), shown, spaces)


def _headers(given: Sequence[str], body: bytes) -> dict[str, str]:
    """As Envoy shows them: lower case, repeated fields joined; with what every client of such an API sends."""
    sent = {"content-type": "application/json", "content-length": str(len(body))}
    return sent | fields_of(given, "--header")


def _answer(status: int | None, given: Sequence[str], cluster: str) -> ResponseHead | None:
    """JSON, unless its headers say otherwise."""
    if status is None and not given and not cluster:
        return None
    fields = {"content-type": "application/json"} | fields_of(given, "--answer-header")
    return ResponseHead(200 if status is None else status, fields, cluster)


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
