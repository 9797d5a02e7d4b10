"""`aicache doctor`: what is wrong with a configuration, its store, a running sidecar and Envoy, each with its way out."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ai_cache_extproc.cli.dangers import Danger, dangers
from ai_cache_extproc.cli.doctor_sidecar import examine_sidecar
from ai_cache_extproc.cli.doctor_store import Finding, examine_store
from ai_cache_extproc.cli.envoy_source import examine_envoy
from ai_cache_extproc.cli.output import Output, OutputOption, print_json
from ai_cache_extproc.cli.words import table
from ai_cache_extproc.config.load import HOSTS, Loaded, load


def doctor(
    *,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", metavar="FILE", help="The sidecar's; embedded defaults without it.")
    ] = None,
    envoy: Annotated[
        list[str] | None,
        typer.Option(
            "--envoy",
            "-e",
            metavar="FILE|ADMIN_URL",
            help="An Envoy configuration, YAML or JSON, or a running Envoy's admin page (http://...); may be repeated.",
        ),
    ] = None,
    admin: Annotated[
        str | None,
        typer.Option("--admin", metavar="ADDR", help="Of the running sidecar; that of the configuration without it."),
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Look neither at the store nor at a sidecar.")] = False,
    host: Annotated[
        list[str] | None,
        typer.Option("--host", metavar="NAME=HOST:PORT", help="Where a service of a foreign document is; repeatable."),
    ] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Look at the configuration, the store, the running sidecar and Envoy's configuration, and name what is dangerous.

    Exit code 1 if anything is.

    Example: aicache doctor --config aicache.yaml --envoy envoy.yaml
    """
    loaded = load(config, flags={HOSTS: tuple(host or ())})
    findings: list[Finding] = [*dangers(loaded)]
    for source in envoy or ():
        findings += examine_envoy(source, loaded.config)
    if not offline:
        findings += asyncio.run(examine_store(loaded.config, os.environ))
        findings += examine_sidecar(loaded.config, admin or loaded.config.admin)
    _print(loaded, findings, output)
    if any(isinstance(finding, Danger) for finding in findings):
        raise typer.Exit(1)


def _print(loaded: Loaded, findings: Sequence[Finding], output: Output) -> None:
    source = "embedded defaults" if loaded.embedded else str(loaded.path)
    bad = [finding for finding in findings if isinstance(finding, Danger)]
    good = [finding for finding in findings if isinstance(finding, str)]
    if output is Output.JSON:
        told = [{"what": danger.what, "fix": danger.fix} for danger in bad]
        print_json({"ok": not bad, "source": source, "dangers": told, "good": good})
        return
    rows = [("good", text) for text in good]
    for danger in bad:
        rows += [("DANGER", danger.what), ("  fix", danger.fix)]
    typer.echo("\n".join([f"{source}: {len(bad) or 'no'} danger{'' if len(bad) == 1 else 's'}", *table(rows)]))
