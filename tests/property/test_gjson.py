"""GJSON over made-up documents and paths: it never fails, and it agrees with itself and with what JSON means."""

from __future__ import annotations

import json
import math
import re
from contextlib import suppress

import orjson
from hypothesis import assume, example, given
from hypothesis import strategies as st

from ai_cache_extproc.paths import PathBudget, compile_path
from ai_cache_extproc.paths.gjson.glob import Glob
from ai_cache_extproc.paths.gjson.numbers import format_number, parse_number
from ai_cache_extproc.paths.gjson.path import GJSONPath
from ai_cache_extproc.paths.gjson.strings import quoted, unescaped
from ai_cache_extproc.paths.gjson.valid import is_valid
from ai_cache_extproc.paths.gjson.work import unlimited

SPECIAL = re.compile(r"[.|*?\\#@!{}\[\]()]")

names = st.sampled_from(["a", "b", "role", "content", "0", "1", "a.b", "a*", "", "é", "#", "@this"]) | st.text(
    max_size=3
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=6)
    | st.sampled_from(["{", '{"a":1}', "[1]", 'x"y', "true", "1"])
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=20,
)
containers = st.lists(values, max_size=5) | st.dictionaries(names, values, max_size=5)
blanks = st.sampled_from([None, 1, "\t"])

operands = st.sampled_from(['"a"', "1", "0", "true", "null", '"*a*"', "~true", "~false", "~null", "~*", "x", '""'])
operators = st.sampled_from(["==", "=", "!=", "<", "<=", ">", ">=", "%", "!%"])
words = st.sampled_from(["a", "b", "role", "content", "0", "1", "*", "?", "a*", "#", "missing", r"a\.b", ""])
modifiers = st.sampled_from(
    [
        *("@this", "@reverse", "@valid", "@ugly", "@pretty", "@flatten", '@flatten:{"deep":true}', "@join", "@keys"),
        *("@values", "@tostr", "@fromstr", "@group", "@dig:a", "@nope"),
    ]
)


def queries(paths: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """A query whose path is one of `paths`."""
    condition = st.builds("{}{}{}".format, paths, operators, operands) | paths
    return st.builds("#({}){}".format, condition, st.sampled_from(["", "#"]))


def joined(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Some parts with dots and pipes between them."""
    separators = st.sampled_from([".", ".", "|"])
    rest = st.lists(st.builds("{}{}".format, separators, parts), max_size=3).map("".join)
    return st.builds("{}{}".format, parts, rest)


paths = st.recursive(
    joined(words | modifiers),
    lambda inner: joined(words | modifiers | queries(inner) | st.builds("[{},{}]".format, inner, inner)),
    max_leaves=4,
)
signs = st.text('ab01.|#()[]{}"\\@:!*?~%=<>, tfn-+', max_size=20)


def same(left: object, right: object) -> bool:
    """Whether two parsed values are the same; integers beyond 64 bits have become doubles on one side."""
    return orjson.dumps(left, option=orjson.OPT_SORT_KEYS) == orjson.dumps(right, option=orjson.OPT_SORT_KEYS)


def found(path: str, document: str) -> str:
    """What a path that leads somewhere leads to."""
    there = GJSONPath(path, steps_max=10**7).find(document)
    assert there is not None
    return there.string


@given(path=paths | signs, document=signs | values.map(json.dumps))
def test_nothing_but_the_budget_is_raised(path: str, document: str) -> None:
    """Whatever a path is, and whatever it is applied to."""
    with suppress(PathBudget):
        there = compile_path("a" + path if path.startswith("$") else path).find(document)
        assert there is None or isinstance(there.raw, str)


@given(path=paths, document=values, indent=blanks)
@example(path="a|@this", document={"a": '{"b":1}'}, indent=None)
@example(path="#(a==~null)#|0", document=[{"a": None}, {}], indent=None)
def test_the_tree_and_the_text_agree(path: str, document: object, indent: int | str | None) -> None:
    """With the parsed tree beside it, a text gives the same string and the same raw text."""
    text = json.dumps(document, indent=indent, ensure_ascii=False)
    compiled = GJSONPath(path, steps_max=10**7)
    in_text, in_tree = compiled.find(text), compiled.find(text, document)
    assert (in_text is None) == (in_tree is None)
    if in_text is not None and in_tree is not None:
        assert (in_text.string, in_text.raw) == (in_tree.string, in_tree.raw)


@given(path=paths, document=values, steps=st.integers(0, 400))
def test_a_budget_ends_a_search_or_does_not_matter(path: str, document: object, steps: int) -> None:
    """What is found with few steps is what is found with many."""
    text = json.dumps(document)
    with suppress(PathBudget):
        little = GJSONPath(path, steps_max=steps).find(text)
        much = GJSONPath(path, steps_max=10**7).find(text)
        assert (little and little.string) == (much and much.string)


@given(document=containers, indent=blanks)
def test_this_is_the_document(document: object, indent: int | str | None) -> None:
    """`@this` gives a container back byte for byte, and so does `@valid`."""
    text = json.dumps(document, indent=indent)
    assert text == found("@this", text) == found("@valid", text)


@given(document=containers, indent=blanks)
def test_reverse_twice_is_the_same(document: object, indent: int | str | None) -> None:
    """What is turned round twice is what it was, in order too."""
    again = json.loads(found("@reverse.@reverse", json.dumps(document, indent=indent)))
    assert json.dumps(document) == json.dumps(again)


@given(document=st.dictionaries(names, values, min_size=1, max_size=6), escaped=st.booleans())
def test_every_member_is_found_by_its_name(document: dict[str, object], escaped: bool) -> None:
    """Whatever signs the name has, with a backslash before those that mean something."""
    text = json.dumps(document, ensure_ascii=escaped)
    for name, value in document.items():
        path = SPECIAL.sub(lambda sign: f"\\{sign[0]}", name)
        there = compile_path("\\$" + path[1:] if path.startswith("$") else path).find(text)
        assert there is not None
        assert same(value, json.loads(there.raw))


@given(document=st.lists(values, max_size=6))
def test_every_element_is_found_and_counted(document: list[object]) -> None:
    """By its number; `#` says how many there are, and `#.@this` is all of them."""
    text = json.dumps(document)
    assert str(len(document)) == found("#", text)
    assert same(document, json.loads(found("#.@this", text)))
    for number, value in enumerate(document):
        there = compile_path(str(number)).find(text)
        assert there is not None
        assert same(value, json.loads(there.raw))
    assert compile_path(str(len(document))).find(text) is None


@given(document=containers, indent=blanks)
def test_layout_does_not_change_the_value(document: object, indent: int | str | None) -> None:
    """`@pretty` and `@ugly` move blanks, sorting moves members, and nothing else."""
    text = json.dumps(document, indent=indent)
    for path in ("@pretty", '@pretty:{"sortKeys":true}', '@pretty:{"width":20,"indent":"\\t"}', "@ugly"):
        assert same(document, json.loads(found(path, text)))
    assert found("@ugly", text) == found("@pretty.@ugly", text) == found("@ugly.@ugly", text)


@given(document=containers)
def test_a_value_becomes_a_string_and_back(document: object) -> None:
    """`@fromstr` undoes `@tostr`."""
    text = json.dumps(document, ensure_ascii=False)
    assert text == found("@tostr", text) == found("@tostr.@fromstr", text)


def leaves(value: object) -> list[object]:
    """What stands in an array, and in the arrays in it."""
    return [leaf for element in value for leaf in leaves(element)] if isinstance(value, list) else [value]


@given(document=st.lists(values, max_size=5))
def test_flatten(document: list[object]) -> None:
    """One level of arrays goes, or all of them."""
    text = json.dumps(document)
    shallow = [part for element in document for part in (element if isinstance(element, list) else [element])]
    assert same(shallow, json.loads(found("@flatten", text)))
    assert same(leaves(document), json.loads(found('@flatten:{"deep":true}', text)))


@given(document=st.dictionaries(names, values, max_size=5))
def test_keys_and_values(document: dict[str, object]) -> None:
    """They are those of the object, in order."""
    text = json.dumps(document)
    assert list(document) == json.loads(found("@keys", text))
    assert same(list(document.values()), json.loads(found("@values", text)))


@given(text=st.text('[]{},:"\\ \n01.-eEtrufalsn9\x01', max_size=14) | values.map(json.dumps))
@example(text='["\\ud800"]')
@example(text="-")
def test_valid_is_what_the_standard_library_reads(text: str) -> None:
    """Read strictly, and without the words that are no JSON."""

    def refuse(word: str) -> None:
        raise ValueError(word)

    try:
        json.loads(text, parse_constant=refuse)
        expected = True
    except ValueError:
        expected = False
    assert expected == is_valid(text.encode(), unlimited())


@given(pattern=st.text("ab*?\\é", max_size=8), text=st.text("ab*?\\é\n", max_size=8))
@example(pattern="*\\", text="\\")
@example(pattern="a\\", text="a")
def test_patterns(pattern: str, text: str) -> None:
    """A pattern matches what a regular expression of the same meaning matches."""
    signs = re.findall(r"\\.|.", pattern, re.DOTALL)
    # A backslash at the very end stands for itself behind a star, else for nothing at all.
    assume(not (signs and signs[-1] == "\\"))
    meaning = {"*": ".*", "?": "."}
    regex = "".join(meaning.get(sign, re.escape(sign[-1])) for sign in signs)
    assert bool(re.fullmatch(regex, text, re.DOTALL)) == Glob.of(pattern).matches(text, unlimited())


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_keep_their_value(number: float) -> None:
    """Written without an exponent, a double reads back as itself, its sign included."""
    written = format_number(number)
    assert "e" not in written
    again = parse_number(written.encode())
    assert (number, math.copysign(1, number)) == (again, math.copysign(1, again))


@given(st.text(max_size=20))
def test_strings_keep_their_meaning(text: str) -> None:
    """What is written as a string means what it meant, to us and to others."""
    written = quoted(text.encode(), unlimited())
    assert text == unescaped(written[1:-1], unlimited()) == json.loads(written)
    assert not re.search("[<>&\u2028\u2029]", written.decode())


@given(opening=st.sampled_from(["[", '{"a":', '[[{"a":']), depth=st.sampled_from([200, 2_000, 20_000]), path=paths)
def test_depth_is_survived(opening: str, depth: int, path: str) -> None:
    """However deep a body is nested, and whether or not it is closed."""
    closing = "".join({"[": "]", "{": "}"}.get(sign, "") for sign in reversed(opening))
    for document in (opening * depth + "1" + closing * depth, opening * depth):
        with suppress(PathBudget):
            compile_path(path).find(document)
