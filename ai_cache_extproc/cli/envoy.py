"""`aicache envoy-config`: the Envoy configuration that goes with the sidecar, built from Envoy's own types."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, assert_never

import betterproto2
import typer
import yaml

from ai_cache_extproc.cli.envoy_bootstrap import Mesh, Site, bootstrap, read_upstream
from ai_cache_extproc.cli.envoy_filter import ext_proc_filter
from ai_cache_extproc.cli.envoy_gateway import gateway_objects
from ai_cache_extproc.cli.envoy_istio import envoy_filter
from ai_cache_extproc.cli.output import print_json
from ai_cache_extproc.config.addresses import TcpAddress, parse_address
from ai_cache_extproc.config.load import load
from ai_cache_extproc.config.model import Config
from ai_cache_extproc.errors import ConfigError


class Format(StrEnum):
    """What is printed."""

    BOOTSTRAP = "bootstrap"
    FILTER = "filter"
    ENVOYFILTER = "envoyfilter"
    EXTENSION_POLICY = "extension-policy"


class Notation(StrEnum):
    """Envoy reads both."""

    YAML = "yaml"
    JSON = "json"


def envoy_config(  # noqa: PLR0913 - an option each
    *,
    format: Annotated[
        Format,
        typer.Option(
            "--format",
            "-f",
            help="All that `envoy -c` takes, the HTTP filter alone, an object for Istio and Higress, objects for Envoy Gateway.",
        ),
    ] = Format.BOOTSTRAP,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", metavar="FILE", help="The sidecar's; embedded defaults without it.")
    ] = None,
    upstream: Annotated[
        str, typer.Option("--upstream", metavar="URL", help="bootstrap: the LLM service.")
    ] = "http://127.0.0.1:18081",
    listen_port: Annotated[
        int, typer.Option("--listen-port", min=1, max=65535, help="bootstrap: where clients connect.")
    ] = 10000,
    sidecar: Annotated[
        str | None,
        typer.Option("--sidecar", metavar="HOST:PORT", help="Where Envoy finds the sidecar, if not where it listens."),
    ] = None,
    rule: Annotated[
        list[str] | None,
        typer.Option("--rule", metavar="ROUTE=RULE", help="The rule that one of Envoy's routes names; repeatable."),
    ] = None,
    namespace: Annotated[
        str | None, typer.Option("--namespace", help="envoyfilter (istio-system without it), extension-policy.")
    ] = None,
    selector: Annotated[
        str, typer.Option("--selector", metavar="KEY=VALUE", help="envoyfilter: the label of the gateway's pods.")
    ] = "istio=ingressgateway",
    before: Annotated[
        str, typer.Option("--before", metavar="NAME", help="envoyfilter: the HTTP filter that the cache precedes.")
    ] = "envoy.filters.http.router",
    gateway: Annotated[str, typer.Option("--gateway", help="extension-policy: name of the Gateway.")] = "llm",
    route: Annotated[str, typer.Option("--route", help="extension-policy: name of the HTTPRoute.")] = "llm",
    output: Annotated[Notation, typer.Option("--output", "-o")] = Notation.YAML,
) -> None:
    """Print the Envoy configuration that goes with the sidecar: its addresses, timeouts, headers and rules.

    Example: aicache envoy-config --upstream https://api.openai.com > envoy.yaml
    """
    loaded = load(config).config
    site = Site(
        listen=TcpAddress("127.0.0.1", listen_port),
        upstream=read_upstream(upstream),
        sidecar=None if sidecar is None else _found_at(sidecar),
        rules=_rules(rule or (), loaded),
        mesh=Mesh(
            namespace=namespace,
            selector=dict([_pair(selector, "--selector", "KEY=VALUE")]),
            before=before,
            gateway=gateway,
            route=route,
        ),
    )
    document = document_of(format, loaded, site)
    if output is Notation.JSON:
        print_json(document)
    elif document.get("kind") == "List":
        typer.echo("---\n".join(map(_yaml, document["items"])), nl=False)
    else:
        typer.echo(_yaml(document), nl=False)


def document_of(format: Format, config: Config, site: Site) -> dict[str, Any]:
    """The document as its reader documents it; of Envoy's messages, fields that hold their default are left out."""
    match format:
        case Format.BOOTSTRAP:
            return bootstrap(config, site).to_dict(casing=betterproto2.Casing.SNAKE)
        case Format.FILTER:
            if site.rules:
                raise ConfigError("--rule", "the filter alone has no routes; ask for a bootstrap or an envoyfilter")
            return ext_proc_filter(config).to_dict(casing=betterproto2.Casing.SNAKE)
        case Format.ENVOYFILTER:
            return envoy_filter(config, site)
        case Format.EXTENSION_POLICY:
            return gateway_objects(config, site)
        case _:
            assert_never(format)


def _yaml(document: dict[str, Any]) -> str:
    return yaml.safe_dump(document, sort_keys=False, width=110)


def _found_at(text: str) -> TcpAddress:
    address = parse_address(text, "--sidecar")
    if not isinstance(address, TcpAddress):
        raise ConfigError("--sidecar", f"{text!r} is a file of this machine; write HOST:PORT, or put it into `listen`")
    return address


def _rules(texts: Iterable[str], config: Config) -> dict[str, str]:
    known = [rule.name for rule in config.rules]
    named = dict(_pair(text, "--rule", "ROUTE=RULE") for text in texts)
    for rule in named.values():
        if rule not in known:
            raise ConfigError("--rule", f"the configuration has no rule {rule!r}; it has {', '.join(known) or 'none'}")
    return named


def _pair(text: str, option: str, form: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise ConfigError(option, f"{text!r} is not usable; write {form}")
    return name, value
