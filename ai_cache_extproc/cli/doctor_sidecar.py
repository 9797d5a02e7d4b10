"""Examines a running sidecar from outside: where it listens, its health, and what its figures say about Envoy and callers."""

from __future__ import annotations

import socket
from collections import defaultdict
from collections.abc import Iterator, Mapping

import orjson
from prometheus_client.parser import text_string_to_metric_families

from ai_cache_extproc.cli.asking import fetch
from ai_cache_extproc.cli.dangers import Danger
from ai_cache_extproc.cli.doctor_store import Finding
from ai_cache_extproc.config.addresses import Address, TcpAddress, UnixAddress
from ai_cache_extproc.config.model import Config
from ai_cache_extproc.telemetry import metrics
from ai_cache_extproc.telemetry.family import Family
from ai_cache_extproc.telemetry.scopes import rotation

_CONNECT_S = 1.0


def examine_sidecar(config: Config, admin: str | None) -> list[Finding]:
    """What a sidecar with this configuration shows. admin: its address, None where it has none."""
    findings = list(_endpoints(config))
    if admin is None:
        return [*findings, "admin: off"]
    try:
        status, content = fetch(admin, "/readyz")
        _, figures = fetch(admin, "/metrics")
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        way_out = "start one with `aicache serve`, or name its address with --admin"
        return [*findings, Danger(f"admin: no sidecar answers at {admin} ({reason})", way_out)]
    return [*findings, *_health(admin, status, content), *_figures(figures)]


def _endpoints(config: Config) -> Iterator[Finding]:
    for address in (address for own in config.endpoints for address in own):
        try:
            _connect(address)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            yield Danger(f"listen: nobody is at {address} ({reason})", "start the sidecar, or correct `listen`")
        else:
            yield f"listen: {address} takes connections"


def _connect(address: Address) -> None:
    match address:
        case UnixAddress(path):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(_CONNECT_S)
                connection.connect(path)
        case TcpAddress(host, port):
            near = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - every interface has the loopback
            socket.create_connection((near, port), timeout=_CONNECT_S).close()


def _health(admin: str, status: int, content: bytes) -> Iterator[Finding]:
    try:
        components = orjson.loads(content)["components"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        yield Danger(f"admin: what answers at {admin} is no sidecar ({status})", "name its address with --admin")
        return
    bad = {name: word for name, word in components.items() if isinstance(word, str) and word != "ok"}
    for name, word in bad.items():
        yield Danger(f"sidecar: {name}: {word}", "see docs/operations.md; the log says since when")
    if components.get("draining") is True:
        yield Danger("sidecar: it is stopping", "wait for the next one")
    elif not bad:
        yield "sidecar: ready, all components are well"


def _figures(content: bytes) -> Iterator[Finding]:
    """What has gone wrong since the sidecar started."""
    counted: defaultdict[tuple[str, str], float] = defaultdict(float)
    try:
        families = list(text_string_to_metric_families(content.decode("utf-8", "replace")))
    except ValueError:
        yield Danger("admin: its /metrics cannot be read", "name the sidecar's address with --admin")
        return
    for family in families:
        for sample in family.samples:
            counted[sample.name, ""] += sample.value
            for label, value in sample.labels.items():
                counted[sample.name, f"{label}={value}"] += sample.value
    told = [*_envoy(counted), *_callers(counted), *_itself(counted)]
    yield from told
    if not told:
        yield "sidecar: its figures show nothing amiss"


def _of(counted: Mapping[tuple[str, str], float], family: Family, label: str = "") -> float:
    return counted.get((family.name, label), 0)


def _envoy(counted: Mapping[tuple[str, str], float]) -> Iterator[Danger]:
    if ignored := _of(counted, metrics.OVERRIDES_IGNORED):
        yield Danger(
            f"sidecar: Envoy did not follow {ignored:.0f} mode overrides, and those answers were not kept",
            "`allow_mode_override: true` in the filter; `aicache doctor --envoy FILE` looks for it",
        )
    if partial := _of(counted, metrics.BYPASSES, "reason=partial_body"):
        yield Danger(
            f"sidecar: {partial:.0f} questions were longer than Envoy's buffer, and passed uncached",
            "raise per_connection_buffer_limit_bytes of the listener",
        )


def _callers(counted: Mapping[tuple[str, str], float]) -> Iterator[Danger]:
    calls = sum(_of(counted, metrics.REQUESTS, f"result={result}") for result in ("hit", "miss"))
    tokens, others = (_of(counted, metrics.SCOPES_NEW, f"credential={kind}") for kind in ("token", "other"))
    said = rotation(tokens=tokens, others=others, calls=calls)
    if said is not None:
        what, _, fix = said.rpartition("; ")
        yield Danger(f"callers: {what}", fix)


def _itself(counted: Mapping[tuple[str, str], float]) -> Iterator[Danger]:
    if faults := _of(counted, metrics.EXCHANGE_FAULTS):
        yield Danger(
            f"sidecar: {faults:.0f} exchanges were let through because of a fault of its own",
            "the log has the traceback; please report it",
        )
    if opened := _of(counted, metrics.BREAKER_OPENED):
        yield Danger(
            f"sidecar: circuit breakers opened {opened:.0f} times: a backend failed or was too slow",
            "aicache_backend_errors_total says which and how",
        )
