"""A progress bar on standard error, where that is a terminal: what a command prints stays what programs read."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

Advance = Callable[[int], None]


@contextmanager
def progress(label: str, *, total: int | None = None) -> Iterator[Advance]:
    """Yield what moves the bar on by so many steps. total: None where it is not known before the end."""
    columns = (
        SpinnerColumn(),
        TextColumn(label),
        BarColumn(),
        TaskProgressColumn(show_speed=True),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("", total=total)
        yield lambda steps: bar.advance(task, steps)
