"""The checks of `make check` find what they are for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import floors, proto, sizes, tree
from tools.docs import configuration, phases, reference
from tools.docs.__main__ import documents
from tools.docs.tables import table
from tools.tracked import ROOT, tracked


def test_a_long_file_is_named() -> None:
    """A file over 400 lines is refused, one of 400 is not."""
    assert [] == list(sizes.faults_in("x = 1\n" * 400, "a.py"))
    assert ["a.py:1: 401 lines, at most 400"] == list(sizes.faults_in("x = 1\n" * 401, "a.py"))


def test_a_long_function_is_named_and_its_docstring_is_free() -> None:
    """A function over 70 lines is refused wherever it stands; lines of its docstring do not count."""
    body = "        x = 1\n" * 70
    too_long = f"class A:\n    async def f(self):\n{body}"
    documented = f'class A:\n    def f(self):\n        """One.\n\n        Two.\n        """\n{body[: -len("        x = 1" + chr(10))]}'
    assert ["a.py:2: f has 71 lines, at most 70"] == list(sizes.faults_in(too_long, "a.py"))
    assert [] == list(sizes.faults_in(documented, "a.py"))


@pytest.mark.parametrize(
    "line",
    [
        "see /" + "work/main/x",
        "path = '/" + "root/.cache'",
        "cd /" + "home/someone/x",
        "--index" + "-url https://mirror.example/simple",
        "https://files.py" + "thonhosted.org/packages",
        "ai-cache-extproc @ file" + ":///srv/x",
    ],
)
def test_a_line_that_names_a_machine_is_found(line: str) -> None:
    """Paths of one machine and addresses of package indexes are refused, with file and line."""
    faults = list(tree.faults_in(f"fine\n{line}\n", "a.md"))
    assert ["a.md:2"] == [fault[:6] for fault in faults]


@pytest.mark.parametrize(
    "line", ["GET /v1/work/items", "WORKDIR /home/nonroot", "https://example.org/root", "docs/work/x"]
)
def test_a_harmless_line_is_let_through(line: str) -> None:
    """Words that only look like a machine's paths are no fault."""
    assert [] == list(tree.faults_in(line, "a.md"))


def test_a_file_under_its_floor_is_named() -> None:
    """The floor is 95 %, and 100 % where an error costs somebody an answer that is not theirs."""
    covered = {
        "ai_cache_extproc/app.py": 95.0,
        "ai_cache_extproc/cli/run.py": 94.9,
        "ai_cache_extproc/keys/scope.py": 99.0,
        "ai_cache_extproc/cache/exact.py": 100.0,
    }
    assert [
        "ai_cache_extproc/cli/run.py: 94.90 % covered, at least 95 %",
        "ai_cache_extproc/keys/scope.py: 99.00 % covered, at least 100 %",
    ] == list(floors.faults_in(covered))


def test_generated_messages_are_compared(tmp_path: Path) -> None:
    """A generated file that differs, is missing or has no source is named."""
    fresh, there = tmp_path / "fresh", tmp_path / "there"
    proto.generate(ROOT / "proto", fresh)
    fresh /= proto.PACKAGE
    there.mkdir()
    names = sorted(path.name for path in fresh.iterdir())
    for name in names:
        (there / name).write_bytes((fresh / name).read_bytes())
    assert [] == list(proto.differences(fresh, there))
    (there / names[0]).write_text("edited")
    (there / names[1]).unlink()
    (there / "stray_pb2.py").touch()
    assert [
        f"{proto.PACKAGE}/{names[0]}: differs",
        f"{proto.PACKAGE}/{names[1]}: missing",
        f"{proto.PACKAGE}/stray_pb2.py: no proto file makes it",
    ] == sorted(proto.differences(fresh, there))


def test_generated_documents_are_up_to_date() -> None:
    """What `make docs` would write is what is there."""
    assert [] == [path.name for path, text in documents(ROOT).items() if path.read_text() != text]


def test_the_diagram_goes_between_its_markers() -> None:
    """The rest of the page stays as it was, and a page without the markers is refused."""
    page = f"before\n{phases.BEGIN}\nold\n{phases.END}\nafter\n"
    written = phases.put_into(page)
    assert written == phases.put_into(written)
    assert "old" not in written
    assert written.startswith("before\n")
    assert written.endswith("\nafter\n")
    with pytest.raises(ValueError, match="phases"):
        phases.put_into("no markers")


def test_every_setting_and_metric_is_described() -> None:
    """The configuration's own table names every setting of the first level, and each metric has a row."""
    page = configuration.page()
    assert "`lookup`" in page
    assert "| `deadline_ms` | integer | `50` | milliseconds, ≥ 1 |" in page
    assert "`aicache_requests_total`" in reference.metrics_page()
    assert "`no_credential`" in reference.reasons_page()


def test_a_table_keeps_its_cells() -> None:
    """A bar or a line break inside a cell does not end it."""
    assert "| a |\n| --- |\n| x \\| y z |" == table(("a",), [("x | y\nz",)])


def test_files_that_git_does_not_see_are_left_out() -> None:
    """The checks read what would be committed and nothing else."""
    names = {path.relative_to(ROOT).as_posix() for path in tracked()}
    assert "pyproject.toml" in names
    assert not any(name.startswith(".venv/") or "__pycache__" in name for name in names)
