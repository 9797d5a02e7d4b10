"""Runs the command line in this process, and keeps what it printed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ai_cache_extproc import cli


class Terminal:
    """Runs a command and keeps what it printed."""

    def __init__(self, captured: pytest.CaptureFixture[str]) -> None:
        self._captured = captured

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        printed = self._captured.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    def json(self, *arguments: str) -> dict[str, object]:
        """The document that a good command prints."""
        code, out, err = self(*arguments, "--output", "json")
        assert (0, "") == (code, err)
        document = json.loads(out)
        assert isinstance(document, dict)
        return document


def written(tmp_path: Path, text: str) -> str:
    """A configuration in a file; its path."""
    path = tmp_path / "aicache.yaml"
    path.write_text(text)
    return str(path)


def terminal(captured: pytest.CaptureFixture[str], environment: pytest.MonkeyPatch, home: Path) -> Terminal:
    """A terminal without settings in its environment, wide enough for every line."""
    for name in [name for name in os.environ if name.upper().startswith("AICACHE")]:
        environment.delenv(name)
    environment.setenv("XDG_STATE_HOME", str(home / "state"))
    environment.setenv("COLUMNS", "200")
    return Terminal(captured)
