"""`aicache stats`: what a running sidecar has done so far, once or as it goes on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ai_cache_extproc.cli.asking import ask
from ai_cache_extproc.cli.output import Output, OutputOption, print_json
from ai_cache_extproc.cli.words import duration, size, table

DEFAULT_ADMIN = "127.0.0.1:9901"
EVERY_S = 2.0


def stats(
    *,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on until Ctrl-C, with rates.")] = False,
    every_s: Annotated[float, typer.Option("--every", metavar="SECONDS", min=0.1, help="With --watch.")] = EVERY_S,
    ticks: Annotated[
        int | None, typer.Option("--ticks", metavar="N", min=1, help="With --watch, end after so many.")
    ] = None,
    admin: Annotated[
        str, typer.Option("--admin", metavar="ADDR", help="Of the sidecar: HOST:PORT or unix:PATH.")
    ] = DEFAULT_ADMIN,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            metavar="FILE",
            help="A file that holds the token of `admin_access`; with --watch it is not asked for.",
        ),
    ] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show what a running sidecar has done so far, from its admin address.

    With --watch the table goes on: rates, hit ratio by rule and layer, why calls were bypassed, what hits spared; as JSON a
    line for each look. Exit code 1 if there is no sidecar; a watch that is ended with Ctrl-C was good.

    Example: aicache stats --watch --admin 127.0.0.1:9901
    """
    if watch:
        from ai_cache_extproc.cli.watching import watch_sidecar  # noqa: PLC0415 - a look needs none of it

        watch_sidecar(admin, token_file, every_s=every_s, ticks=ticks, output=output)
        return
    figures = ask(admin, "/stats", token_file=token_file)
    if output is Output.JSON:
        print_json(figures)
    else:
        typer.echo("\n".join(table(_figures(figures))))


def _figures(figures: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    requests, ratio = figures["requests"], figures["hit_ratio"]
    yield "version", figures["version"]
    if "workers" in figures:
        yield "workers", str(figures["workers"])
    yield "up for", duration(round(figures["uptime_s"]))
    yield "requests", f"{requests['hit']} hits, {requests['miss']} misses, {requests['bypass']} bypassed"
    yield "hit ratio", "no lookups yet" if ratio is None else f"{ratio:.1%} of lookups"
    for reason, count in sorted(figures["bypasses"].items(), key=lambda found: -found[1]):
        yield f"  {reason}", str(count)
    yield "open streams", str(figures["streams"])
    store = figures["store"]
    yield f"{store['name']} store", "does not answer" if store["entries"] is None else _filling(store)
    yield "near copy", _filling(figures["near"])
    yield "write queue", _filling(figures["write_queue"])


def _filling(part: Mapping[str, Any]) -> str:
    most = f" of {size(part['bytes_max'])}" if part.get("bytes_max") else ""
    return f"{part['entries'] or 0:g} entries, {size(part['bytes'] or 0)}{most}"
