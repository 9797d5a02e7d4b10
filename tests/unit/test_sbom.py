"""`make sbom`: what the image installs, from the lock that it is installed from."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ai_cache_extproc import __version__
from tools import sbom

ROOT = Path(__file__).resolve().parents[2]


def test_every_locked_package_is_in_it_with_its_hashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names, versions and hashes are those of the lock, and who needs whom leads from the project to all of them."""
    written = tmp_path / "sbom.json"
    monkeypatch.setattr("sys.argv", ["sbom", "runtime", str(written)])
    assert 0 == sbom.main()
    document = json.loads(written.read_text())
    text = (ROOT / "requirements" / "runtime.txt").read_text()
    assert sorted(re.findall(r"^([a-z0-9][\w.-]*==\S+)", text, re.MULTILINE)) == sorted(
        f"{component['name']}=={component['version']}" for component in document["components"]
    )
    hashes = {each["content"] for part in document["components"] for each in part["externalReferences"][0]["hashes"]}
    assert set(re.findall(r"sha256:(\w+)", text)) == hashes
    root = document["metadata"]["component"]
    assert (f"pkg:pypi/ai-cache-extproc@{__version__}", sbom.SPEC) == (root["purl"], document["specVersion"])
    needs = {each["ref"]: each.get("dependsOn", []) for each in document["dependencies"]}
    reached, ahead = set(), [root["bom-ref"]]
    while ahead:
        reached.add(ref := ahead.pop())
        ahead += [each for each in needs[ref] if each not in reached]
    assert set(needs) == reached
    assert "://" not in str([part["externalReferences"] for part in document["components"]])
