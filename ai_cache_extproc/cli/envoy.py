"""`aicache envoy-config`: the Envoy configuration that goes with the sidecar, built from Envoy's own types."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, assert_never

import betterproto2
import typer
import yaml

from ai_cache_extproc.cli.envoy_bootstrap import Site, bootstrap, read_upstream
from ai_cache_extproc.cli.envoy_filter import ext_proc_filter
from ai_cache_extproc.cli.output import print_json
from ai_cache_extproc.config.addresses import TcpAddress
from ai_cache_extproc.config.load import load
from ai_cache_extproc.config.model import Config


class Format(StrEnum):
    """What is printed."""

    BOOTSTRAP = "bootstrap"
    FILTER = "filter"


class Notation(StrEnum):
    """Envoy reads both."""

    YAML = "yaml"
    JSON = "json"


def envoy_config(
    *,
    format: Annotated[
        Format, typer.Option("--format", "-f", help="All that `envoy -c` takes, or the HTTP filter alone.")
    ] = Format.BOOTSTRAP,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", metavar="FILE", help="The sidecar's; embedded defaults without it.")
    ] = None,
    upstream: Annotated[
        str, typer.Option("--upstream", metavar="URL", help="The LLM service.")
    ] = "http://127.0.0.1:18081",
    listen_port: Annotated[int, typer.Option("--listen-port", min=1, max=65535, help="Where clients connect.")] = 10000,
    output: Annotated[Notation, typer.Option("--output", "-o")] = Notation.YAML,
) -> None:
    """Print the Envoy configuration that goes with the sidecar: its addresses, timeouts and headers.

    Example: aicache envoy-config --upstream https://api.openai.com > envoy.yaml
    """
    site = Site(listen=TcpAddress("127.0.0.1", listen_port), upstream=read_upstream(upstream))
    document = document_of(format, load(config).config, site)
    if output is Notation.JSON:
        print_json(document)
    else:
        typer.echo(yaml.safe_dump(document, sort_keys=False, width=110), nl=False)


def document_of(format: Format, config: Config, site: Site) -> dict[str, Any]:
    """The message as Envoy reads it, field names as in its documentation. Fields that hold their default are left out."""
    match format:
        case Format.BOOTSTRAP:
            return bootstrap(config, site).to_dict(casing=betterproto2.Casing.SNAKE)
        case Format.FILTER:
            return ext_proc_filter(config).to_dict(casing=betterproto2.Casing.SNAKE)
        case _:
            assert_never(format)
