"""`aicache calibrate`: labelled pairs in; what each threshold serves, right and wrong, and the one for a budget out."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import structlog
import typer
from rich.console import Console
from rich.table import Table

from ai_cache_extproc.cache.guards.classes import classify
from ai_cache_extproc.cache.guards.rule import Mode
from ai_cache_extproc.cli.calibration import Curve, groups_of, thresholds_for
from ai_cache_extproc.cli.output import Output, OutputOption, print_json
from ai_cache_extproc.cli.pairs import BUILT_IN, OURS, Labelled, Pair, Sample, read_pairs
from ai_cache_extproc.cli.plotting import Chart, Line, Mark, check_plotting, draw
from ai_cache_extproc.cli.progress import progress
from ai_cache_extproc.config.embedders import EmbeddedEmbedder, Embedder, OnnxEmbedder
from ai_cache_extproc.config.load import load
from ai_cache_extproc.embedders import open_embedder
from ai_cache_extproc.errors import ConfigError
from ai_cache_extproc.telemetry.logs import LEVELS

if TYPE_CHECKING:
    from ai_cache_extproc.embedders.base import Vectors

TIMEOUT_MS = 60_000
CHARS_MAX = 512
"""Of a local model's texts, where nobody says otherwise: what serving measures at start is of no use here."""
NAMES = {"all": "all pairs", "en": "English", "zh": "Chinese", "other": "other languages, or two of them"}


class Model:
    """What is known of the embedder; nothing where no text had to be embedded. too_long: pairs that it does not take."""

    def __init__(self, identity: str | None = None, threshold: float | None = None) -> None:
        self.identity = identity
        self.threshold = threshold
        self.too_long = 0


def calibrate(
    *,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", metavar="FILE", help="Take the embedder of this configuration.")
    ] = None,
    embedder: Annotated[
        str | None, typer.Option("--embedder", metavar="TYPE", help="Or this one; `embedded` without either.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="The model of --embedder.")] = None,
    pairs: Annotated[
        list[str] | None,
        typer.Option(
            "--pairs", metavar="SET|FILE", help=f"{', '.join(BUILT_IN)}, or a file (docs/semantic.md); may be repeated."
        ),
    ] = None,
    guards: Annotated[Mode, typer.Option("--guards", help="The mode that has to keep the budget.")] = Mode.STRICT,
    wrong_max: Annotated[
        float,
        typer.Option("--wrong-max", min=0.001, max=0.5, help="The budget: pairs of different meaning that are served."),
    ] = 0.02,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE.png", help="Hits and wrong hits; needs the extra plot.")
    ] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show what each similarity threshold serves, right and wrong, and the lowest one within an error budget.

    Pairs of questions, labelled as of one meaning or not, are embedded and judged as the sidecar would; files of shadow mode
    are judged already. Secrets come from FILE or the environment (AICACHE__EMBEDDER__API_KEY_FILE=...).
    Exit code 1 where no threshold keeps the budget.

    Example: aicache calibrate --config aicache.yaml --pairs mine.tsv --wrong-max 0.01 --plot pairs.png
    """
    if config is not None and embedder is not None:
        raise typer.BadParameter("two embedders are named; leave out --embedder or --config")
    if model is not None and embedder is None:
        raise typer.BadParameter("--model belongs to an --embedder; name both")
    if plot is not None:
        check_plotting(plot)
    labelled = read_pairs(pairs or OURS)
    known = Model()
    samples = list(labelled.samples)
    if labelled.pairs:
        with _quiet():
            samples += asyncio.run(_embedded(_settings(config, embedder, model), labelled.pairs, known))
    if plot is not None:
        draw(_chart(samples, guards, known.threshold, wrong_max), plot)
    if output is Output.JSON:
        print_json(_document(samples, labelled, known, wrong_max) | {"plot": plot and str(plot)})
    else:
        _print(samples, labelled, known, wrong_max)
    if Curve(samples, guards).lowest(wrong_max).found is None:
        typer.echo(f"aicache: no threshold keeps wrong hits at {wrong_max:.1%} with guards: {guards}", err=True)
        raise typer.Exit(1)


def _settings(config: Path | None, embedder: str | None, model: str | None) -> Embedder:
    """Raises ConfigError where there is no embedder."""
    flags = {} if config is not None else {"embedder.type": embedder or "embedded"}
    if model is not None:
        flags["embedder.model"] = model
    found = load(config, flags=flags).config.embedder
    if found is None:
        raise ConfigError("embedder", "there is none; write `embedder: {type: embedded}`", source=str(config))
    if isinstance(found, EmbeddedEmbedder | OnnxEmbedder):
        # Nothing else is served here that it could hold up.
        changes = {"timeout_ms": TIMEOUT_MS, "chars_max": found.chars_max or CHARS_MAX, "scheduling": "normal"}
        return found.model_copy(update=changes)
    return found.model_copy(update={"timeout_ms": max(found.timeout_ms, TIMEOUT_MS)})


async def _embedded(settings: Embedder, pairs: Sequence[Pair], known: Model) -> list[Sample]:
    """The pairs with their cosines. known: is told what the embedder is. Raises BackendError."""
    async with open_embedder(settings) as embedder:
        known.identity, known.threshold = embedder.identity, embedder.default_threshold
        fit = [pair for pair in pairs if max(len(pair.asked), len(pair.stored)) <= embedder.chars_max]
        known.too_long = len(pairs) - len(fit)
        texts = list(dict.fromkeys(text for pair in fit for text in pair[:2]))
        batch = 1 if isinstance(settings, EmbeddedEmbedder | OnnxEmbedder) else settings.batch
        vectors: dict[str, Vectors] = {}
        with progress("embed", total=len(texts)) as advance:
            for start in range(0, len(texts), batch):
                asked = texts[start : start + batch]
                vectors |= dict(zip(asked, await embedder.embed(asked), strict=True))
                advance(len(asked))
    return [
        Sample(
            float(vectors[pair.asked] @ vectors[pair.stored]),
            pair.is_same,
            classify(pair.asked, pair.stored),
            pair.kind,
        )
        for pair in fit
    ]


def _document(samples: Sequence[Sample], labelled: Labelled, known: Model, wrong_max: float) -> dict[str, object]:
    thresholds = thresholds_for(samples, known.threshold)
    return {
        "embedder": known.identity,
        "default_threshold": known.threshold,
        "wrong_max": wrong_max,
        "left_out": {"too_long": known.too_long, "unsure": labelled.unsure},
        "groups": {name: _group(group, thresholds, wrong_max) for name, group in groups_of(samples).items()},
    }


def _group(samples: Sequence[Sample], thresholds: Sequence[float], wrong_max: float) -> Mapping[str, object]:
    curves = {mode: Curve(samples, mode) for mode in Mode}
    same = sum(sample.is_same for sample in samples)
    return {
        "same": same,
        "different": len(samples) - same,
        "modes": {
            str(mode): {
                "thresholds": [curve.at(threshold).document() for threshold in thresholds],
                "advice": curve.lowest(wrong_max).document(),
            }
            for mode, curve in curves.items()
        },
    }


def _print(samples: Sequence[Sample], labelled: Labelled, known: Model, wrong_max: float) -> None:
    # A table that is piped has nobody's width.
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    if known.identity is not None:
        said = "no default threshold" if known.threshold is None else f"default threshold {known.threshold:g}"
        console.print(f"embedder {known.identity}, {said}", markup=False)
    if known.too_long:
        console.print(
            f"{known.too_long} pairs are longer than it takes, and are left out: those are matched exactly only"
        )
    if labelled.unsure:
        console.print(f"{labelled.unsure} lines are left out, of which shadow mode is not sure")
    thresholds = thresholds_for(samples, known.threshold)
    for name, group in groups_of(samples).items():
        console.print(_table(NAMES[name], group, thresholds, known.threshold))
    for mode in Mode:
        for line in _advised(samples, mode, wrong_max):
            console.print(line, markup=False)


def _table(name: str, samples: Sequence[Sample], thresholds: Sequence[float], default: float | None) -> Table:
    same = sum(sample.is_same for sample in samples)
    title = f"{name}: served of {same} pairs of one meaning / of {len(samples) - same} others, with 95 % intervals"
    table = Table(title=title, title_justify="left")
    table.add_column("threshold")
    for mode in Mode:
        table.add_column(mode, justify="right")
        table.add_column("wrong", justify="right")
    curves = [Curve(samples, mode) for mode in Mode]
    for threshold in thresholds:
        served = (curve.at(threshold) for curve in curves)
        cells = (cell for each in served for cell in (str(each.hits), str(each.wrong)))
        table.add_row(f"{threshold:g}" + (" (default)" if threshold == default else ""), *cells, style=None)
    return table


def _advised(samples: Sequence[Sample], mode: Mode, wrong_max: float) -> Iterator[str]:
    advice = Curve(samples, mode).lowest(wrong_max)
    different = sum(not sample.is_same for sample in samples)
    if advice.found is None:
        yield f"{mode}: no threshold keeps wrong hits at {wrong_max:.1%} of {different} pairs of different meaning"
        return
    found = advice.found
    yield f"{mode}: {found.threshold:g} for at most {wrong_max:.1%} wrong: serves {found.hits}, wrongly {found.wrong}"
    if advice.promised is None and different < advice.different_needed:
        needed = advice.different_needed
        yield f"  no promise from {different} pairs of different meaning: {needed} without a wrong hit would be enough"
    elif advice.promised is None:
        yield "  no promise: some of different meaning are served wrongly at any threshold"
    elif (promised := advice.promised).threshold > found.threshold:
        yield f"  {promised.threshold:g} with 95 % confidence: serves {promised.hits}, wrongly {promised.wrong}"


def _chart(samples: Sequence[Sample], mode: Mode, default: float | None, wrong_max: float) -> Chart:
    first, last = thresholds_for(samples, default)[0], 1.0
    thresholds = [first + (last - first) * step / 200 for step in range(201)]
    lines = []
    for each in Mode:
        served = [Curve(samples, each).at(threshold) for threshold in thresholds]
        lines.append(Line(f"{each}: hits", thresholds, [one.hits.value for one in served]))
        lines.append(Line(f"{each}: wrong hits", thresholds, [one.wrong.value for one in served]))
    marks = [] if default is None else [Mark(f"default {default:g}", default)]
    found = Curve(samples, mode).lowest(wrong_max).found
    if found is not None and found.threshold >= first:
        marks.append(Mark(f"{mode}, at most {wrong_max:.1%} wrong: {found.threshold:g}", found.threshold))
    title = f"{len(samples)} labelled pairs"
    return Chart(title, "similarity threshold", "served", lines, marks, in_percent=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Standard output is for what was found; the embedder tells of itself on the other, if something is wrong."""
    configured = structlog.get_config()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS["warning"]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    try:
        yield
    finally:
        structlog.configure(**configured)
