"""A real Prometheus (Debian's package `prometheus`) that scrapes a sidecar several times a second."""

from __future__ import annotations

import json
import shutil
import time
import urllib.parse
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
import yaml

from tests.support.gateway import ROOT, Process, free_port

INTERVAL_MS = 250
PATIENCE_S = 30
RULES = ROOT / "deploy" / "prometheus" / "aicache.rules.yaml"

Labels = tuple[tuple[str, str], ...]
Values = Mapping[Labels, float]
"""The value of each series of an instant, by its labels."""


def needs(program: str) -> str:
    """The program's path; skips where it is not installed."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed: apt-get install prometheus")
    return found


class Prometheus:
    """A context manager. targets: addresses whose /metrics it scrapes, as the job "aicache".

    Alerts fire at once: what they wait for in the shipped rules (`for`) is left out.
    """

    def __init__(self, folder: Path, targets: Iterable[str]) -> None:
        self._program = needs("prometheus")
        self._folder = folder
        self._targets = list(targets)
        self._port = free_port()

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        rules = yaml.safe_load(RULES.read_text())
        for rule in rules["groups"][0]["rules"]:
            rule.pop("for", None)
        (self._folder / "rules.yaml").write_text(yaml.safe_dump(rules))
        interval = f"{INTERVAL_MS}ms"
        document = {
            "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
            "rule_files": ["rules.yaml"],
            "scrape_configs": [{"job_name": "aicache", "static_configs": [{"targets": self._targets}]}],
        }
        (self._folder / "prometheus.yml").write_text(yaml.safe_dump(document))
        command = [self._program, f"--config.file={self._folder / 'prometheus.yml'}"]
        command += [f"--storage.tsdb.path={self._folder / 'data'}", f"--web.listen-address=127.0.0.1:{self._port}"]
        self._process = Process(command, self._folder / "prometheus.log")
        self._process.wait_ready(f"http://127.0.0.1:{self._port}/-/ready")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.stop()

    def at(self, expr: str, moment_s: float | None = None) -> Values:
        """What an expression gives at a moment, or now. Fails with Prometheus' own words if it is refused."""
        asked = {"query": expr} | ({} if moment_s is None else {"time": f"{moment_s:.3f}"})
        series = self._ask(asked)["result"]
        return {tuple(sorted(each["metric"].items())): float(each["value"][1]) for each in series}

    def scrapes(self) -> list[float]:
        """When the last scrapes of a minute were, in seconds since the epoch."""
        (series,) = self._ask({"query": 'aicache_build_info{job="aicache"}[1m]'})["result"]
        return [float(moment_s) for moment_s, _ in series["values"]]

    def wait_for(self, expr: str, expected: float) -> float:
        """Return once an expression has one series of this value; the moment of the first scrape that shows it."""
        give_up = time.monotonic() + PATIENCE_S
        while True:
            for moment_s in self.scrapes()[-2:] if self.at("up == 1") else ():
                if [expected] == list(self.at(expr, moment_s).values()):
                    return moment_s
            assert time.monotonic() < give_up, f"{expr} is {self.at(expr)}, not {expected}"
            time.sleep(INTERVAL_MS / 1000)

    def _ask(self, asked: Mapping[str, str]) -> Any:
        url = f"http://127.0.0.1:{self._port}/api/v1/query"
        request = urllib.request.Request(url, data=urllib.parse.urlencode(asked).encode())
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return json.loads(response.read())["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{asked['query']}: {error.read().decode()}") from None
