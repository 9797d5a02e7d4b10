"""What `CI_NO_SKIPS=1` does to tests that skip themselves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).resolve().parents[1] / "conftest.py"

SKIPS = {
    "in the test": "import pytest\n\ndef test_one():\n    pytest.skip('no engine here')\n",
    "by a mark": "import pytest\n\n@pytest.mark.skip(reason='no engine here')\ndef test_one():\n    pass\n",
    "the whole file": "import pytest\n\npytest.skip('no engine here', allow_module_level=True)\n",
}
EXPECTED_FAILURE = "import pytest\n\n@pytest.mark.xfail(reason='known')\ndef test_one():\n    assert False\n"


ONE_PROCESS, WORKERS = (), ("-p", "xdist", "--numprocesses=1")


def _run(folder: Path, source: str, *arguments: str, no_skips: bool) -> subprocess.CompletedProcess[str]:
    shutil.copy(CONFTEST, folder)
    (folder / "test_one.py").write_text(source)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "CI_", "COV"))}
    # The file imports the tests' helpers. Plugins take longer than the test.
    environment |= {"PYTHONPATH": str(CONFTEST.parents[1]), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-ra", "-p", "no:cacheprovider", *arguments, "test_one.py"],
        cwd=folder,
        env=environment | ({"CI_NO_SKIPS": "1"} if no_skips else {}),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("arguments", [ONE_PROCESS, WORKERS], ids=["one process", "workers"])
@pytest.mark.parametrize("where", SKIPS)
def test_a_skip_fails_in_ci(tmp_path: Path, where: str, arguments: tuple[str, ...]) -> None:
    """However a test skips itself, the run fails and shows the reason."""
    ran = _run(tmp_path, SKIPS[where], *arguments, no_skips=True)
    assert ran.returncode not in {0, 5}
    assert "no engine here" in ran.stdout


@pytest.mark.parametrize("where", SKIPS)
def test_a_skip_is_shown_elsewhere(tmp_path: Path, where: str) -> None:
    """Outside CI the run goes on and shows the reason."""
    ran = _run(tmp_path, SKIPS[where], no_skips=False)
    assert ran.returncode in {0, 5}
    assert "no engine here" in ran.stdout


def test_an_expected_failure_is_no_skip(tmp_path: Path) -> None:
    """A test that is marked to fail may fail in CI too."""
    assert _run(tmp_path, EXPECTED_FAILURE, no_skips=True).returncode == 0
