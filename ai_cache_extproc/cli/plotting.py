"""Charts as PNG files. Needs the extra `plot`, which is imported where a chart is asked for and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from ai_cache_extproc.errors import AICacheError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SIZE_INCHES = (9.0, 5.0)
_DOTS_PER_INCH = 120
SUFFIX = ".png"


class NoPlotting(AICacheError):
    """The extra is not installed, or the file is no PNG."""


@dataclass(frozen=True, slots=True)
class Line:
    """One curve; xs and ys are of the same length. is_step: the value stays until the next one."""

    label: str
    xs: Sequence[float]
    ys: Sequence[float]
    is_step: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """A vertical line at a value of x, such as a threshold."""

    label: str
    x: float


@dataclass(frozen=True, slots=True)
class Chart:
    """What is drawn. in_percent: ys are shares of 1, and the axis goes from 0 to 100 %."""

    title: str
    x_label: str
    y_label: str
    lines: Sequence[Line]
    marks: Sequence[Mark] = ()
    in_percent: bool = False


def check_plotting(file: Path) -> None:
    """Raise NoPlotting where `draw` could not write this file, before any work is done for it."""
    if file.suffix != SUFFIX:
        raise NoPlotting(f'the chart is a PNG: "{file}" must end in {SUFFIX}')
    if find_spec("matplotlib") is None:
        raise NoPlotting("matplotlib is missing; pip install 'ai-cache-extproc[plot]'")


def draw(chart: Chart, file: Path) -> None:
    """Write the chart as a PNG. Raises NoPlotting, and OSError where the file cannot be written."""
    check_plotting(file)
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra
    from matplotlib.ticker import PercentFormatter  # noqa: PLC0415 - an extra

    # No pyplot: it looks for a display and keeps every figure.
    figure = Figure(figsize=_SIZE_INCHES, dpi=_DOTS_PER_INCH, layout="constrained")
    axes = figure.add_subplot()
    _draw_lines(axes, chart)
    axes.set(title=chart.title, xlabel=chart.x_label, ylabel=chart.y_label)
    axes.grid(visible=True, alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if chart.in_percent:
        axes.set_ylim(0, 1)
        axes.yaxis.set_major_formatter(PercentFormatter(1))
    if len(chart.lines) + len(chart.marks) > 1:
        axes.legend(frameon=False)
    figure.savefig(file, format="png")


def _draw_lines(axes: Axes, chart: Chart) -> None:
    for line in chart.lines:
        axes.plot(
            list(line.xs), list(line.ys), label=_name(line.label), drawstyle="steps-post" if line.is_step else "default"
        )
    for mark in chart.marks:
        axes.axvline(mark.x, label=_name(mark.label), color="0.4", linestyle="--", linewidth=1)


def _name(text: str) -> str:
    """As it is: dollars would begin a formula, and an underscore would keep a name out of the legend."""
    text = text.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text
