"""Where the sidecar's CPU time goes: by thread from the operating system, by function from cProfile.

The threads are measured without the profiler. The profiler makes every call dearer, small ones most of all: read its
column as shares.
"""

from __future__ import annotations

import argparse
import os
import pstats
import signal
import tempfile
import time
from pathlib import Path

from bench.cpu import thread_cpu_s
from bench.gateway import start_envoy
from bench.processes import ROOT, Processes
from bench.redis_server import start_redis
from bench.rig import HIT_TOPIC, QUESTIONS, warm_hits
from bench.rounds import load
from bench.sidecar import start_sidecar

DUMP_S_MAX = 20.0


def profile(arguments: argparse.Namespace) -> None:
    """Load a sidecar twice, without and with the profiler, and print both tables."""
    with tempfile.TemporaryDirectory() as folder, Processes(Path(folder)) as processes:
        upstream_port = processes.start_module("upstream", "bench.upstream").printed_port()
        dump = Path(folder) / "profile.out"
        run = ("-m", "bench.profiled", str(dump), "ai_cache_extproc")
        redis_port = start_redis(processes) if arguments.variant == "redis" else None
        near = arguments.variant not in {"redis", "sqlite"}
        sidecar = start_sidecar(processes, "profiled", near=near, redis_port=redis_port, run=run)
        envoy = start_envoy(processes, "envoy", upstream_port=upstream_port, sidecar_port=sidecar.port)
        asked: tuple[str | int, ...] = ("--topic", HIT_TOPIC, "--requests", arguments.requests)
        more: tuple[str | int, ...] = ()
        if arguments.variant == "miss":
            asked = (*asked, "--distinct", arguments.requests)
            more = ("--first", arguments.requests)
        else:
            asked = (*asked, "--distinct", QUESTIONS)
            warm_hits(envoy.port, "200 HIT", questions=QUESTIONS, answers=QUESTIONS)
        before = thread_cpu_s(sidecar.child.pid)
        load(envoy.port, *asked)
        after = thread_cpu_s(sidecar.child.pid)
        _print_threads({name: after[name] - before.get(name, 0) for name in after}, arguments.requests)
        os.kill(sidecar.child.pid, signal.SIGUSR1)
        load(envoy.port, *asked, *more)
        os.kill(sidecar.child.pid, signal.SIGUSR2)
        _print_functions(_read(dump), requests=arguments.requests, top=arguments.top)


def _read(dump: Path) -> pstats.Stats:
    give_up = time.monotonic() + DUMP_S_MAX
    while not dump.exists() and time.monotonic() < give_up:
        time.sleep(0.05)
    return pstats.Stats(str(dump))


def _print_threads(used_s: dict[str, float], requests: int) -> None:
    print("us per request  thread")
    for name, seconds in sorted(used_s.items(), key=lambda item: -item[1]):
        print(f"{seconds / requests * 1e6:14.2f}  {name}")


def _print_functions(stats: pstats.Stats, *, requests: int, top: int) -> None:
    print(f"\n{'calls':>7} {'own us':>8} {'with callees':>12}  function, per request")
    entries = stats.stats.items()  # type: ignore[attr-defined]  # left out of typeshed
    for (file, line, name), (_, calls, own_s, all_s, _) in sorted(entries, key=lambda entry: -entry[1][2])[:top]:
        place = f"{file.removeprefix(f'{ROOT}/')}:{line} {name}" if line else name
        print(f"{calls / requests:7.2f} {own_s / requests * 1e6:8.2f} {all_s / requests * 1e6:12.2f}  {place}")
