"""The live table of `aicache stats --watch`, and its JSON lines."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import orjson
import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ai_cache_extproc.cli.asking import NoSidecar, fetch
from ai_cache_extproc.cli.output import Output
from ai_cache_extproc.cli.rates import Look, Rates
from ai_cache_extproc.cli.words import duration, size
from ai_cache_extproc.telemetry.merge import read

REASONS_SHOWN = 8
_UNKNOWN = "-"

Document = Mapping[str, Any]


def watch_sidecar(admin: str, token_file: Path | None, *, every_s: float, ticks: int | None, output: Output) -> None:
    """Look again and again until Ctrl-C, or so many times. Raises NoSidecar where the first look finds none."""
    before: Look | None = None
    with _shown(output) as show:
        try:
            for tick in count(1):
                try:
                    now = _look(admin, token_file)
                except NoSidecar as error:
                    if before is None:
                        raise
                    show({"time": _time(), "error": str(error)})
                else:
                    show({"time": _time(), **Rates(now, before).document()})
                    before = now
                if ticks is not None and tick >= ticks:
                    return
                time.sleep(every_s)
        except KeyboardInterrupt:
            # How a watch ends.
            return


def _look(admin: str, token_file: Path | None) -> Look:
    try:
        status, content = fetch(admin, "/metrics", token_file=token_file)
        families = read(content.decode()) if status == 200 else {}
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise NoSidecar(f"no sidecar answers at {admin} ({reason}); name its address with --admin") from error
    if "aicache_requests" not in families:
        raise NoSidecar(f"what answers at {admin} is no sidecar's admin address (/metrics: {status})")
    return Look(time.monotonic(), families)


def _time() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@contextmanager
def _shown(output: Output) -> Iterator[Callable[[Document], None]]:
    """What shows one look: in place of the one before on a terminal, below it elsewhere."""
    if output is Output.JSON:
        yield lambda document: typer.echo(orjson.dumps(document).decode())
        return
    console = Console()
    if not console.is_terminal:
        yield lambda document: console.print(drawn(document))
        return
    with Live(console=console, auto_refresh=False) as live:
        yield lambda document: live.update(drawn(document), refresh=True)


def drawn(document: Document) -> RenderableType:
    """One look, for people."""
    when = Text(str(document["time"]), style="dim")
    if "error" in document:
        return Group(when, Text(str(document["error"]), style="red"))
    return Group(when, _summary(document), _rules(document), _bypasses(document))


def _summary(document: Document) -> Table:
    table = Table.grid(padding=(0, 2))
    requests, rates, store = document["requests"], document["rates"], document["store"]
    for result in requests:
        _add(table, result, str(requests[result]), _rate(rates[result]))
    _add(table, "hit ratio", _percent(document["hit_ratio"]), f"{_percent(document['hit_ratio_of_interval'])} lately")
    saved, saving = document["saved"], document["saved_rates"]
    tokens = " ".join(f"{int(number)} {kind}" for kind, number in saved["tokens"].items())
    _add(table, "saved tokens", tokens or "0", _rate(saving["tokens"]))
    for currency, cost in saved["cost"].items():
        _add(table, "saved money", f"{cost:.4f} {currency}", "")
    _add(table, "saved time", duration(round(saved["seconds"], 1)), "")
    if store["entries"] is not None:
        _add(table, "store", f"{int(store['entries'])} entries", size(store["bytes"] or 0))
    _add(table, "open streams", str(int(document["streams"] or 0)), "")
    return table


def _rules(document: Document) -> Table:
    table = Table("rule", "calls/s", "hit ratio", "lately", "exact", "semantic", "miss", "bypass", title_justify="left")
    for rule in document["rules"]:
        hits = rule["hits"]
        _add(
            table,
            rule["rule"] or "no rule",
            _rate(rule["rate"]),
            _percent(rule["hit_ratio"]),
            _percent(rule["hit_ratio_of_interval"]),
            str(hits["exact"]),
            str(hits.get("semantic", _UNKNOWN)),
            str(rule["misses"]),
            str(rule["bypasses"]),
        )
    return table


def _bypasses(document: Document) -> RenderableType:
    shown = list(document["bypasses"].items())[:REASONS_SHOWN]
    if not shown:
        return Text("nothing was bypassed", style="dim")
    table = Table("bypassed because", "calls", "calls/s")
    for reason, figures in shown:
        _add(table, reason, str(figures["count"]), _rate(figures["rate"]))
    return table


def _add(table: Table, *cells: str) -> None:
    """Names are text, whatever they look like."""
    table.add_row(*map(Text, cells))


def _rate(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:.1f}/s"


def _percent(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:.1%}"
