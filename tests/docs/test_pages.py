"""What pages tell a reader to type: every document is a good one, and every page of commands is followed by a test."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ai_cache_extproc.config.load import load
from tests.support.gateway import ROOT
from tests.support.pages import Reader, blocks

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("**/*.md")])
ELSEWHERE = {
    "README.md": "tests/e2e/test_demo.py tests/e2e/test_envoy_files.py tests/e2e/test_admin_docs.py",
    "docs/export.md": "tests/unit/test_cli_transfer.py",
    "docs/kubernetes.md": "tests/deploy/test_secrets.py tests/deploy/test_manifests.py tests/deploy/test_chart.py",
    "docs/operations.md": "tests/grpc/test_process.py tests/unit/test_cli_check.py",
    "docs/quickstart.zh.md": "tests/docs/test_pages.py",
    "docs/replay.md": "tests/unit/test_cli_replay.py tests/unit/test_cli_warm.py",
}
"""Pages whose commands are run by tests that do not read them."""
_YAML = re.compile(r"^```yaml\n(.*?)^```", re.DOTALL | re.MULTILINE)
_SETTING = re.compile(r"`((?:rules\[\]|store|near|index|embedder)\.[a-z_.]+)`")
_CODE = re.compile(r"^```\w*\n.*?^```", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_of_a_page_are_run(page: Path) -> None:
    """By a test that reads the page, or by those that run the same commands."""
    name = str(page.relative_to(ROOT))
    words = [f'"{part}"' for part in page.relative_to(ROOT).parts[1:]]
    readers = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "tests").rglob("test_*.py")
        if words and all(word in path.read_text() for word in words)
    ]
    assert readers or name in ELSEWHERE, name
    assert [] == [test for test in ELSEWHERE.get(name, "").split() if not (ROOT / test).exists()]


@pytest.mark.parametrize("name", ["README.md", "docs/migration.md"])
def test_documents_on_a_page_are_good_ones(tmp_path: Path, name: str) -> None:
    """Each whole document loads."""
    documents = [text for text in _YAML.findall((ROOT / name).read_text()) if "\nenvoy: " in f"\n{text}"]
    assert documents
    for text in documents:
        path = tmp_path / "aicache.yaml"
        path.write_text(text)
        assert not load(path, environ={}).embedded


def test_the_settings_of_the_migration_page_exist() -> None:
    """Each that it names has a row in the list of all settings."""
    known = (ROOT / "docs" / "configuration.md").read_text()
    named = set(_SETTING.findall((ROOT / "docs" / "migration.md").read_text()))
    assert len(named) > 10
    assert [] == [setting for setting in sorted(named) if f"| `{setting.rpartition('.')[2]}` |" not in known]


def test_the_migration_pages_commands_run(tmp_path: Path) -> None:
    """The document of its comparison is a good one to `aicache check`."""
    page = ROOT / "docs" / "migration.md"
    (document,) = _YAML.findall(page.read_text())
    with Reader(tmp_path) as reader:
        (tmp_path / "aicache.yaml").write_text(document)
        (said,) = reader.follow(page)
    assert "aicache.yaml: good" in said


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "docs").glob("*.zh.md")))
def test_a_page_in_chinese_shows_the_code_of_the_page_in_english(name: str) -> None:
    """Block by block in its order, but for comments; it may be shorter. Each page leads to the other."""
    chinese = (ROOT / "docs" / f"{name}.md").read_text()
    english = (ROOT / "docs" / f"{name.removesuffix('.zh')}.md").read_text()
    ahead = map(_uncommented, _CODE.findall(english))
    assert [] == [block for block in map(_uncommented, _CODE.findall(chinese)) if block not in ahead]
    assert f"[中文]({name}.md)" in english
    assert f"[English]({name.removesuffix('.zh')}.md)" in chinese


def _uncommented(block: str) -> str:
    return re.sub(r" *# .*", "", block)
