"""`aicache serve`: the sidecar as this process, or as several workers below it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated

import structlog
import typer

from ai_cache_extproc.config.load import HOSTS, Loaded, load
from ai_cache_extproc.config.model import WORKERS_MAX
from ai_cache_extproc.telemetry import logs

OFF = "off"


def serve(
    *,
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
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, max=WORKERS_MAX, help="Processes that serve, each on its own address."),
    ] = None,
    insecure_listen: Annotated[
        bool, typer.Option("--insecure-listen", help="Allow --listen beyond loopback: who reaches it reads the cache.")
    ] = False,
    host: Annotated[
        list[str] | None,
        typer.Option("--host", metavar="NAME=HOST:PORT", help="Where a service of a Higress document is; repeatable."),
    ] = None,
) -> None:
    """Run the sidecar until SIGTERM or Ctrl-C; a second one stops it at once, SIGHUP reads FILE again.

    Flags win over the environment (AICACHE__STORE__PATH=...), and the environment over FILE.

    Example: aicache serve --config aicache.yaml --listen unix:/run/aicache/extproc.sock
    """
    flags = _flags(listen, admin, workers, host, insecure=insecure_listen)
    read = partial(load, config, flags=flags)
    loaded = read()
    reload = None if config is None else read
    logs.configure(loaded.config.log.level, loaded.config.log.format)
    logs.hook_exceptions()
    _tell(loaded)
    # A supervisor serves no exchange: what that needs would cost it a fifth of its memory more.
    if loaded.config.workers > 1:
        from ai_cache_extproc import fleet  # noqa: PLC0415

        fleet.serve(loaded, flags=flags, reload=reload)
    else:
        from ai_cache_extproc import app  # noqa: PLC0415

        app.serve(loaded, reload=reload)


def _tell(loaded: Loaded) -> None:
    """One line on a document that is not ours: what of it holds otherwise than it reads."""
    if loaded.translation is not None:
        notes = [str(note) for note in loaded.notes]
        log = structlog.get_logger()
        tell = log.warning if notes else log.info
        tell("config_translated", path=str(loaded.path), dialect=loaded.dialect, notes=notes)


def _flags(
    listen: list[str] | None, admin: str | None, workers: int | None, host: list[str] | None, *, insecure: bool
) -> Mapping[str, object]:
    """Only what was given: everything else is left to the environment and the file."""
    flags: dict[str, object] = {}
    if listen:
        flags["listen"] = tuple(listen)
    if admin is not None:
        flags["admin"] = None if admin == OFF else admin
    if workers is not None:
        flags["workers"] = workers
    if host:
        flags[HOSTS] = tuple(host)
    if insecure:
        flags["insecure_listen"] = True
    return flags
