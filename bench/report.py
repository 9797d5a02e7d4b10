"""The tables, as Markdown for people: on standard output and in `docs/performance.md`."""

from __future__ import annotations

from collections.abc import Sequence

from bench import litellm_proxy
from bench.machine import description
from bench.processes import ROOT
from bench.results import Judged, Samples, judged, middle
from bench.table import table

DOCUMENT = ROOT / "docs" / "performance.md"
BEGIN = "<!-- Written by `python -m bench run --write-docs`; what stands between these two lines is replaced. -->"
END = "<!-- Here it ends. -->"

TITLES = {
    "plain": "Envoy alone, to the upstream",
    "noop": "hit: no-op server",
    "near": "hit: near cache",
    "sqlite": "hit: SQLite",
    "redis": "hit: Redis",
    "noop-paced": "hit at 1000/s: no-op server",
    "near-paced": "hit at 1000/s: near cache",
    "sqlite-paced": "hit at 1000/s: SQLite",
    "redis-paced": "hit at 1000/s: Redis",
    "miss": "miss",
    "litellm": "hit: LiteLLM's proxy",
    "plain-stream": "Envoy alone",
    "miss-stream": "miss",
}


def markdown(samples: Samples, *, stages: str, conditions: Sequence[tuple[str, str]]) -> str:
    """Goals first, then the figures they come from, then the machine and the conditions of the run.

    stages: the table of `bench.stages`, or nothing.
    """
    parts = [_goals(judged(samples)), _requests(samples), _streams(samples), stages, _machine(conditions)]
    return "\n\n".join(part for part in parts if part)


def write_document(text: str) -> None:
    """Put `text` in its place in the document."""
    document = DOCUMENT.read_text()
    before, _, rest = document.partition(BEGIN)
    after = rest.partition(END)[2]
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")


def _goals(goals: Sequence[Judged]) -> str:
    rows = []
    for each in goals:
        unit = each.goal.unit
        bound = f"{'at least' if each.goal.at_least else 'at most'} {each.goal.bound:g}{unit}"
        spread = f"{each.smallest:.2f} to {each.largest:.2f}"
        kept = "yes" if each.kept else "**no**"
        rows.append((each.goal.text, bound, f"**{each.figure:.2f}{unit}**", spread, kept))
    return table(("Goal", "bound", "measured", "rounds", "kept"), rows)


def _requests(samples: Samples) -> str:
    rows = []
    for name, rounds in samples.items():
        if not name.endswith("-stream"):
            sample = middle(rounds)
            cpu = [_microseconds(sample.cpu_us.get(process)) for process in ("server", "envoy")]
            rows.append(
                (TITLES[name], *cpu, f"{sample.per_second:.0f}", f"{sample.p50_ms:.2f}", f"{sample.p99_ms:.2f}")
            )
    return table(("48 connections", "server, µs", "Envoy, µs", "requests/s", "p50, ms", "p99, ms"), rows)


def _streams(samples: Samples) -> str:
    rows = []
    for name, rounds in samples.items():
        if name.endswith("-stream"):
            sample = middle(rounds)
            cpu = [_microseconds(sample.cpu_us.get(process)) for process in ("server", "envoy")]
            rows.append((TITLES[name], *cpu, f"{sample.p50_ms:.2f}", f"{sample.p99_ms:.2f}"))
    header = ("8 streams at once, 50 chunks each", "server, µs", "Envoy, µs", "chunk lag p50, ms", "p99, ms")
    return table(header, rows)


def _machine(conditions: Sequence[tuple[str, str]]) -> str:
    rows = [*description(), ("LiteLLM", litellm_proxy.version()), *conditions]
    return table(("Machine", ""), rows)


def _microseconds(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"
