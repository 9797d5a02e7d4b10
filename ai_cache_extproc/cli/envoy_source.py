"""Where `aicache doctor --envoy` reads from: a file, or the admin page of a running Envoy with its figures."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

import orjson

from ai_cache_extproc.cli.asking import fetch
from ai_cache_extproc.cli.dangers import Danger
from ai_cache_extproc.cli.envoy_checks import envoy_dangers
from ai_cache_extproc.cli.envoy_finding import sites
from ai_cache_extproc.cli.envoy_reading import Message, Site, text
from ai_cache_extproc.config.document import read_document
from ai_cache_extproc.config.model import Config
from ai_cache_extproc.errors import ConfigError

DUMP_BYTES_MAX = 256 * 1024 * 1024
"""A gateway of thousands of routes shows tens of megabytes."""

_STATS = r"ext_proc|cluster\..*(membership|upstream_rq_pending_overflow)"
_RUNNING = re.compile(r"https?://|unix:|[\w.-]+:\d+$")
_GATEWAY_OBJECT = re.compile(rb"^apiVersion: ['\"]?gateway\.envoyproxy\.io/", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class _Shown:
    """What one source holds. counted: a running Envoy's figures by name; empty for a file."""

    document: Message
    counted: dict[str, int]


def examine_envoy(source: str, config: Config) -> Iterator[Danger | str]:
    """What is wrong with one Envoy, or that nothing is. source: a file, or where the admin page is."""
    try:
        shown = _running(source) if _RUNNING.match(source) else _file(Path(source))
    except _UnreadableError as error:
        yield error.danger
        return
    found = sites(shown.document)
    if not found:
        yield Danger(f"{source}: no ext_proc filter is in it", "add the one that `aicache envoy-config` prints")
    for site in found:
        told = [*envoy_dangers(site, config), *_figures(site, shown.counted)]
        yield from (Danger(f"{source}: {danger.what}", danger.fix) for danger in told)
        if not told:
            yield f"{source}: {site.where}: nothing is amiss"


class _UnreadableError(Exception):
    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what)
        self.danger = Danger(what, fix)


def _file(path: Path) -> _Shown:
    try:
        with path.open("rb") as file:
            content = file.read(DUMP_BYTES_MAX)
    except OSError:
        # The usual reader says what is the matter.
        content = b""
    if _GATEWAY_OBJECT.search(content):
        raise _UnreadableError(
            f"{path}: holds objects of Envoy Gateway, not what Envoy makes of them",
            "name the admin page of its Envoy: `--envoy http://127.0.0.1:19000` after `kubectl port-forward`",
        )
    if content[:64].lstrip().startswith(b"{"):
        return _Shown(_parsed(content, str(path)), {})
    return _Shown(read_document(path).values, {})


def _running(url: str) -> _Shown:
    address = _address(url)
    way_out = "name the address that `admin` of its configuration has"
    try:
        status, content = fetch(address, "/config_dump?include_eds")
        _, stats = fetch(address, f"/stats?filter={quote(_STATS)}")
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise _UnreadableError(f"{url}: no Envoy answers ({reason})", way_out) from error
    if status != 200:
        raise _UnreadableError(f"{url}: what answers is no Envoy's admin page ({status})", way_out)
    counted = (line.rpartition(": ") for line in stats.decode("utf-8", "replace").splitlines())
    return _Shown(_parsed(content, url), {name: int(value) for name, _, value in counted if value.isdigit()})


def _address(url: str) -> str:
    if url.startswith("unix:") or "://" not in url:
        return url
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.netloc:
        raise ConfigError(
            "--envoy", f"{url!r} is no admin page, which Envoy serves without TLS; write http://HOST:PORT"
        )
    return parts.netloc


def _parsed(content: bytes, where: str) -> Message:
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise ConfigError("", f"is not JSON: {error.msg}", source=where) from None
    if not isinstance(document, dict):
        raise ConfigError("", "is no configuration of Envoy", source=where)
    return document


def _figures(site: Site, counted: dict[str, int]) -> Iterator[Danger]:
    """What has gone wrong since this Envoy started; its filters count together."""
    cluster = f"cluster.{site.cluster_name}"
    total, healthy = (counted.get(f"{cluster}.membership_{word}", 0) for word in ("total", "healthy"))
    if healthy < total:
        yield Danger(
            f'{site.where}: Envoy finds {healthy} of {total} endpoints of cluster "{site.cluster_name}" healthy',
            "start the sidecar, or correct the addresses of the cluster",
        )
    if overflowed := counted.get(f"{cluster}.upstream_rq_pending_overflow", 0):
        yield Danger(
            f"{site.where}: {overflowed} exchanges met a full circuit breaker, and passed uncached",
            "raise max_requests and max_pending_requests of the sidecar's cluster",
        )
    prefix = text(site.filter, "stat_prefix")
    timeouts = f".ext_proc.{prefix}.message_timeouts" if prefix else ".ext_proc.message_timeouts"
    if late := sum(count for name, count in counted.items() if name.endswith(timeouts)):
        yield Danger(
            f"{site.where}: the sidecar was late {late} times, and those exchanges went on without it",
            "see aicache_lookup_seconds for what takes long, or raise message_timeout on both sides",
        )
