"""The command line as a whole: help, usage, exit codes, and what `serve` refuses."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from ai_cache_extproc import __version__, cli
from tests.support.terminal import Terminal, terminal


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Terminal:
    """A terminal of its own."""
    return terminal(capsys, monkeypatch, tmp_path)


@pytest.mark.parametrize("command", ["serve", "check", "explain", "stats"])
def test_every_command_has_help_with_an_example(run: Terminal, command: str) -> None:
    """`--help` shows how the command is called."""
    code, out, _ = run(command, "--help")
    assert 0 == code
    assert f"Example: aicache {command}" in out


def test_the_help_names_every_command(run: Terminal) -> None:
    """With a line for each; without any argument too."""
    code, out, _ = run("--help")
    assert 0 == code
    for name, command in cli.COMMANDS.items():
        assert name in out
        assert command.summary in out
    assert "Example: aicache serve" in out
    code, out, err = run()
    assert 2 == code
    assert "serve" in out + err


def test_the_version_is_printed(run: Terminal) -> None:
    """One line, for people and programs."""
    assert (0, f"aicache {__version__}\n", "") == run("--version")


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["--nonsense"],
        ["check"],
        ["check", "a", "b"],
        ["explain"],
        ["stats", "--output", "xml"],
        ["serve", "--workers", "0"],
    ],
)
def test_wrong_usage_ends_with_2(run: Terminal, arguments: list[str]) -> None:
    """Nothing is printed where a program reads, and no traceback anywhere."""
    code, out, err = run(*arguments)
    assert (2, "") == (code, out)
    assert "Traceback" not in err


def test_a_missing_extra_says_what_to_install(run: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the command that needs it minds."""

    def lacking(_name: str) -> None:
        raise ModuleNotFoundError("No module named 'envoy_data_plane'", name="envoy_data_plane.envoy.config")

    monkeypatch.setattr(cli, "import_module", lacking)
    code, out, err = run("envoy-config")
    assert (1, "") == (code, out)
    assert "pip install 'ai-cache-extproc[envoy]'" in err


def test_any_other_missing_module_is_a_fault_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not explained away."""

    def lacking(_name: str) -> None:
        raise ModuleNotFoundError("No module named 'orjson'", name="orjson")

    monkeypatch.setattr(cli, "import_module", lacking)
    with pytest.raises(ModuleNotFoundError):
        cli.main(["check", "x"])


def test_help_and_stats_import_nothing_heavy() -> None:
    """The sidecar's parts, gRPC and Envoy's types stay out of what does not need them."""
    program = (
        "import sys, contextlib\n"
        "from ai_cache_extproc.cli import main\n"
        "with contextlib.suppress(SystemExit): main(['--help'])\n"
        "with contextlib.suppress(SystemExit): main(['stats', '--help'])\n"
        "heavy = {'grpc', 'uvicorn', 'starlette', 'envoy_data_plane', 'pydantic_settings', 'structlog'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "[]" == done.stderr.strip()


def test_the_module_is_the_command() -> None:
    """`python -m ai_cache_extproc` does the same; importing it runs nothing."""
    import_module("ai_cache_extproc.__main__")
    done = subprocess.run(
        [sys.executable, "-m", "ai_cache_extproc", "--version"], capture_output=True, text=True, check=True
    )
    assert f"aicache {__version__}\n" == done.stdout


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--listen", "nonsense"], "--listen: listen"),
        (["--listen", "0.0.0.0:0"], "set insecure_listen: true"),
        (["--admin", "nonsense"], "--admin: admin"),
        (["--workers", "3", "--listen", "127.0.0.1:1", "--listen", "127.0.0.1:2"], "has 2 addresses for 3 workers"),
        (["--config", "/nonexistent.yaml"], "/nonexistent.yaml: cannot be read"),
    ],
)
def test_serve_refuses_to_start_with_a_line(run: Terminal, arguments: list[str], fault: str) -> None:
    """What must not start ends with 1, and the line names the flag or the file."""
    code, out, err = run("serve", *arguments)
    assert (1, "") == (code, out)
    (line,) = err.splitlines()
    assert fault in line
