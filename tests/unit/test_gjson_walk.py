"""GJSON paths from part to part: names, patterns, numbers, `#`, dots against pipes, lines."""

from __future__ import annotations

import orjson

from tests.support.paths import cases, find

PERSON = r"""{
  "name": {"first": "Tom", "last": "Anderson"}, "age": 37, "children": ["Sara", "Alex", "Jack"],
  "fav.movie": "Deer Hunter", "a|b": "pipe", "a*b": "star", "a?b": "mark", "back\\slash": "bs", "quote\"d": "q",
  "#": "hash", "@this": "at", "": "empty", "0": "zero", "é": "letter", "\u00fc": "escaped",
  "nothing": null, "no": false, "yes": true,
  "friends": [{"first": "Dale", "age": 44, "nets": ["ig", "fb"]}, {"first": "Roger", "age": 68, "nets": []},
    {"first": "Jane"}, 5, "six", [7, [8]]]
}"""
LINES = """{"a": 1, "b": "x"}\n{"a": 2}\n[3, 4]\n"five"\n6\nnull\n"""

NAMES: dict[str, str | None] = {
    "age": "37",
    "name": '{"first": "Tom", "last": "Anderson"}',
    "name.first": "Tom",
    "name.last": "Anderson",
    "name.middle": None,
    "name.first.x": None,
    "age.x": None,
    "nothing": "",
    "nothing.x": None,
    "no": "false",
    "yes": "true",
    "missing": None,
    "missing.x": None,
    "fav\\.movie": "Deer Hunter",
    "fav.movie": None,
    "a\\|b": "pipe",
    "a|b": None,
    "a\\*b": "star",
    "a*b": "pipe",
    "a\\?b": "mark",
    "a?b": "pipe",
    "back\\\\slash": "bs",
    'quote"d': "q",
    'quote\\"d': "q",
    "\\#": "hash",
    "#": "hash",
    "\\@this": "at",
    "@this.age": "37",
    "": "empty",
    "0": "zero",
    "é": "letter",
    "ü": "escaped",
    "\\age": "37",
    "ag\\e": "37",
    "age\\": "37",
    "a.": None,
    ".": None,
    ".age": None,
    "name.": None,
    "name..first": None,
    "NAME": None,
    "name.first|@this": "Tom",
    "naïve": None,
}
PATTERNS: dict[str, str | None] = {
    "*": '{"first": "Tom", "last": "Anderson"}',
    "na*": '{"first": "Tom", "last": "Anderson"}',
    "*me": '{"first": "Tom", "last": "Anderson"}',
    "*a*e": '{"first": "Tom", "last": "Anderson"}',
    "n?me": '{"first": "Tom", "last": "Anderson"}',
    "n??e": '{"first": "Tom", "last": "Anderson"}',
    "????": '{"first": "Tom", "last": "Anderson"}',
    "?": "hash",
    "a?e": "37",
    "*.first": "Tom",
    "*.last": "Anderson",
    "*.2": "Jack",
    "c*n.1": "Alex",
    "friends.*": None,
    "friends.*.first": None,
    "*.0.first": "Dale",
    "**": '{"first": "Tom", "last": "Anderson"}',
    "n***e": '{"first": "Tom", "last": "Anderson"}',
    "name.*": "Tom",
    "name.?irst": "Tom",
    "name.*t": "Tom",
    "*x*": None,
    "f*.0": '{"first": "Dale", "age": 44, "nets": ["ig", "fb"]}',
    "\\*": None,
    "a\\**": "37",
    "*|first": "Tom",
    "*.#": "3",
    "é*": "letter",
    "?lter": None,
    "*.zzz": None,
    "fri*.0.a*": "44",
    "*s.0": '{"first": "Dale", "age": 44, "nets": ["ig", "fb"]}',
    "*ing": "",
    "y?s": "true",
    "n?": "false",
    "\\n*": '{"first": "Tom", "last": "Anderson"}',
}
ARRAYS: dict[str, str | None] = {
    "children": '["Sara", "Alex", "Jack"]',
    "children.0": "Sara",
    "children.2": "Jack",
    "children.3": None,
    "children.-1": None,
    "children.00": "Sara",
    "children.01": "Alex",
    "children.x": None,
    "children.0.x": None,
    "children.#": "3",
    "children.#.x": "[]",
    "children.1|@this": "Alex",
    "friends.#": "6",
    "friends.#.first": '["Dale","Roger","Jane"]',
    "friends.#.age": "[44,68]",
    "friends.#.nets": '[["ig", "fb"],[]]',
    "friends.#.nets.0": '["ig"]',
    "friends.#.nets.#": "[2,0]",
    "friends.#.#": "[2]",
    "friends.0": '{"first": "Dale", "age": 44, "nets": ["ig", "fb"]}',
    "friends.0.nets.1": "fb",
    "friends.1.nets": "[]",
    "friends.1.nets.#": "0",
    "friends.1.nets.0": None,
    "friends.3": "5",
    "friends.5": "[7, [8]]",
    "friends.5.1.0": "8",
    "friends.#.0": "[7]",
    "friends.#.1.0": "[8]",
    "friends.##": None,
    "friends.#x": None,
    "friends.x#": None,
    "friends.#.": "[]",
    "friends.99999999999999999999": None,
    "friends.4.0": None,
    "friends.#.first.x": "[]",
    "friends.#.missing": "[]",
    "friends.#.nets.#.x": "[[],[]]",
    "friends.#.nets.@reverse": '[["fb","ig"],[]]',
    "friends.#.first|0": "Dale",
    "friends.#.first|#": "3",
    "friends.#.nets|0": '["ig", "fb"]',
    "friends.#.nets|1": "[]",
    "friends.#.nets|@flatten": '["ig", "fb"]',
    "friends.#.nets|@flatten|#": "2",
    "friends.0.0": None,
    "name.0": None,
    "name.#": None,
}
PIPES: dict[str, str | None] = {
    "name|first": "Tom",
    "name|first|@this": "Tom",
    "friends|0": '{"first": "Dale", "age": 44, "nets": ["ig", "fb"]}',
    "friends|0|first": "Dale",
    "friends.0|first": "Dale",
    "friends|0.first": "Dale",
    "friends|#": "6",
    "friends|#.first": '["Dale","Roger","Jane"]',
    "friends|#|@this": "6",
    "friends.#|@this": "6",
    "friends.#.first|1": "Roger",
    "friends.#.first.1": "[]",
    "friends.#.nets.0|0": "ig",
    "friends.#.nets|0.0": "ig",
    "age|x": None,
    "missing|x": None,
    "missing|@this": None,
    "missing|@tostr": "",
    "missing.x|@tostr": None,
    "name.missing|@tostr": "",
    "children.9|@tostr": "",
    "|age": None,
    "age|": None,
    "name|": None,
    "name||first": None,
    "friends|2|first|@reverse": "Jane",
    "children|@reverse|0": "Jack",
    "children.@reverse.0": "Jack",
    "children|@reverse.0": "Jack",
    "@this|age": "37",
    "@this.age": "37",
    "@this|@this|age": "37",
}
IN_LINES: dict[str, str | None] = {
    "..#": "6",
    "..0": '{"a": 1, "b": "x"}',
    "..0.a": "1",
    "..1.a": "2",
    "..2.1": "4",
    "..3": "five",
    "..4": "6",
    "..5": "",
    "..6": None,
    "..#.a": "[1,2]",
    "..#.b": '["x"]',
    "..#(a>1)": '{"a": 2}',
    "..#(a>0)#": '[{"a": 1, "b": "x"},{"a": 2}]',
    "..#(a>0)#.a": "[1,2]",
    "..#(>5)": "five",
    "..#.a|@reverse": "[2,1]",
    "..#.a|#": "2",
    "..": None,
    "..#.#": "[2]",
    "a": "1",
    "1": None,
    "@this|..1.a": "2",
    "..a": None,
    "...0": None,
    "..0|a": "1",
    "..0|@keys": '["a","b"]',
    '{"n":..#,"first":..0.a}': '{"n":6,"first":1}',
    "..#.@this|2": "[3, 4]",
}
PERSONS = r"""{"people": [
  {"n": "a|b", "k": [{"x": 1}, {"x": 2}], "s": {"t": [3, 4]}},
  {"n": "c", "k": [{"x": 5}], "s": {"t": []}}
]}"""
PIPES_BEHIND_EACH: dict[str, str | None] = {
    "people.#.k.#(x>1)|0.x": "2",
    "people.#.k.#(x>1)#|0": '[{"x": 2}]',
    "people.#.k.#(x>1)#.x|1": "[5]",
    "people.#.k.#[x>1]#|0|0.x": "2",
    "people.#.k.#|0": "[]",
    "people.#.k.#.x|0": "[1,2]",
    "people.#.s.t.#": "[2,0]",
    "people.#.s.t.#.": "[[],[]]",
    "people.#.s.t.#|1": "[]",
    "people.#.k.#(x>(1))#|0": '[{"x": 1},{"x": 2}]',
    'people.#.k.#(x=="|")#|0': "[]",
    'people.#.k.#(x=="\\"|")#|0': "[]",
    "people.#.k.#(x\\|>1)#|0": "[]",
    "people.#.k.#(x>1|0": "[]",
    "people.#.n\\|x|0": None,
    "people.#.n\\|x.": "[]",
    "people.#.n|0": "a|b",
    "people.#.{n}|0": '{"n":"a|b"}',
    "people.#.{n}|0.n": "a|b",
    'people.#.{"m":n}|0': "[]",
    "people.#.{n|0": "[]",
    "people.#.{n}.n|0": "[]",
    "people.#.[n]|0": '["a|b"]',
    "people.#.k.0.|0": None,
    'people.#(n=="c")#.k.#.x|0': "[5]",
    'people.#(n=="c")#.k.#(x>1)#|0.0.x': "5",
    'people.#(n=="c").k.#(x>1)#|0.x': "5",
    'people.#(n=="c").k|0.x': "5",
    'people.#(n=="zzz")#.k|0': "[]",
    'people.#(n=="zzz")#|@tostr': "[]",
    'people.#(n%"*|*").k.#': "2",
    'people.#(n%"*|*")#.k.#|0': "[]",
    "people.#.k.#": "[2,1]",
    "people.#.k.|0": None,
    "people.#.|0": None,
    'people.#(n=="c")#.n\\.x|0': None,
    'people.#(n=="c")#.\\n|0': "c",
}


@cases(NAMES)
def test_names(path: str, expected: str | None) -> None:
    """A name leads to the member of that name; a backslash takes the next sign as it stands."""
    assert expected == find(path, PERSON)
    assert expected == find(path, PERSON, orjson.loads(PERSON))


@cases(PATTERNS)
def test_patterns(path: str, expected: str | None) -> None:
    """A pattern leads to the first member that it matches and from which the path leads on."""
    assert expected == find(path, PERSON)
    assert expected == find(path, PERSON, orjson.loads(PERSON))


@cases(ARRAYS)
def test_arrays(path: str, expected: str | None) -> None:
    """A number leads to an element, `#` to how many there are, `#.path` to what it finds in each."""
    assert expected == find(path, PERSON)
    assert expected == find(path, PERSON, orjson.loads(PERSON))


@cases(PIPES)
def test_pipes(path: str, expected: str | None) -> None:
    """A pipe searches anew in what was found, or in nothing."""
    assert expected == find(path, PERSON)
    assert expected == find(path, PERSON, orjson.loads(PERSON))


@cases(IN_LINES)
def test_lines(path: str, expected: str | None) -> None:
    """Two dots read the values of a text, one after the other, as the elements of an array."""
    assert expected == find(path, LINES)


@cases(PIPES_BEHIND_EACH)
def test_pipes_behind_each(path: str, expected: str | None) -> None:
    """What follows `#.` or a query up to a pipe is done for each element, the rest once for all of them."""
    assert expected == find(path, PERSONS)
    assert expected == find(path, PERSONS, orjson.loads(PERSONS))
