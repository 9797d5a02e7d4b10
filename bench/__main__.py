"""`python -m bench run` measures everything side by side; `python -m bench profile near` shows where a hit's time goes."""

from __future__ import annotations

import argparse
import itertools
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.cpu import machine_cpu_s, tree_cpu_s
from bench.paths import paths
from bench.processes import ROOT, Processes
from bench.profile import profile
from bench.report import markdown, write_document
from bench.results import Samples
from bench.rig import FULL, QUICK, Rig
from bench.rounds import NotAsExpected, Sample, Variant, measure
from bench.sidecar import start_sidecar

GROUPS = ("plain", "hits", "misses", "litellm")
FIRST_STEP = 100_000
"""Between the first numbers of two runs, so that no question is asked twice."""
TRIES = 3
OTHERS_CORES_MAX = 0.2


def run(arguments: argparse.Namespace) -> None:
    """Measure, print the tables, and write them where that was asked for."""
    with tempfile.TemporaryDirectory() as folder, Processes(Path(folder)) as processes:
        rig = Rig(processes, QUICK if arguments.quick else FULL)
        variants = [variant for group in arguments.only for variant in getattr(rig, group)()]
        others = Others()
        samples = interleaved(variants, rounds=arguments.rounds)
        cores = others.cores()
        staged = _staged(Path(folder)) if "hits" in arguments.only else ""
    command = shlex.join(["python", "-m", "bench", *sys.argv[1:]])
    conditions = [("other processes", f"{cores:.2f} cores"), ("command", f"`{command}`")]
    text = markdown(samples, stages=staged, conditions=conditions)
    print(text)
    if cores > OTHERS_CORES_MAX:
        _say(f"others used {cores:.2f} cores meanwhile: hits cost more than they do on a quiet machine, ours most")
    if arguments.write_docs:
        write_document(text)


def interleaved(variants: Sequence[Variant], *, rounds: int) -> Samples:
    """Every variant once in each round, so that a slow minute of the machine meets all of them."""
    firsts = itertools.count(FIRST_STEP, FIRST_STEP)
    samples: dict[str, list[Sample]] = defaultdict(list)
    for number in range(rounds):
        _say(f"round {number + 1} of {rounds}")
        for variant in variants:
            samples[variant.name].append(_measured(variant, firsts))
    return samples


def _measured(variant: Variant, firsts: Iterator[int]) -> Sample:
    """A run that was as expected; on a machine that is short of time, Envoy may let a request pass the sidecar."""
    for _ in range(TRIES - 1):
        try:
            return measure(variant, first=next(firsts))
        except NotAsExpected as error:
            _say(f"once more: {error}")
    return measure(variant, first=next(firsts))


class Others:
    """How much of the machine everyone else takes, from here on."""

    def __init__(self) -> None:
        self._since_s = time.monotonic()
        self._before_s = self._used_s()

    def cores(self) -> float:
        """Cores that processes which are not of this bench have kept busy on average."""
        return (self._used_s() - self._before_s) / (time.monotonic() - self._since_s)

    @staticmethod
    def _used_s() -> float:
        return machine_cpu_s() - tree_cpu_s(os.getpid())


def stages(_arguments: argparse.Namespace) -> None:
    """Record a hit through Envoy, then drive the core with it."""
    with tempfile.TemporaryDirectory() as folder, Processes(Path(folder)) as processes:
        Rig(processes, QUICK).record(start_sidecar(processes, "near"))
        print(_staged(Path(folder)))


def _staged(folder: Path) -> str:
    """The table of `bench.stages` for what was recorded in `folder`."""
    asked = [str(path) for path in sorted(folder.glob("recorded/asked-*.bin"))]
    command = [sys.executable, "-m", "bench.stages", *asked]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = parser.add_subparsers(required=True)
    running = commands.add_parser("run", help="measure everything side by side")
    running.add_argument("--rounds", type=int, default=7)
    running.add_argument("--quick", action="store_true", help="fewer requests in each round")
    running.add_argument("--only", nargs="+", choices=GROUPS, default=GROUPS)
    running.add_argument("--write-docs", action="store_true", help="put the tables into docs/performance.md")
    running.set_defaults(call=run)
    staging = commands.add_parser("stages", help="show what each stage of a near hit costs, without gRPC")
    staging.set_defaults(call=stages)
    pathing = commands.add_parser("paths", help="show what GJSON and JSONPath cost, hostile bodies included")
    pathing.set_defaults(call=paths)
    profiling = commands.add_parser("profile", help="show where the sidecar's time goes")
    profiling.add_argument("variant", choices=("near", "sqlite", "redis", "miss"))
    profiling.add_argument("--requests", type=int, default=5_000)
    profiling.add_argument("--top", type=int, default=40)
    profiling.set_defaults(call=profile)
    words = sys.argv[1:]
    # `make bench` passes options only.
    if not words or (words[0].startswith("--") and words[0] != "--help"):
        words.insert(0, "run")
    arguments = parser.parse_args(words)
    arguments.call(arguments)


if __name__ == "__main__":
    main()
