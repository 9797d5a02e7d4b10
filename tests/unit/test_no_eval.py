"""Nothing in the package turns bytes or text into code."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "ai_cache_extproc"
MODULES = {"pickle", "cPickle", "dill", "marshal", "shelve", "cloudpickle", "joblib", "jsonpickle"}
ALLOWED = {"extproc/orders.py": ["pickle"]}
"""From a supervisor to the worker processes that it started, over a socket pair that nobody else has."""
CALLS = {"eval", "exec", "compile", "__import__"}


def faults_in(source: str) -> Iterator[str]:
    """What must not be there: modules that unpickle, calls that run text, YAML that makes objects."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from (name.name for name in names if name.name.partition(".")[0] in MODULES)
            case ast.ImportFrom(module=str(module)) if module.partition(".")[0] in MODULES:
                yield module
            case ast.Call(func=ast.Name(id=name)) if name in CALLS:
                yield name
            case ast.Attribute(value=ast.Name(id="yaml"), attr="load" | "unsafe_load" | "full_load" as name):
                yield f"yaml.{name}"
            case _:
                pass


def test_nothing_unpickles_or_evaluates() -> None:
    """A stored value that a stranger wrote can be wrong, and no more than that."""
    found = {str(path.relative_to(PACKAGE)): list(faults_in(path.read_text())) for path in PACKAGE.rglob("*.py")}
    assert ALLOWED == {path: faults for path, faults in found.items() if faults}


@pytest.mark.parametrize(
    "source",
    ["import pickle", "from marshal import loads", "eval(text)", "exec(text)", "import yaml\nyaml.load(text)"],
    ids=["import", "from", "eval", "exec", "yaml"],
)
def test_what_would_is_found(source: str) -> None:
    """The search itself works."""
    assert list(faults_in(source))
