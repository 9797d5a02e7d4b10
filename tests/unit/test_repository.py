"""What the repository says about itself is so: locks, commands, links, docstrings of tests."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from ai_cache_extproc import __version__
from ai_cache_extproc.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("requirements/*.md")])


def _pins(name: str) -> dict[str, Version]:
    lines = (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()
    pinned = (line.removesuffix(" \\").split("==") for line in lines if re.match(r"[a-z0-9]", line))
    return {project: Version(version) for project, version in pinned}


def _targets() -> dict[str, str]:
    """The targets that people call, each with the line that `make help` shows for it."""
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony is not None
    helped = dict(re.findall(r"^([a-z-]+):.*?## (.+)$", makefile, re.MULTILINE))
    return {name: helped.get(name, "") for name in phony.group(1).split()}


def _tests() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                yield f"{path.relative_to(ROOT)}::{node.name}", node


@pytest.mark.parametrize(
    ("lock", "extras"),
    [("runtime", []), ("embedded", ["embedded", "semantic"]), ("demo", ["envoy"]), ("dev", ["envoy", "test", "dev"])],
)
def test_every_dependency_is_locked(lock: str, extras: list[str]) -> None:
    """What pyproject.toml asks for stands in its lock, in a version that it allows."""
    pins = _pins(lock)
    wanted = [*PROJECT["dependencies"], *(line for extra in extras for line in PROJECT["optional-dependencies"][extra])]
    for requirement in map(Requirement, wanted):
        assert pins[canonicalize_name(requirement.name)] in requirement.specifier, requirement


def test_locks_agree() -> None:
    """No library has one version for serving and another for the tests."""
    dev = _pins("dev")
    for lock in ("runtime", "embedded", "demo", "build"):
        pins = _pins(lock)
        assert pins == {name: dev[name] for name in pins}
    assert _pins("runtime").items() <= _pins("demo").items()
    assert _pins("runtime").items() <= _pins("embedded").items()


@pytest.mark.parametrize("lock", ["runtime", "embedded", "demo", "dev", "build"])
def test_locks_hold_hashes_and_no_address(lock: str) -> None:
    """Every pinned version has a hash, and no line says where it came from."""
    text = (ROOT / "requirements" / f"{lock}.txt").read_text()
    entries = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert [] == [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry]
    assert "://" not in text


def test_what_generates_grpc_code_is_of_the_version_that_runs_it() -> None:
    """The compiler of the messages and the library that carries them are released together."""
    dev = _pins("dev")
    assert {dev["grpcio"]} == {dev["grpcio-tools"], dev["grpcio-health-checking"]}


def test_generated_messages_run_on_every_protobuf_that_is_allowed() -> None:
    """The lowest version that pyproject.toml allows is not older than the compiler's."""
    requirement = next(line for line in PROJECT["dependencies"] if line.startswith("protobuf"))
    lowest = next(Version(bound.version) for bound in Requirement(requirement).specifier if bound.operator == ">=")
    for path in (ROOT / "ai_cache_extproc" / "_generated").glob("*_pb2.py"):
        made_for = re.search(r"^# Protobuf Python Version: (.+)$", path.read_text(), re.MULTILINE)
        assert made_for is not None
        assert Version(made_for.group(1)) <= lowest


def test_make_alone_lists_every_target() -> None:
    """`make` without a target prints one line for each target and does nothing else."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    printed = subprocess.run(["make"], cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    for name, line in _targets().items():
        assert line, name
        assert re.search(rf"^  make {name} +{re.escape(line)}$", printed, re.MULTILINE), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_on_a_page_exist(page: Path) -> None:
    """Every `make TARGET` and `aicache COMMAND` in code is one."""
    text = page.read_text()
    code = "\n".join(
        [*re.findall(r"```(?:bash|console)\n(.*?)```", text, re.DOTALL), *re.findall(r"`([^`\n]+)`", text)]
    )
    for target in re.findall(r"\bmake ([a-z][\w-]*)", code):
        assert target in _targets(), target
    for command in re.findall(r"(?:^|\s|/)aicache ([a-z][\w-]*)", code):
        assert command in COMMANDS, command


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_on_a_page_lead_somewhere(page: Path) -> None:
    """Every link inside the repository names a file that is there, and a heading that is in it."""
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        path, _, anchor = link.partition("#")
        if "://" in path:
            continue
        target = page.parent / path if path else page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}, link


def test_the_changelog_says_what_is_next() -> None:
    """There is a place for the next change, and its groups are those of Keep a Changelog."""
    text = (ROOT / "CHANGELOG.md").read_text()
    sections = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert "[Unreleased]" == sections[0]
    groups = set(re.findall(r"^### (.+)$", text, re.MULTILINE))
    assert groups <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_versions_are_released_once() -> None:
    """The package's version is one of the changelog's, or is still to come."""
    released = [
        Version(found) for found in re.findall(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    ]
    assert released == sorted(released, reverse=True)
    assert all(version <= Version(__version__) for version in released)


def test_ci_runs_what_people_run() -> None:
    """CI is executable, and calls the same two targets, without a skip."""
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    text = script.read_text()
    assert "make check test" == text.splitlines()[-1]
    assert "export CI_NO_SKIPS=1" in text


def test_every_test_says_what_it_shows() -> None:
    """Each test has a docstring of one sentence or a short paragraph."""
    silent = [name for name, test in _tests() if not (ast.get_docstring(test) or "").endswith((".", "?", "!"))]
    assert [] == silent


def test_decisions_are_numbered_once() -> None:
    """Each record has a number of its own, which its title repeats."""
    records = sorted(ROOT.glob("docs/decisions/[0-9]*.md"))
    numbers = [path.name[:4] for path in records]
    assert numbers == sorted(set(numbers))
    for path in records:
        assert re.match(rf"# 0*{int(path.name[:4])}\. \w", path.read_text()), path.name
