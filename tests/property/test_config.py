"""Whatever stands in a document or a variable, the outcome is a configuration or a fault that says where."""

from __future__ import annotations

import re
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml
from hypothesis import given
from hypothesis import strategies as st

from ai_cache_extproc.config.load import load
from ai_cache_extproc.config.model import Config
from ai_cache_extproc.config.patterns import Wildcard
from ai_cache_extproc.errors import ConfigError, ConfigFaults

names = st.sampled_from(
    [*Config.model_fields, "type", "path", "deadline_ms", "match", "headers", "key", "name", "x", "<<"]
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["memory", "*", "/a"])
)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4))
snippets = st.lists(
    st.sampled_from(
        [
            "rules:\n",
            "  - ",
            "name: a\n",
            "&a ",
            "*a",
            "<<: ",
            "{",
            "}",
            "[",
            "]",
            ", ",
            ": ",
            "? ",
            "- ",
            "!!int ",
            "!x ",
            "'",
            "log:\n",
            "  level: info\n",
            "0b_",
            "2026-99-99",
            "1:30",
            '"\\',
            "\t",
            "\n",
            "---\n",
            "%YAML 9\n",
            "\x01",
            "\u2028",
            "|\n",
            "=",
            "#",
        ]
    ),
    max_size=12,
).map("".join)


def assert_told(text: str, *, suffix: str = "yaml", environ: dict[str, str] | None = None) -> None:
    """Loading gives a configuration, or faults with a reason, each on one line."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"aicache.{suffix}"
        path.write_text(text, encoding="utf-8", errors="surrogateescape", newline="")
        try:
            loaded = load(path, environ=environ or {})
        except (ConfigError, ConfigFaults) as error:
            for fault in error.faults:
                assert fault.reason
                assert fault.source is None or fault.source.startswith((str(path), "AICACHE__"))
        else:
            assert isinstance(loaded.config, Config)


@given(st.dictionaries(names, values, max_size=4))
def test_any_values_are_taken_or_told(document: dict[str, object]) -> None:
    """No value, of whatever type and wherever, escapes as another exception."""
    assert_told(yaml.safe_dump(document, allow_unicode=True))


@given(snippets)
def test_any_text_is_taken_or_told(text: str) -> None:
    """Nor does any text, YAML or not."""
    assert_told(text)


@given(snippets | st.text(max_size=30))
def test_any_text_is_taken_or_told_as_json(text: str) -> None:
    """Nor JSON, or what claims to be."""
    assert_told(text, suffix="json")
    assert_told('{"log": {"level": ' + text + "}}", suffix="json")


@given(
    st.lists(st.sampled_from([*Config.model_fields, "type", "path", "key", "x", "0", ""]), max_size=3).map("__".join),
    st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=8)
    | st.sampled_from(["[]", "{}", "null", "1", "[1]", '{"a": {"b": 1}}', "[" * 5000]),
)
def test_any_variable_is_taken_or_told(name: str, value: str) -> None:
    """Nor any variable."""
    assert_told("", environ={f"AICACHE__{name.upper()}": value})


@given(st.text("ab*", max_size=8), st.text("ab", max_size=10))
def test_wildcards_match_what_an_expression_matches(pattern: str, text: str) -> None:
    """Against the obvious translation into a regular expression."""
    expression = ".*".join(re.escape(piece) for piece in pattern.split("*"))
    assert bool(re.fullmatch(expression, text, re.DOTALL)) is Wildcard.of(pattern).matches(text)
