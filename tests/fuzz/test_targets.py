"""The fuzz targets: a few hundred mutated inputs each with `make test`, a minute under atheris with `make soak`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.drive import corpus, mutate
from tests.fuzz.targets import TARGETS
from tests.support.soak import SOAK

ROOT = Path(__file__).parents[2]
SECONDS = 60


@pytest.mark.parametrize("target", TARGETS)
def test_mutated_inputs_are_no_fault(target: str) -> None:
    """The same ones each time."""
    assert 300 == mutate(target, count=300, seed=8)


@pytest.mark.parametrize("target", TARGETS)
def test_the_corpus_is_no_fault(target: str) -> None:
    """What every run begins with."""
    for data in corpus():
        TARGETS[target](data)


if SOAK:

    @pytest.mark.parametrize("target", TARGETS)
    def test_a_minute_of_fuzzing_finds_nothing(target: str, tmp_path: Path) -> None:
        """Guided by coverage where there is an atheris for this interpreter."""
        command = [
            sys.executable,
            "-m",
            "tests.fuzz.drive",
            target,
            "--seconds",
            str(SECONDS),
            "--folder",
            str(tmp_path),
        ]
        ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        print(ran.stdout[-500:], ran.stderr[-1500:])
        assert 0 == ran.returncode, ran.stderr[-5000:]
