"""`aicache serve`: the sidecar as this process."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ai_cache_extproc.app import serve as run
from ai_cache_extproc.config.load import load
from ai_cache_extproc.telemetry import logs

OFF = "off"


def serve(
    config: Annotated[
        Path | None, typer.Option("--config", "-c", metavar="FILE", help="YAML or JSON; embedded defaults without it.")
    ] = None,
    listen: Annotated[
        list[str] | None,
        typer.Option("--listen", metavar="ADDR", help="Where Envoy connects, HOST:PORT or unix:PATH; may be repeated."),
    ] = None,
    admin: Annotated[
        str | None,
        typer.Option("--admin", metavar="ADDR", help="Metrics and health over HTTP, HOST:PORT or unix:PATH; or off."),
    ] = None,
    insecure_listen: Annotated[
        bool, typer.Option("--insecure-listen", help="Allow --listen beyond loopback: who reaches it reads the cache.")
    ] = False,
) -> None:
    """Run the sidecar until SIGTERM or Ctrl-C; a second one stops it at once, SIGHUP reads FILE again.

    Flags win over the environment (AICACHE__STORE__PATH=...), and the environment over FILE.

    Example: aicache serve --config aicache.yaml --listen unix:/run/aicache/extproc.sock
    """
    read = partial(load, config, flags=_flags(listen, admin, insecure=insecure_listen))
    loaded = read()
    logs.configure(loaded.config.log.level, loaded.config.log.format)
    logs.hook_exceptions()
    run(loaded, reload=None if config is None else read)


def _flags(listen: list[str] | None, admin: str | None, *, insecure: bool) -> Mapping[str, object]:
    """Only what was given: everything else is left to the environment and the file."""
    flags: dict[str, object] = {}
    if listen:
        flags["listen"] = tuple(listen)
    if admin is not None:
        flags["admin"] = None if admin == OFF else admin
    if insecure:
        flags["insecure_listen"] = True
    return flags
