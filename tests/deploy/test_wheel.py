"""The wheel, installed without the source tree beside it: what is in it, and that it runs, serves and takes a plugin."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from ai_cache_extproc import __version__
from tests.docs.test_examples import EXAMPLES, statuses
from tests.support.gateway import ROOT
from tests.support.pages import Reader, blocks
from tools.tracked import tracked

NOT_BUILT = {"bench", "deploy", "docs", "envoy", "examples", "proto", "tests", "tools"}
PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The wheels of this project and of the example of a store, built as `make wheel` does."""
    folder = tmp_path_factory.mktemp("wheels")
    made = []
    for source in (ROOT, EXAMPLES / "custom_backend"):
        # Elsewhere than in the tree, so that nothing is left in it.
        build = folder / "build" / source.name
        for path in tracked():
            if path.is_relative_to(source) and path.relative_to(source).parts[0] not in NOT_BUILT:
                copy = build / path.relative_to(source)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(path.read_bytes())
        command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(build)]
        subprocess.run(command, check=True, capture_output=True)
        made.append(max(folder.glob("*.whl"), key=lambda path: path.stat().st_mtime_ns))
    return made


@pytest.fixture(scope="module")
def installed(wheels: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `aicache` of a fresh environment with both wheels. What they depend on is lent by the environment of the tests."""
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    subprocess.run([*PIP, "--python", str(python), "install", "--no-deps", "--no-index", *map(str, wheels)], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    # A path in such a file is taken as it stands: the links of editable installs in it are not followed.
    (site / "lent.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return folder / "bin" / "aicache"


def test_the_wheel_holds_the_package_and_nothing_else(wheels: list[Path]) -> None:
    """The code, its types, data files and the licence; no test, no document."""
    with zipfile.ZipFile(wheels[0]) as wheel:
        names = wheel.namelist()
    roots = {name.partition("/")[0] for name in names}
    assert {"ai_cache_extproc", f"ai_cache_extproc-{__version__}.dist-info"} == roots
    own = {name.removeprefix("ai_cache_extproc/") for name in names}
    assert {"py.typed", "_generated/ext_proc_pb2.py", "_generated/ext_proc_pb2.pyi", "plugins.py"} <= own
    package = ROOT / "ai_cache_extproc"
    shipped = {str(path.relative_to(ROOT)) for path in tracked() if path.is_relative_to(package)}
    assert set() == shipped - set(names)
    assert {"LICENSE", "NOTICE"} <= {name.rpartition("/")[2] for name in names}


def test_what_is_installed_is_what_runs(installed: Path, tmp_path: Path) -> None:
    """The command says the wheel's version, and its modules are those of the new environment."""
    said = subprocess.run([installed, "--version"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert __version__ in said
    where = "import ai_cache_extproc; print(ai_cache_extproc.__file__)"
    python = installed.with_name("python")
    file = subprocess.run([python, "-c", where], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert Path(file.strip()).is_relative_to(installed.parents[1])


def test_the_store_of_a_package_is_served_by_the_wheel(installed: Path, tmp_path: Path) -> None:
    """`examples/custom_backend` as its README says: checked, a miss, a hit, and a file in the folder."""
    page = EXAMPLES / "custom_backend" / "README.md"
    with Reader(tmp_path, aicache=[str(installed)], source=False) as reader:
        checked, _, first, kept = reader.follow(page)
        again = reader.run(blocks(page)[2])
    assert "files, of the package aicache-files 0.1.0" in checked
    assert ["MISS"] == statuses(first)
    assert "identity.key" in kept
    assert ".entry" in kept
    assert ["HIT"] == statuses(again)
