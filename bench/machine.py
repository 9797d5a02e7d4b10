"""What a table of figures has to say about where it was made; nothing that names the machine."""

from __future__ import annotations

import os
import platform
import subprocess
import sysconfig
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("grpcio", "protobuf", "uvloop", "orjson")


def description() -> list[tuple[str, str]]:
    """Pairs of what and which."""
    return [
        ("date", datetime.now(UTC).strftime("%Y-%m-%d")),
        ("processor", f"{_processor()}, {os.cpu_count()} cores"),
        ("kernel", f"{platform.system()} {platform.release().partition('-')[0]}"),
        ("Python", platform.python_version()),
        ("Envoy", _envoy_version()),
        *((name, version(name)) for name in PACKAGES),
    ]


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _envoy_version() -> str:
    envoy = Path(sysconfig.get_path("scripts")) / "envoy"
    shown = subprocess.run([str(envoy), "--version"], capture_output=True, text=True, check=True).stdout
    # "envoy  version: COMMIT/1.40.0/Clean/RELEASE/BoringSSL", behind a path that may hold slashes too.
    return shown.rpartition("version:")[2].split("/")[1]
