"""`aicache warm`: sends the requests of a file through the gateway, so that their answers are kept."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Annotated

import typer

from ai_cache_extproc.cli.fields import fields_in, fields_of
from ai_cache_extproc.cli.output import Output, OutputOption, print_json
from ai_cache_extproc.cli.progress import Advance, progress
from ai_cache_extproc.cli.request_lines import BadLine, Requested, lines_of, requested
from ai_cache_extproc.cli.sending import Answered, Gateway
from ai_cache_extproc.cli.words import table

CONCURRENCY_MAX = 64


def warm(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON lines (docs/replay.md); - for stdin.")],
    *,
    gateway: Annotated[str, typer.Option("--gateway", "-g", metavar="URL", help="Where clients send them.")],
    concurrency: Annotated[
        int, typer.Option("--concurrency", min=1, max=CONCURRENCY_MAX, help="At the same time.")
    ] = 4,
    rate: Annotated[
        float | None, typer.Option("--rate", metavar="N", min=0.001, help="At most so many begin in a second.")
    ] = None,
    header: Annotated[
        list[str] | None,
        typer.Option("--header", "-H", metavar="'k: v'", help="For requests that lack it; may be repeated."),
    ] = None,
    header_file: Annotated[
        Path | None, typer.Option("--header-file", metavar="FILE", help="The same, one on each line: for credentials.")
    ] = None,
    timeout_s: Annotated[float, typer.Option("--timeout", metavar="SECONDS", min=0.1, help="For one answer.")] = 120.0,
    output: OutputOption = Output.TEXT,
) -> None:
    """Send the requests of FILE through the gateway, once each, and count what the cache made of them.

    Every miss is a real call to the upstream, and is paid for. Answers are kept for whoever shares the scope of these
    requests: as a rule, who sends the same credential to the same authority. Exit code 1 if any of them failed.

    Example: aicache warm questions.jsonl --gateway http://localhost:10000 --header-file credential --rate 5
    """
    headers = fields_of(header or [], "--header")
    if header_file is not None:
        headers |= fields_in(header_file, "--header-file")
    try:
        way = Gateway.at(gateway, timeout_s=timeout_s)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--gateway") from error
    counts = _Counts()
    with lines_of(file) as lines, progress("warm") as advance, ThreadPoolExecutor(concurrency) as threads:
        running: set[Future[Answered]] = set()
        for asked in _paced(_requests(lines, headers, counts), rate):
            running.add(threads.submit(way.send, asked))
            if len(running) >= concurrency:
                running = counts.add_done(running, advance=advance)
        while running:
            running = counts.add_done(running, advance=advance)
    document = counts.document()
    if output is Output.JSON:
        print_json(document)
    else:
        typer.echo("\n".join(table(counts.rows())))
    if counts.first_fault:
        typer.echo(f"aicache: {counts.first_fault}", err=True)
    if counts.failed or counts.unreadable or not counts.results:
        raise typer.Exit(1)


def _requests(lines: Iterator[tuple[int, bytes]], headers: Mapping[str, str], counts: _Counts) -> Iterator[Requested]:
    """Those that can be sent; the others are counted."""
    for number, line in lines:
        try:
            asked = requested(line, number, headers)
            if asked.body is None:
                raise BadLine(f"line {number}: has no body")
        except BadLine as error:
            counts.unreadable += 1
            counts.first_fault = counts.first_fault or str(error)
            continue
        yield asked


def _paced(requests: Iterator[Requested], rate: float | None) -> Iterator[Requested]:
    due_s = time.monotonic()
    for asked in requests:
        if rate is not None:
            time.sleep(max(0.0, due_s - time.monotonic()))
            # Time that was lost is not caught up with: the rate is a limit, not an average.
            due_s = max(due_s, time.monotonic()) + 1 / rate
        yield asked


class _Counts:
    """What came of the requests."""

    def __init__(self) -> None:
        self.results: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.statuses: Counter[str] = Counter()
        self.failed = 0
        self.unreadable = 0
        self.first_fault = ""

    def add_done(self, running: set[Future[Answered]], *, advance: Advance) -> set[Future[Answered]]:
        """Wait for one at least, count those that are done, and give the others back."""
        done, others = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            self._add(future.result())
        advance(len(done))
        return others

    def _add(self, answered: Answered) -> None:
        self.results[answered.result] += 1
        if answered.reason:
            self.reasons[answered.reason] += 1
        if answered.status:
            self.statuses[str(answered.status)] += 1
        if answered.fault or answered.status >= 400:
            self.failed += 1
            self.first_fault = self.first_fault or answered.fault or f"the upstream answered {answered.status}"

    def document(self) -> dict[str, object]:
        """As JSON has it."""
        return {
            "requests": self.results.total(),
            "results": dict(self.results),
            "reasons": dict(self.reasons.most_common()),
            "statuses": dict(self.statuses),
            "failed": self.failed,
            "unreadable": self.unreadable,
        }

    def rows(self) -> Iterator[tuple[str, str]]:
        """For people."""
        yield "requests", str(self.results.total())
        for result, count in self.results.most_common():
            yield f"  {result}", str(count)
        for reason, count in self.reasons.most_common():
            yield "why", f"{count} {reason}"
        yield "failed", str(self.failed)
        if self.unreadable:
            yield "lines that are no requests", str(self.unreadable)
