"""Writes what a lock installs as a CycloneDX document: every package with its version and the hashes that are accepted."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ai_cache_extproc import __version__
from tools.tracked import ROOT

SPEC = "1.6"


def sbom_of(lock: str) -> dict[str, Any]:
    """The document for `requirements/LOCK.txt`, alike for like locks. Raises CalledProcessError where it is no valid one."""
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "sbom.json"
        command = [
            *(sys.executable, "-W", "ignore::UserWarning", "-m", "cyclonedx_py", "requirements"),
            *("--sv", SPEC, "--output-reproducible", "--mc-type", "application", "--validate", "-o", str(written)),
            *("--pyproject", str(ROOT / "pyproject.toml"), str(ROOT / "requirements" / f"{lock}.txt")),
        ]
        subprocess.run(command, check=True, cwd=ROOT)
        document: dict[str, Any] = json.loads(written.read_text())
    root = document["metadata"]["component"]
    root["version"] = __version__
    root["purl"] = f"pkg:pypi/{root['name']}@{__version__}"
    for component in document["components"]:
        component.pop("description", None)
        # The address of an index is no part of what was locked: any that has these files will do.
        for reference in component.get("externalReferences", ()):
            reference["url"] = component["purl"]
    document["dependencies"] = list(_dependencies((ROOT / "requirements" / f"{lock}.txt").read_text(), document))
    return document


def _dependencies(lock: str, document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Who needs whom, as pip-compile has written it beside each package."""
    root = document["metadata"]["component"]
    refs = {component["name"]: component["bom-ref"] for component in [*document["components"], root]}
    needs: dict[str, list[str]] = {ref: [] for ref in refs.values()}
    for name, entry in re.findall(r"^([a-z0-9][\w.-]*)==(.*?)(?=^[a-z0-9]|\Z)", lock, re.DOTALL | re.MULTILINE):
        (via,) = re.findall(r"# via (.+)$", entry, re.MULTILINE)
        for parent in via.split(", "):
            # The rest names files that bound the versions.
            if (ref := refs.get(parent.partition(" ")[0])) is not None:
                needs[ref].append(refs[name])
    return ({"ref": ref, "dependsOn": sorted(needed)} if needed else {"ref": ref} for ref, needed in needs.items())


def main() -> int:
    """`python -m tools.sbom LOCK FILE`."""
    lock, path = sys.argv[1], Path(sys.argv[2])
    document = sbom_of(lock)
    path.write_text(json.dumps(document, indent=2) + "\n")
    print(f"{path}: {len(document['components'])} packages of requirements/{lock}.txt")
    return 0


if __name__ == "__main__":
    sys.exit(main())
