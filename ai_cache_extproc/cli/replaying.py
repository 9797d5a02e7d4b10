"""`aicache replay`: what a configuration would have made of the requests in a log. No store, no upstream."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import structlog
import typer

from ai_cache_extproc.cli.fields import fields_of
from ai_cache_extproc.cli.output import Output, OutputOption, print_json
from ai_cache_extproc.cli.plotting import check_plotting, draw
from ai_cache_extproc.cli.prediction import Prediction
from ai_cache_extproc.cli.progress import progress
from ai_cache_extproc.cli.rehearsal import rehearsing
from ai_cache_extproc.cli.request_lines import STDIN, BadLine, lines_of, requested
from ai_cache_extproc.config.load import load
from ai_cache_extproc.config.model import Config
from ai_cache_extproc.telemetry.logs import LEVELS

LogArgument = Annotated[Path, typer.Argument(metavar="LOG", help="JSON lines (docs/replay.md); - for stdin.")]
HeadersOption = Annotated[
    list[str] | None,
    typer.Option("--header", "-H", metavar="'k: v'", help="For requests that lack it; may be repeated."),
]


def replay(
    log: LogArgument,
    *,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", metavar="FILE", help="Embedded defaults without it.")
    ] = None,
    header: HeadersOption = None,
    rule: Annotated[str, typer.Option("--rule", help="The rule that the route names (x-ai-cache-rule).")] = "",
    interval_s: Annotated[
        float, typer.Option("--interval", metavar="SECONDS", min=0, help="Between requests whose line has no time.")
    ] = 0.0,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE.png", help="The hit ratio over the log; needs the extra plot."),
    ] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Predict the hit rate by rule and layer, as if the sidecar had been asked, beginning empty.

    The requests go through the sidecar's own code; what nobody can know is assumed: every answer is whole and kept, unless
    the line says another status. So the figures are what is to be expected at most. Nothing is written, and nothing is
    sent, but questions to the document's embedder where a rule has the layer semantic. Exit code 1 where no line is a request.

    Example: aicache replay requests.jsonl --config aicache.yaml --plot hits.png
    """
    if plot is not None:
        check_plotting(plot)
    loaded = load(config)
    headers = fields_of(header or [], "--header")
    with _quiet():
        prediction = asyncio.run(_rehearse(log, loaded.config, headers, rule=rule, interval_s=interval_s))
    if plot is not None:
        draw(prediction.chart(), plot)
    if output is Output.JSON:
        print_json(prediction.document() | {"plot": plot and str(plot)})
    else:
        typer.echo("\n".join(prediction.lines()))
    if prediction.unreadable:
        typer.echo(f"aicache: lines that are no requests: {prediction.unreadable}; {prediction.first_fault}", err=True)
    if not prediction.requests:
        raise typer.Exit(1)


async def _rehearse(
    log: Path, config: Config, headers: Mapping[str, str], *, rule: str, interval_s: float
) -> Prediction:
    prediction = Prediction()
    size = None if str(log) == STDIN else _size(log)
    with lines_of(log) as lines, progress("replay", total=size) as advance:
        async with rehearsing(config) as rehearsal:
            for number, line in lines:
                advance(len(line))
                try:
                    asked = requested(line, number, headers)
                except BadLine as error:
                    prediction.cannot_read(str(error))
                    continue
                rehearsal.clock.move(rehearsal.clock() + interval_s if asked.time_s is None else asked.time_s)
                prediction.add(await rehearsal.ask(asked, named=rule), asked.time_s, logged=asked.logged)
    return prediction


def _size(log: Path) -> int | None:
    try:
        return log.stat().st_size
    except OSError:
        return None


@contextmanager
def _quiet() -> Iterator[None]:
    """The exchanges tell of themselves as they do when they are served; here nobody waits for that."""
    configured = structlog.get_config()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS["error"]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    try:
        yield
    finally:
        structlog.configure(**configured)
