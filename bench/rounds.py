"""One round of one variant: a run of the load generator between two readings of the processes' CPU time."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from bench.cpu import tree_cpu_s
from bench.load import Outcome
from bench.processes import ROOT, Child
from bench.stream import Lags
from bench.traffic import STAMPED_CHUNKS

RUN_S_MAX = 180


class NotAsExpected(RuntimeError):
    """The answers of a run were not those that the variant is about."""


@dataclass(frozen=True, slots=True)
class Variant:
    """What is measured. children: the processes on its way, by the name of their column.

    expect: HTTP and cache status of every answer, as in `Outcome.seen`.
    questions: how many take turns; 0 where every question is asked once. answers: how many there are to those.
    rate: requests per second; 0 for as many as the connections can ask one after the other.
    """

    name: str
    port: int
    children: Mapping[str, Child]
    topic: str
    requests: int
    expect: str
    questions: int = 0
    answers: int = 0
    rate: int = 0
    stream: bool = False


@dataclass(frozen=True, slots=True)
class Sample:
    """One round. cpu_us: microseconds per request, or per stream, of each process.

    p50_ms, p99_ms: from request to answer, or for streams from the upstream's write to the client's read.
    """

    cpu_us: Mapping[str, float]
    per_second: float
    p50_ms: float
    p99_ms: float


def measure(variant: Variant, *, first: int) -> Sample:
    """Run one round; `first` numbers the unique questions. Raises NotAsExpected."""
    before = {name: tree_cpu_s(child.pid) for name, child in variant.children.items()}
    outcome = _listen(variant, first) if variant.stream else _load(variant, first)
    after = {name: tree_cpu_s(child.pid) for name, child in variant.children.items()}
    return Sample(
        {name: (after[name] - before[name]) / variant.requests * 1e6 for name in after},
        per_second=variant.requests / outcome.seconds,
        p50_ms=outcome.p50_ms,
        p99_ms=outcome.p99_ms,
    )


def load(port: int, *arguments: str | int) -> Outcome:
    """Run the load generator; for the arguments see there."""
    return Outcome(**json.loads(_run("bench.load", port, *arguments)))


def _load(variant: Variant, first: int) -> Outcome:
    questions = variant.questions or variant.requests
    arguments = ("--topic", variant.topic, "--requests", variant.requests, "--rate", variant.rate)
    numbering = ("--first", 0 if variant.questions else first, "--distinct", questions)
    outcome = load(variant.port, *arguments, *numbering)
    # The upstream gives every answer an id of its own: as many ids, as many answers of the upstream.
    answers = variant.answers or variant.requests
    if outcome.seen != {variant.expect: variant.requests} or outcome.ids != answers:
        raise NotAsExpected(f"{variant.name}: {outcome} instead of {variant.expect} only")
    return outcome


def _listen(variant: Variant, first: int) -> Lags:
    arguments = ("--topic", variant.topic, "--streams", variant.requests, "--first", first)
    lags = Lags(**json.loads(_run("bench.stream", variant.port, *arguments)))
    chunks = variant.requests * STAMPED_CHUNKS
    missed = variant.requests if "MISS" in variant.expect else 0
    if (lags.streams, lags.missed, lags.chunks) != (variant.requests, missed, chunks):
        raise NotAsExpected(f"{variant.name}: {lags} instead of {variant.requests} whole streams")
    return lags


def _run(module: str, port: int, *arguments: str | int) -> str:
    command = [sys.executable, "-m", module, "--port", str(port), *map(str, arguments)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=RUN_S_MAX, check=False)
    if ran.returncode != 0:
        raise NotAsExpected(f"{module}: {ran.stderr.strip().splitlines()[-1]}")
    return ran.stdout
