"""docs/envoy.md: every command on it runs, in order; what it says of files is so."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.support.gateway import ROOT
from tests.support.pages import Reader, blocks
from tests.support.terminal import Terminal, terminal

PAGE = ROOT / "docs" / "envoy.md"


BLOCKS = blocks(PAGE)


def test_a_first_run(tmp_path: Path) -> None:
    """A miss, a hit and a clean bill from the running Envoy, with the shipped files as they are."""
    with Reader(tmp_path) as reader:
        _, asked, looked = (reader.run(block) for block in BLOCKS[:3])
    assert ["MISS", "HIT"] == re.findall(r"x-ai-cache-status: (\w+)", asked)
    assert 'listener "llm": nothing is amiss' in looked


def test_what_is_generated_is_not_dangerous(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The commands that need no server, for each kind of gateway."""
    run = terminal(capsys, monkeypatch, tmp_path)
    (tmp_path / "envoy").symlink_to(ROOT / "envoy")
    monkeypatch.chdir(tmp_path)
    printed = "".join(_followed(run, block) for block in BLOCKS[3:])
    assert 2 == printed.count('listener "llm": nothing is amiss')
    assert 2 == printed.count('EnvoyFilter "ai-cache": nothing is amiss')
    kinds = [each["kind"] for each in yaml.safe_load_all(Path("policies.yaml").read_text())]
    assert ["Backend", "EnvoyExtensionPolicy", "ClientTrafficPolicy", "BackendTrafficPolicy"] == kinds


def _followed(run: Terminal, block: str) -> str:
    """What a block's commands print; a shell and a process for each would take half a minute."""
    printed = ""
    for line in block.replace("\\\n", " ").splitlines():
        command, _, file = line.partition(" > ")
        name, *arguments = shlex.split(command)
        if name != "aicache":
            subprocess.run(line, shell=True, check=True, timeout=10)
            continue
        code, out, error = run(*arguments)
        assert (0, "") == (code, error), line
        if file:
            Path(file).write_text(out)
        else:
            printed += out
    return printed


def test_every_shipped_file_is_on_the_page() -> None:
    """Each is named there; the one of docker-compose is no kind of deployment."""
    shipped = {path.name for path in (ROOT / "envoy").glob("*.yaml")} - {"envoy-compose.yaml"}
    assert shipped == set(re.findall(r"\]\(\.\./envoy/([\w.-]+)\)", PAGE.read_text()))
