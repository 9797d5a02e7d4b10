"""Paths into JSON documents: GJSON, or JSONPath where a path begins with `$`."""

from __future__ import annotations

from functools import lru_cache

from ai_cache_extproc.paths.found import (
    JSONPATH_NODES_MAX,
    STEPS_MAX,
    Found,
    Path,
    PathBudget,
    PathError,
)
from ai_cache_extproc.paths.gjson.path import GJSONPath

__all__ = ["compile_path", "Found", "Path", "PathBudget", "PathError", "STEPS_MAX", "JSONPATH_NODES_MAX"]

_JSONPATH = "$"


@lru_cache(maxsize=256)
def compile_path(text: str, *, steps_max: int = STEPS_MAX, jsonpath_nodes_max: int = JSONPATH_NODES_MAX) -> Path:
    r"""A path of either language; a GJSON path whose first name begins with `$` is written `\$`.

    steps_max: what a GJSON search may cost. jsonpath_nodes_max: see `JSONPATH_NODES_MAX`.
    Raises PathError for a path that must not be configured.
    """
    if not text.startswith(_JSONPATH):
        return GJSONPath(text, steps_max=steps_max)
    # Only those who use it load the library.
    from ai_cache_extproc.paths.jsonpath import JSONPath  # noqa: PLC0415

    return JSONPath(text, nodes_max=jsonpath_nodes_max)
