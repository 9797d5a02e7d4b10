"""Everything that is measured, started side by side and warm."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from bench import litellm_proxy
from bench.gateway import start_envoy
from bench.processes import Child, Processes
from bench.redis_server import start_redis
from bench.rounds import NotAsExpected, Variant, load
from bench.sidecar import Sidecar, start_sidecar

HIT_TOPIC = "hit"
QUESTIONS = 64
"""More than connections, so that two requests for one question rarely meet: they would share one read."""
PACE = 1000
"""Requests per second that every server here can answer."""
WARM_S_MAX = 20.0
WARM_REQUESTS = 500
EXCHANGE_OF_A_HIT = 2
"""Messages each way: the request's headers, its body."""

Sizes = dict[str, int]
FULL: Sizes = {"plain": 16_000, "hit": 5_000, "miss": 4_000, "stream": 24, "litellm": 300, "paced": 3_000}
QUICK: Sizes = {"plain": 4_000, "hit": 2_000, "miss": 1_000, "stream": 8, "litellm": 100, "paced": 1_000}


class Rig:
    """Starts variants by name; each has an Envoy of its own, and all have one upstream."""

    def __init__(self, processes: Processes, sizes: Sizes) -> None:
        self._processes = processes
        self._sizes = sizes
        self._upstream = processes.start_module("upstream", "bench.upstream")
        self._upstream_port = self._upstream.printed_port()

    def plain(self) -> Iterator[Variant]:
        """Envoy without the filter: answers and streams of the upstream."""
        envoy = start_envoy(self._processes, "envoy-plain", upstream_port=self._upstream_port, sidecar_port=None)
        children = {"envoy": envoy.child, "upstream": self._upstream}
        yield Variant("plain", envoy.port, children, "plain", self._sizes["plain"], "200")
        yield Variant("plain-stream", envoy.port, children, "plain", self._sizes["stream"], "200", stream=True)

    def hits(self) -> Iterator[Variant]:
        """The yardstick, and the sidecar on hits with and without the near cache; busy, then all at one pace.

        A busy server hands several streams on at a time, and the faster it is the more: that flatters the yardstick.
        """
        near = start_sidecar(self._processes, "near")
        sqlite = start_sidecar(self._processes, "sqlite", near=False)
        redis = start_sidecar(self._processes, "redis", near=False, redis_port=start_redis(self._processes))
        noop = self._processes.start_module("noop", "bench.noop", *self.record(near))
        busy = (
            self._hit("noop", noop, noop.printed_port(), answers=1),
            self._hit("near", near.child, near.port, answers=QUESTIONS),
            self._hit("sqlite", sqlite.child, sqlite.port, answers=QUESTIONS),
            self._hit("redis", redis.child, redis.port, answers=QUESTIONS),
        )
        yield from busy
        for variant in busy:
            yield replace(variant, name=f"{variant.name}-paced", requests=self._sizes["paced"], rate=PACE)

    def misses(self) -> Iterator[Variant]:
        """The sidecar on questions that were never asked before."""
        sidecar = start_sidecar(self._processes, "miss")
        port, children = self._behind_envoy("miss", sidecar.child, sidecar.port)
        yield Variant("miss", port, children, "miss", self._sizes["miss"], "200 MISS")
        yield Variant("miss-stream", port, children, "miss", self._sizes["stream"], "200 MISS", stream=True)

    def litellm(self) -> Iterator[Variant]:
        """LiteLLM's proxy on hits, if pip installs it."""
        try:
            command = litellm_proxy.install()
        except litellm_proxy.NotInstalled as error:
            print(f"litellm: left out, pip says: {error}")
            return
        child, port = litellm_proxy.start_litellm(self._processes, command, upstream_port=self._upstream_port)
        yield self._warm("litellm", port, {"server": child}, "200", answers=QUESTIONS)

    def record(self, sidecar: Sidecar) -> list[Path]:
        """The files of what the sidecar replies to an exchange that hits."""
        folder = self._processes.folder / "recorded"
        folder.mkdir()
        recorder = self._processes.start_module("recorder", "bench.recorder", f"127.0.0.1:{sidecar.port}", folder)
        port, _ = self._behind_envoy("recorder", recorder, recorder.printed_port())
        warm_hits(port, "200 HIT", requests=1)
        replies = sorted(folder.glob("replied-*.bin"))
        if len(replies) != EXCHANGE_OF_A_HIT:
            raise NotAsExpected(f"a hit took {len(replies)} replies")
        return replies

    def _hit(self, name: str, server: Child, server_port: int, *, answers: int) -> Variant:
        port, children = self._behind_envoy(name, server, server_port)
        return self._warm(name, port, children, "200 HIT", answers=answers)

    def _warm(self, name: str, port: int, children: dict[str, Child], expect: str, *, answers: int) -> Variant:
        warm_hits(port, expect, questions=QUESTIONS, answers=answers)
        requests = self._sizes["litellm" if name == "litellm" else "hit"]
        return Variant(name, port, children, HIT_TOPIC, requests, expect, questions=QUESTIONS, answers=answers)

    def _behind_envoy(self, name: str, server: Child, server_port: int) -> tuple[int, dict[str, Child]]:
        envoy = start_envoy(
            self._processes, f"envoy-{name}", upstream_port=self._upstream_port, sidecar_port=server_port
        )
        return envoy.port, {"envoy": envoy.child, "server": server, "upstream": self._upstream}


def warm_hits(port: int, expect: str, *, requests: int = WARM_REQUESTS, questions: int = 1, answers: int = 1) -> None:
    """Ask until a whole run is as expected: its statuses, and how many answers it got. Raises NotAsExpected."""
    give_up = time.monotonic() + WARM_S_MAX
    numbering = ("--topic", HIT_TOPIC, "--requests", requests, "--distinct", questions)
    while True:
        outcome = load(port, *numbering, "--connections", min(requests, 48))
        if outcome.seen == {expect: requests} and outcome.ids == answers:
            return
        if time.monotonic() > give_up:
            raise NotAsExpected(f"no hits within {WARM_S_MAX:g} s: {outcome}")
