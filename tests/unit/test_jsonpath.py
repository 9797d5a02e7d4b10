"""JSONPath through jsonpath-python: what it finds, what is refused, and what ends with the budget."""

from __future__ import annotations

import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import jsonpath  # type: ignore[import-untyped]  # it publishes no types
import pytest

from ai_cache_extproc.paths import JSONPATH_NODES_MAX, PathBudget, PathError, compile_path
from ai_cache_extproc.paths.jsonpath import VISITS_PER_NODE
from tests.support.paths import cases, find

BODY = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "a", "n": 1},
        {"role": "user", "content": "b", "n": 2, "tags": ["x", "y"]},
        {"role": "user", "content": "c", "x": {"y": [1, {"z": "deep"}]}},
    ],
    "a.b": 1,
    "a b": "blank",
    "0": "zero",
    "n": 5,
    "e": 1e21,
    "none": None,
    "yes": True,
    "empty": [],
}
DOCUMENT = json.dumps(BODY)

ALWAYS: dict[str, str | None] = {
    "$": json.dumps(BODY, separators=(",", ":")),
    "$.model": "m",
    "$['model']": "m",
    "$['a.b']": "1",
    "$['a b']": "blank",
    "$.messages[0].content": "a",
    "$['messages'][1]['content']": "b",
    "$.messages.1.content": "b",
    "$.messages[9].content": None,
    "$.messages[-1:].content": "c",
    "$.messages[-1:][0]": None,
    "$.messages[:1].content": "a",
    "$.messages[1:].content": '["b","c"]',
    "$.messages[0:2].role": '["system","user"]',
    "$.messages[::2].content": '["a","c"]',
    "$.messages[*].content": '["a","b","c"]',
    "$.messages.*.role": '["system","user","user"]',
    "$.messages[*].tags": '["x","y"]',
    "$.messages[*].nope": None,
    "$.messages[2].x.y[1].z": "deep",
    "$.messages[0]": '{"role":"system","content":"a","n":1}',
    "$.none": "",
    "$.yes": "true",
    "$.n": "5",
    "$.e": "1e+21",
    "$.empty": "[]",
    "$.empty[*]": None,
    "$.0": "zero",
    "$.model.x": None,
    "$.model[0]": None,
    "$.nope": None,
}
SEARCHING: dict[str, str | None] = {
    "$..z": "deep",
    "$..content": '["a","b","c"]',
    "$..messages[0].role": "system",
    "$.messages..z": "deep",
    "$..tags[*]": '["x","y"]',
    "$..*[?(@.z)]": '[{"z":"deep"},{"z":"deep"}]',
    "$..nope": None,
    "$.messages[?(@.role=='user')].content": '["b","c"]',
    '$.messages[?(@.role == "system")].content': "a",
    "$.messages[?(@.role != 'user')].content": "a",
    "$.messages[?(@.n > 1)].content": "b",
    "$.messages[?(@.n >= 1 and @.n < 2)].content": "a",
    "$.messages[?(1 <= @.n <= 2)].n": "[1,2]",
    "$.messages[?(@.n == 2 or @.x)].content": '["b","c"]',
    "$.messages[?(not @.n == 2)].content": '["a","c"]',
    "$.messages[?(not @.tags)].content": '["a","c"]',
    "$.messages[?(@.role in ['user', 'tool'])].content": '["b","c"]',
    "$.messages[?('x' in @.tags)].content": "b",
    "$.messages[?('z' not in @.tags)].content": "b",
    "$.messages[?(@.role not in ('user',))].content": "a",
    "$.messages[?(@['role'] == 'system')].n": "1",
    "$.messages[?(@.x.y[0] == 1)].content": "c",
    "$.messages[?(len(@.tags) == 2)].content": "b",
    "$.messages[?(len(@.n) == 2)].content": None,
    "$.messages[?(@.role > 1)].content": None,
    "$.messages[?(@.n == -1)]": None,
    "$.messages[?(@.x is None)]": None,
    "$.messages[?(@.x is not None)].content": "c",
    "$.messages[?(@)].content": '["a","b","c"]',
    "$.messages[?((@.role == 'user') and (@.n == 2))].content": "b",
    "$.messages[?(@.content == '@.content')]": None,
    "$.messages[?(@.content == 'x.y')]": None,
    "$.messages[1].tags[?(@ == 'y')]": "y",
    "$.messages[?(@.role=='user')][?(@ == 'b')]": "b",
    "$.n[?(@ == 5)]": None,
}


@cases(ALWAYS)
def test_names_numbers_slices_and_stars(path: str, expected: str | None) -> None:
    """One value found is itself, several are an array; with or without the parsed tree."""
    assert expected == find(path, DOCUMENT)
    assert expected == find(path, b"not looked at", BODY)


@cases(SEARCHING)
def test_descents_and_filters(path: str, expected: str | None) -> None:
    """`..` looks everywhere; a comparison with what is missing is false, and no filter fails."""
    assert expected == find(path, DOCUMENT)


@pytest.mark.parametrize(
    ("path", "part", "way_out"),
    [
        ("$.messages[-1]", "[-1]", "write a slice, as [-1:]"),
        ('$["model"]', '["model"]', "write ['name']"),
        ("$.a[?@.b == 1]", "[?@.b", "round brackets"),
        ("$.a[?(@.b == 'x)]", "[?(", "do not close"),
        ("$.a[(b,c)]", "[(b,c)]", "refused"),
        ("$.a[/(b)]", "[/(b)]", "refused"),
        ("$.a['b','c']", "['b','c']", "a path for each"),
        ("$.a[0,1]", "[0,1]", "a path for each"),
        ("$['a;b']", "['a;b']", "GJSON"),
        ("$.a['b", "['b", "GJSON"),
        ("$...a", "...a", "write .name"),
        ("$a", "'a'", "write .name"),
        ("$.", "'.'", "write .name"),
        ("$..", "'..'", "write .name"),
        ("$.a b", "' b'", "write .name"),
        ("$.a`b`", "`b`", "write .name"),
        ("$.#Q0", "#Q0", "write .name"),
        ("$.a[?(@.b =~ /x/)]", "@.b =~ /x/", "regular expressions are refused"),
        ("$.a[?(@.b + 1 == 2)]", "@.b + 1", "arithmetic is refused"),
        ("$.a[?('a' * 500000000)]", "'a' * 500000000", "arithmetic is refused"),
        ("$.a[?(@.a-b == 1)]", "@.a-b", "@['a-b']"),
        ("$.a[?(@.b == true)]", "true", "write True"),
        ("$.a[?(@.b == word)]", "word", "put quotes around text"),
        ("$.a[?(__import__('os').system('x'))]", "__import__", "compare members"),
        ("$.a[?(@.b.upper() == 'B')]", "upper", "compare members"),
        ("$.a[?(@.b[1:2] == 'B')]", "[1:2]", "compare members"),
        ("$.a[?([x for x in @])]", "[x for x", "compare members"),
        ("$.a[?(lambda: 1)]", "lambda", "compare members"),
        ("$.a[?(f'{1}' == @.b)]", "f'{1}'", "compare members"),
        ("$.a[?(len(@.a, @.b) == 1)]", "len(", "compare members"),
        ("$.a[?(@.b && @.c)]", "&&", "write comparisons with `and`"),
        ("$.a[?(@.b = 1)]", "@.b = 1", "write comparisons"),
        ("$.a[?()]", "''", "write comparisons"),
        ("$.a[?(" + "(" * 300 + "1" + ")" * 300 + ")]", "((((", "write comparisons"),
    ],
    ids=lambda value: value[:40],
)
def test_refused(path: str, part: str, way_out: str) -> None:
    """What the library cannot do, or only at a price, is refused with the part and the way out."""
    with pytest.raises(PathError) as caught:
        compile_path(path)
    assert part in str(caught.value)
    assert way_out in str(caught.value)


def test_a_path_that_the_library_reads_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused, not guessed at: the library cuts paths in several passes."""
    monkeypatch.setattr(jsonpath.JSONPath, "_parse_expr", lambda _self, _expr: "something;else")
    with pytest.raises(PathError, match="jsonpath-python reads it as"):
        compile_path("$.read.otherwise")


@pytest.mark.parametrize("path", ["$..content", "$.messages[?(@.role == 'user')].content"])
def test_searching_needs_a_small_body(path: str) -> None:
    """`..` and filters are for bodies up to a number of values, which is an argument."""
    fits = {"messages": [{"role": "user", "content": "x"}] * ((JSONPATH_NODES_MAX - 2) // 3)}
    assert find(path, b"", fits) is not None
    too_many = {"messages": [*fits["messages"], {"role": "user", "content": "x"}]}
    with pytest.raises(PathBudget, match="at most 2000 values"):
        find(path, b"", too_many)
    assert compile_path(path, jsonpath_nodes_max=JSONPATH_NODES_MAX + 3).find(b"", too_many) is not None
    assert "x" == find("$.messages[-1:].content", b"", too_many)


@pytest.mark.parametrize(
    "path", ["$[*]", "$[0:]", "$[-1:]", "$.*", "$[*].a"], ids=["star", "slice", "short slice", "dot", "inside"]
)
def test_too_many_values_on_the_way(path: str) -> None:
    """Stars and slices are for bodies of any size, but not through any number of values."""
    with pytest.raises(PathBudget, match="passes more than"):
        find(path, b"", [1] * (int(JSONPATH_NODES_MAX * VISITS_PER_NODE) + 1))


def test_names_and_numbers_pass_any_number_of_values() -> None:
    """A name or a number in a large array is as quick as in a small one."""
    assert "x" == find("$.a[9999]", b"", {"a": [1] * 9999 + ["x"]})


def nested(levels: int) -> object:
    """An array in an array."""
    value: object = "x"
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("path", ["$..a", "$..*", "$" + "[0]" * 600])
def test_deep_bodies(path: str) -> None:
    """What the library would recurse on too deeply is a bypass."""
    with pytest.raises(PathBudget):
        find(path, b"", nested(1500))


def test_what_is_found_many_times_over() -> None:
    """Values inside of each other are not written out again and again."""
    tree: object = "x" * 100_000
    for _ in range(100):
        tree = {"a": tree}
    with pytest.raises(PathBudget, match="inside of each other"):
        find("$..a", b"", tree)


def test_a_result_nested_deeply() -> None:
    """A result deeper than orjson writes is written all the same, or is a bypass."""
    assert "[" * 300 + '"x"' + "]" * 300 == find("$.a", b"", {"a": nested(300)})
    with pytest.raises(PathBudget, match="nested too deeply"):
        find("$.a", b"", {"a": nested(100_000)})


def test_large_integers() -> None:
    """An integer beyond 64 bits is written as it is."""
    assert "123456789012345678901234567890" == find("$.a", b"", {"a": 123456789012345678901234567890})


@pytest.mark.parametrize(
    ("document", "path", "expected"),
    [
        (b"{", "$.a", None),
        (b"", "$", None),
        (b'"x"', "$", "x"),
        (b'"x"', "$.a", None),
        (b"null", "$", ""),
        (b"7", "$..a", None),
    ],
)
def test_documents_that_are_no_containers(document: bytes, path: str, expected: str | None) -> None:
    """Text that is no JSON holds nothing; a value by itself is found by `$` alone."""
    assert expected == find(path, document)


def test_raw() -> None:
    """The text of what is found is JSON."""
    found = compile_path("$.messages[1].content").find(DOCUMENT)
    assert found is not None
    assert '"b"' == found.raw


def test_one_path_serves_many_at_a_time() -> None:
    """The library keeps what it finds in itself; each search here has a walk of its own."""
    path = compile_path("$..content")
    bodies = [{"messages": [{"content": f"{number}"}, {"content": "same"}]} for number in range(50)]
    started = threading.Barrier(4)

    def search(bodies: list[dict[str, list[dict[str, str]]]]) -> list[str]:
        started.wait()
        return [found.string for body in bodies if (found := path.find(b"", body))]

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(search, [bodies] * 4))
    assert [[f'["{number}","same"]' for number in range(50)]] * 4 == results


def test_the_library_logs_nothing() -> None:
    """It would log the body at level DEBUG, by a handler of its own, if the environment asked for it."""
    logger = logging.getLogger("jsonpath")
    assert [] == logger.handlers
    assert not logger.isEnabledFor(logging.INFO)
