"""LiteLLM's proxy with its in-memory cache, from a virtual environment of its own that is kept between runs.

Its packages are locked with their hashes (`litellm.lock`), so that an index cannot put another release in their place.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from bench.processes import Child, Processes, free_port
from bench.traffic import API_KEY, MODEL

LOCK = Path(__file__).with_name("litellm.lock")
CACHE = Path(__file__).with_name(".cache")
INSTALL_S_MAX = 900
START_S_MAX = 120


class NotInstalled(RuntimeError):
    """pip did not install it; the text is pip's last line."""


def install() -> Path:
    """The environment's `litellm` command, installed on the first call. Raises NotInstalled."""
    folder = CACHE / f"litellm-{hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]}"
    done = folder / "installed"
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        CACHE.mkdir(exist_ok=True)
        # The folder hides itself from git.
        (CACHE / ".gitignore").write_text("*\n")
        _run(sys.executable, "-m", "venv", folder)
        _run(folder / "bin" / "pip", "install", "--quiet", "--require-hashes", "-r", LOCK)
        done.touch()
    return folder / "bin" / "litellm"


def version() -> str:
    """The locked release."""
    lines = LOCK.read_text().splitlines()
    return next(line.split("==")[1].split()[0] for line in lines if line.startswith("litellm=="))


def start_litellm(processes: Processes, command: Path, *, upstream_port: int) -> tuple[Child, int]:
    """Start one worker in front of the bench's upstream and wait until it is ready; returns its port too."""
    port = free_port()
    document = {
        "model_list": [
            {
                "model_name": MODEL,
                "litellm_params": {
                    "model": f"openai/{MODEL}",
                    "api_base": f"http://127.0.0.1:{upstream_port}/v1",
                    "api_key": "sk-upstream",
                },
            }
        ],
        # It does not start without one.
        "general_settings": {"master_key": API_KEY},
        "litellm_settings": {"cache": True, "cache_params": {"type": "local"}},
    }
    config = processes.folder / "litellm.yaml"
    config.write_text(yaml.safe_dump(document))
    child = processes.start(
        "litellm",
        [command, "--config", config, "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"],
        environ={"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"},
    )
    child.wait_ready(f"http://127.0.0.1:{port}/health/liveliness", seconds_max=START_S_MAX)
    return child, port


def _run(*command: str | Path) -> None:
    ran = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=INSTALL_S_MAX, check=False
    )
    if ran.returncode != 0:
        raise NotInstalled((ran.stderr.strip().splitlines() or ["no reason given"])[-1])
