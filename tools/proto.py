"""Compiles `proto/*.proto` to `ai_cache_extproc/_generated/`; `--check` fails when the result differs from what is there.

protoc is told that the files lie in the package, so the generated imports and descriptor names are the package's.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from tools.tracked import ROOT

PACKAGE = "ai_cache_extproc/_generated"
GENERATED_SUFFIXES = ("_pb2.py", "_pb2.pyi")


def generate(sources: Path, target: Path) -> None:
    """Compile every file in `sources` to classes and their types in `target`/ai_cache_extproc/_generated."""
    names = sorted(path.name for path in sources.glob("*.proto"))
    target.mkdir(parents=True, exist_ok=True)
    with resources.as_file(resources.files("grpc_tools") / "_proto") as google:
        subprocess.run(
            [
                sys.executable,
                "-m",
                "grpc_tools.protoc",
                f"--proto_path={PACKAGE}={sources}",
                f"--proto_path={google}",
                f"--python_out={target}",
                f"--mypy_out=quiet:{target}",
                *(f"{PACKAGE}/{name}" for name in names),
            ],
            check=True,
            # protoc finds the mypy plugin on the path, which holds this interpreter's scripts only in an activated shell.
            env={**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"},
        )


def differences(expected: Path, actual: Path) -> Iterator[str]:
    """What differs between two folders of generated files."""
    names = {path.name for folder in (expected, actual) for path in folder.glob("*_pb2.py*")}
    for name in sorted(name for name in names if name.endswith(GENERATED_SUFFIXES)):
        if not (expected / name).exists():
            yield f"{PACKAGE}/{name}: no proto file makes it"
        elif not (actual / name).exists():
            yield f"{PACKAGE}/{name}: missing"
        elif (expected / name).read_bytes() != (actual / name).read_bytes():
            yield f"{PACKAGE}/{name}: differs"


def check() -> int:
    """Print what `make proto` would change; 1 if anything."""
    with tempfile.TemporaryDirectory() as folder:
        generate(ROOT / "proto", Path(folder))
        faults = list(differences(Path(folder) / PACKAGE, ROOT / PACKAGE))
    print("\n".join([*faults, "run `make proto`"]) if faults else "proto: generated code is up to date")
    return 1 if faults else 0


def main() -> int:
    """Regenerate in place, or only compare."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--check", action="store_true", help="change nothing; fail on a difference")
    if arguments.parse_args().check:
        return check()
    generate(ROOT / "proto", ROOT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
