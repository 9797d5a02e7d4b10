"""GJSON paths in a parsed tree: what it can tell, what it leaves to the text, and that both say the same."""

from __future__ import annotations

import json

import orjson
import pytest

from ai_cache_extproc.paths import Found, PathBudget, compile_path
from ai_cache_extproc.paths.gjson.syntax import Path
from ai_cache_extproc.paths.gjson.tree import ASK_TEXT, MISSING, string_of, walk
from ai_cache_extproc.paths.gjson.work import unlimited

BODY = r"""{"model": "m", "messages": [{"role": "system", "content": "a"}, {"role": "user", "content": "b\n"},
    {"role": "user", "content": ["c", {"d": 1}]}], "n": 0, "big": 12345678901234567890123, "f": 1.50, "e": 1e3,
    "neg": -0, "t": true, "z": null, "i": 64, "s": "{\"in\": 1}", "": "empty", "none": []}"""
TREE = orjson.loads(BODY)
NOT_THE_BODY = b"not looked at"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("model", "m"),
        ("messages.0.role", "system"),
        ("messages.@reverse.1.content", "b\n"),
        ("messages.@reverse.@reverse.0.content", "a"),
        ("messages|@reverse|2|content", "a"),
        ("messages.@this.0.role", "system"),
        ("messages.@valid.0.role", "system"),
        ("@reverse.model", "m"),
        ("messages.#", "3"),
        ('messages.#(role=="user").content', "b\n"),
        ('messages.#(role=="user")#|@reverse.1.content', "b\n"),
        ('messages.#(role=="user")#|#', "2"),
        ("messages.#(role%u*).content", "b\n"),
        ("messages.#(content.1.d==1).role", "user"),
        ("messages.2.content.#(d>0).d", "1"),
        ('messages.2.content.#(=="c")', "c"),
        ("messages.2.content.#(d).d", "1"),
        ("messages.#(nope==~null).role", "system"),
        ("messages.#(content==~*)#|2.role", "user"),
        ("t", "true"),
        ("z", ""),
        ("f", "1.5"),
        ("e", "1000"),
        ("i", "64"),
        ("model|@this", "m"),
        ("", "empty"),
    ],
)
def test_the_tree_tells(path: str, expected: str) -> None:
    """Names, numbers, counts, queries, `@reverse` and `@this` never look at the text."""
    found = compile_path(path).find(NOT_THE_BODY, TREE)
    assert found is not None
    assert expected == found.string


@pytest.mark.parametrize(
    "path",
    [
        "nope",
        "messages.7",
        "messages.7.content",
        "messages.x",
        "model.x",
        "s.in",
        "messages.0.role.x",
        "messages.#(role==7).role",
    ],
)
def test_the_tree_tells_that_nothing_is_there(path: str) -> None:
    """A name, an element or a match that is missing is missing in the text too."""
    assert walk(Path(path.encode()), TREE, unlimited()) is MISSING
    assert compile_path(path).find(NOT_THE_BODY, TREE) is None


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("mod*", "m"),
        ("*.0.role", "system"),
        ("messages.#.role", '["system","user","user"]'),
        ('messages.#(role=="user")#.role', '["user","user"]'),
        ("messages.2.content.#(d)#.d", "[1]"),
        ('messages.2.content.#(=="c").x', None),
        ("messages.@keys.#", "3"),
        ("model.@tostr", '"m"'),
        ("{model}", '{"model":"m"}'),
        ("s|in", None),
        ("nope|@tostr", ""),
        ("messages.9|@tostr", ""),
        ('!"x"', "x"),
        ("..0.model", "m"),
        ("messages.#(*==user).content", "b\n"),
        ("messages.#(content.#.d).role", "user"),
        ("messages.#(role==user).nope|@tostr", ""),
        ("messages.#(role==nobody)|@tostr", ""),
    ],
)
def test_only_the_text_tells(path: str, expected: str | None) -> None:
    """Patterns, what makes a text of its own, and what looks into a string are read in the text."""
    assert walk(Path(path.encode()), TREE, unlimited()) is ASK_TEXT
    found = compile_path(path).find(BODY, TREE)
    assert expected == (found and found.string)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("messages.0", '{"role": "system", "content": "a"}'),
        ("messages.@reverse.0.content", '["c", {"d": 1}]'),
        ('messages.#(role=="user")', r'{"role": "user", "content": "b\n"}'),
        ("none", "[]"),
        ("none.#", "0"),
        ("n", "0"),
        ("neg", "-0"),
        ("big", "12345678901234567890123"),
    ],
)
def test_cut_out_of_the_text(path: str, expected: str) -> None:
    """Containers come as they are written, and so do numbers whose spelling the tree does not keep."""
    found = compile_path(path).find(BODY.encode(), TREE)
    assert found is not None
    assert expected == found.string == found.raw


def test_a_tree_of_the_standard_library() -> None:
    """Integers of any size are told by the tree."""
    found = compile_path("big").find(NOT_THE_BODY, json.loads(BODY))
    assert found is not None
    assert "12345678901234567890123" == found.string


@pytest.mark.parametrize(
    ("path", "raw"),
    [("messages.1.content", r'"b\n"'), ("f", "1.50"), ("t", "true"), ("z", "null"), ("messages.#", "3")],
)
def test_raw(path: str, raw: str) -> None:
    """The JSON text of what is found is looked up when it is asked for, whichever way it was found."""
    for found in (compile_path(path).find(BODY), compile_path(path).find(BODY, TREE)):
        assert isinstance(found, Found)
        assert raw == found.raw


@pytest.mark.parametrize("root", [1, "x", True, 0.5], ids=["number", "string", "literal", "fraction"])
def test_a_root_that_is_no_container(root: object) -> None:
    """There is nothing inside of it; modifiers take it as it is."""
    document = orjson.dumps(root)
    assert compile_path("a").find(document, root) is None
    found = compile_path("@this").find(document, root)
    assert found is not None
    assert json.loads(found.raw) == root


def test_a_long_query_ends_with_the_budget() -> None:
    """Each element that a query looks at is paid for; turning an array round costs nothing."""
    tree = {"a": [{"b": 1}] * 100}
    assert compile_path("a.#(b==2).b", steps_max=400).find(b"", tree) is None
    with pytest.raises(PathBudget):
        compile_path("a.#(b==2).b", steps_max=200).find(b"", tree)
    assert compile_path("|".join(["@reverse"] * 200) + ".0", steps_max=0).find(b"", ["x"] * 100_000) is not None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a", "a"),
        (None, ""),
        (True, "true"),
        (False, "false"),
        (7, "7"),
        (-0.0, "-0"),
        (1e22, None),
        (0, None),
        ({}, None),
    ],
    ids=repr,
)
def test_string_of(value: object, expected: str | None) -> None:
    """What the tree keeps of a value's spelling."""
    assert expected == string_of(value)
