"""What a path may cost: hostile bodies and paths end with PathBudget, and nothing nested is too deep to survive."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import pytest

from ai_cache_extproc.paths import STEPS_MAX, PathBudget, PathError, compile_path
from ai_cache_extproc.paths.found import PATH_BYTES_MAX
from ai_cache_extproc.paths.gjson.path import NESTING_MAX
from ai_cache_extproc.paths.gjson.valid import is_valid
from ai_cache_extproc.paths.gjson.work import LEVELS_MAX, Work, unlimited
from tests.support.paths import find

DEPTH = 20_000
MANY = 300_000


def filled(before: bytes, unit: bytes, after: bytes) -> bytes:
    """A body of the same thing over and over."""
    return before + unit * (MANY // len(unit)) + after


BODIES: Mapping[str, bytes] = {
    "arrays": b"[" * DEPTH + b"]" * DEPTH,
    "open arrays": b"[" * MANY,
    "arrays in a member": b'{"a":' + b"[" * DEPTH + b"]" * DEPTH + b"}",
    "objects": b'{"a":' * DEPTH + b"1" + b"}" * DEPTH,
    "small arrays": filled(b'{"a":[', b"[1],", b"1]}"),
    "small objects": filled(b'{"a":[', b'{"b":1},', b"1]}"),
    "numbers": filled(b'{"a":[', b"0.123456,", b"1]}"),
    "short strings": filled(b'{"a":[', b'"abcdefgh",', b"1]}"),
    "strings": filled(b'{"a":[', b'"' + b"x" * 520 + b'",', b"1]}"),
    "escaped quotes": filled(b'{"a":"', b'\\"', b'"}'),
    "backslashes": filled(b'{"a":"', b"\\\\", b'"}'),
    "surrogates": filled(b'{"a":"', rb"\ud800", b'"}'),
    "blanks": filled(b'{"a":', b" ", b"1}"),
    "commas": filled(b'{"a":[', b",", b"1]}"),
    "digits": filled(b'{"a":1.', b"1", b"}"),
    "keys": b"{" + b",".join(b'"k%06d":1' % number for number in range(MANY // 12)) + b"}",
    "escaped keys": b"{" + b",".join(rb'"\u0061%06d":1' % number for number in range(MANY // 18)) + b"}",
    "text": filled(b'{"a":"', b"x", b'"}'),
    "letters": filled(b'{"a":"', "星".encode(), b'"}'),
    "literals": filled(b'{"a":[', b"true,", b"1]}"),
    "one literal": filled(b'{"a":t', b"r", b"}"),
    "quotes": b'"' * MANY,
    "colons": filled(b'{"a"', b":", b"1}"),
    "a string without end": filled(b'{"a":[1,"', b"x", b""),
}
PATHS = {
    path[:30]: path
    for path in (
        *("a", "a.0", "a.@reverse.0", "zz", "a.#", "a.#.b", "a.#(b==2)#", 'a.#(%"*x*y*")#', 'a.#(%"*?x?y*")#'),
        *("a.@flatten", 'a.@flatten:{"deep":true}', "@ugly", "@pretty", '@pretty:{"sortKeys":true}', "@valid"),
        *("@tostr", "@keys", "@values", "@dig:b", "a.@fromstr", "*.b", "*x*y.b", "?*?*z.b", "..#", "..#.a", "a|b"),
        *("{a,b:a,c:a}", "a.@join", "@group", "a.#(#(#(#>1)))", "@ugly|@ugly|@ugly", "|".join(["@this"] * 300)),
        *(".".join("a" * 1000), ".".join("#" * 1000), "#(" * 8, "[" * 8, "a." + "#(" * 8 + "0." * 900 + ")" * 8),
        *("|".join(["@tostr"] * 250), "{" + ",".join("a" * 1000) + "}", "*a" * 1000, "?" * 2000, "{a," * 8 + "}" * 8),
    )
}


@pytest.mark.parametrize("body", BODIES)
def test_hostile(body: str) -> None:
    """Every path ends on every body: with what it finds, with nothing, or with PathBudget."""
    for path in PATHS.values():
        with suppress(PathBudget):
            compile_path(path).find(BODIES[body])


@pytest.mark.parametrize(
    ("path", "expected"),
    [("a.#", "1"), ("b", "2"), ("a.0.0.0.#", "1"), ("@keys|#", "2")],
)
def test_deep_bodies(path: str, expected: str) -> None:
    """A value nested 1 500 deep is skipped and counted; its levels are not walked."""
    assert expected == find(path, b'{"a":' + b"[" * 1500 + b"]" * 1500 + b',"b":2}')


@pytest.mark.parametrize("path", ["a.#", "b", "a.0.#", "@keys.1"])
def test_very_deep_bodies_are_skipped(path: str) -> None:
    """Brackets in a row cost next to nothing, however many there are."""
    assert find(path, b'{"a":' + b"[" * DEPTH + b"]" * DEPTH + b',"b":2}') is not None


@pytest.mark.parametrize(
    "path",
    [
        pytest.param('a.@flatten:{"deep":true}', id="flatten"),
        pytest.param("@dig:b", id="dig"),
        pytest.param("a.@pretty", id="pretty"),
        pytest.param("a." + ".".join("0" * 400), id="names"),
        pytest.param("a." + ".".join("#" * 400), id="each"),
    ],
)
def test_what_would_recurse_ends_at_a_level(path: str) -> None:
    """Values inside values are looked at one by one down to a depth that no served body has."""
    deep = b'{"a":' + b"[" * 400 + b"]" * 400 + b"}"
    with pytest.raises(PathBudget, match=f"more than {LEVELS_MAX} levels"):
        compile_path(path, steps_max=10_000_000).find(deep)


def test_a_body_as_deep_as_served_ones() -> None:
    """128 levels are walked by every kind of path."""
    deep = b"[" * 127 + b'{"b":1}' + b"]" * 127
    zeros = ".".join("0" * 127)
    assert "1" == find(f"{zeros}.b", deep)
    assert '[{"b":1}]' == find('@flatten:{"deep":true}', deep)
    assert "[1]" == find("@dig:b", deep)


@pytest.mark.parametrize(
    ("size", "path"),
    [(4 << 20, "a.1"), (4 << 20, "c"), (4 << 20, "a.0.content"), (4 << 20, "@keys.1"), (4 << 20, "a.@reverse.0")],
    ids=["past it", "behind it", "itself", "key", "turned round"],
)
def test_long_texts_are_cheap(size: int, path: str) -> None:
    """A body of 4 MiB in few values is well within the budget."""
    body = b'{"a":[{"content":"%b"},{"b":1}],"c":2}' % (b"x" * size)
    assert find(path, body) is not None


def test_long_rows_of_numbers_are_cheap() -> None:
    """An array of a million numbers is skipped in a few steps."""
    body = b'{"a":[' + b"0.123456," * 400_000 + b'1],"b":2}'
    assert "2" == find("b", body)


def test_the_budget_is_an_argument() -> None:
    """More steps find what fewer do not."""
    body = b'{"a":[%b1]}' % (b'{"b":1},' * 4000)
    with pytest.raises(PathBudget):
        compile_path("a.#").find(body)
    found = compile_path("a.#", steps_max=STEPS_MAX * 10).find(body)
    assert found is not None
    assert "4001" == found.string


def test_raw_is_looked_up_within_the_budget() -> None:
    """What the tree finds at once may be too far into the text."""
    body = b'{"a":[%b"x"]}' % (b'{"b":1},' * 4000)
    found = compile_path("a.4000").find(body, {"a": [None] * 4000 + ["x"]})
    assert found is not None
    assert "x" == found.string
    with pytest.raises(PathBudget):
        _ = found.raw


def test_refused_paths() -> None:
    """A path that takes long to read, or that is no Unicode, is refused when it is compiled."""
    compile_path("a" * PATH_BYTES_MAX)
    with pytest.raises(PathError, match="shorten the path"):
        compile_path("é" * (PATH_BYTES_MAX // 2 + 1))
    compile_path("[" * NESTING_MAX + "a" + "]" * NESTING_MAX)
    compile_path("[a]" * (NESTING_MAX + 1) + r'"[[[[[[[[["' + r"\[" * (NESTING_MAX + 1))
    with pytest.raises(PathError, match="inside of each other"):
        compile_path("a.#(" * (NESTING_MAX + 1))
    with pytest.raises(PathError, match="half of a surrogate pair"):
        compile_path("a\ud800")
    with pytest.raises(ValueError, match="shorten"):
        compile_path("$." + "a" * PATH_BYTES_MAX)


def test_compiled_paths_are_kept() -> None:
    """The same path is compiled once."""
    assert compile_path("a.b") is compile_path("a.b")
    assert compile_path("a.b") is not compile_path("a.b", steps_max=7)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"[" * 3000 + b"]" * 3000, True),
        (b"[" * 3000 + b"]" * 2999, False),
        (b'{"a":' * 2000 + b"1" + b"}" * 2000, True),
        (b'"' + rb"\ud800" * 3000 + b'"', True),
        (b'"' + rb"\ud800" * 3000, False),
        (b'["' + b"x" * 4094 + rb"\ud800" + b'"]', True),
        (b'["' + b"x" * 4094 + rb"\ud8x0" + b'"]', False),
        (b'{"\xff":1e999,"b":[true,false,null,-0.5E-7]}', True),
        (b'{"\xff":1,}', False),
        (b'{"\xff" 1}', False),
        (b'{"\xff":}', False),
        (b'{1:"\xff"}', False),
        (b'["\xff"} ', False),
        (b'{"\xff":1]', False),
        (b'["\xff",]', False),
        (b'["\xff" 1]', False),
        (b'["\xff":1]', False),
        (b'["\xff",truth]', False),
        (b'["\xff",01]', False),
        (b'"\xff" x', False),
        (b'"\xff" ', True),
        (b"", False),
        (b" ", False),
        (b",", False),
        (b"1e999", True),
        (b"-", False),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_validity(text: bytes, expected: bool) -> None:
    """More is valid than what parsers take: any depth, halves of pairs, huge numbers, bytes beyond UTF-8."""
    assert expected == is_valid(text, unlimited())


def test_validity_is_paid_for() -> None:
    """Many values are not parsed to see whether they are valid."""
    with pytest.raises(PathBudget):
        is_valid(b"[" + b"1," * 100_000 + b"1]", Work(STEPS_MAX))
