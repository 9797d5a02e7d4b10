"""GJSON modifiers that make other values: order, nesting, keys, strings, and how their arguments are read."""

from __future__ import annotations

import orjson

from tests.support.paths import cases, find

DOCUMENT = r"""{"o": {"b": 1, "a": [3, {"d": null, "c": "x"}], "e": {}},
 "arr": [1, [2, 3], [], [4, [5, [6]]], {"k": [7]}, "s"],
 "objs": [{"a": 1, "b": 2}, {"b": 3, "c": 4}, 5, {"a": {"a": 6}}],
 "cols": {"id": [1, 2, 3], "n": ["x", "y"], "z": 9},
 "str": "{\"in\": [1, 2]}", "num": "12", "plain": "a<b>&c\u2028\n\"q\" é", "n": 1.50, "t": true, "nil": null, "e": [], "bad": "{\"a\":"}"""

SHAPES: dict[str, str | None] = {
    "arr.@reverse": '["s",{"k": [7]},[4, [5, [6]]],[],[2, 3],1]',
    "o.@reverse": '{"e":{},"a":[3, {"d": null, "c": "x"}],"b":1}',
    "str.@reverse": '{"in": [1, 2]}',
    "n.@reverse": "1.5",
    "nil.@reverse": "",
    "e.@reverse": "[]",
    "arr.@reverse.@reverse": '[1,[2, 3],[],[4, [5, [6]]],{"k": [7]},"s"]',
    "arr.@reverse.0": "s",
    "arr.@reverse|1|k": "[7]",
    "arr.@reverse:ignored": '["s",{"k": [7]},[4, [5, [6]]],[],[2, 3],1]',
    'arr.@reverse:{"x":1}.0': "s",
    "arr.@flatten": '[1,2, 3,4, [5, [6]],{"k": [7]},"s"]',
    'arr.@flatten:{"deep":true}': '[1,2,3,4,5,6,{"k": [7]},"s"]',
    'arr.@flatten:{"deep":false}': '[1,2, 3,4, [5, [6]],{"k": [7]},"s"]',
    'arr.@flatten:{"deep":1}': '[1,2,3,4,5,6,{"k": [7]},"s"]',
    'arr.@flatten:{"deep":"true"}': '[1,2,3,4,5,6,{"k": [7]},"s"]',
    'arr.@flatten:{"deep":null}': '[1,2, 3,4, [5, [6]],{"k": [7]},"s"]',
    "arr.@flatten:deep": '[1,2, 3,4, [5, [6]],{"k": [7]},"s"]',
    "arr.@flatten|#": "7",
    "o.@flatten": '{"b": 1, "a": [3, {"d": null, "c": "x"}], "e": {}}',
    "e.@flatten": "[]",
    "str.@flatten": '{"in": [1, 2]}',
    "objs.@join": '{"a":{"a": 6},"b":3,"c":4}',
    'objs.@join:{"preserve":true}': '{"a": 1, "b": 2,"b": 3, "c": 4,"a": {"a": 6}}',
    "objs.@join.a": '{"a": 6}',
    "objs.@join|c": "4",
    "o.@join": '{"b": 1, "a": [3, {"d": null, "c": "x"}], "e": {}}',
    "e.@join": "{}",
    "arr.@join": '{"k":[7]}',
    "o.@keys": '["b","a","e"]',
    "arr.@keys": "[null,null,null,null,null,null]",
    "str.@keys": "[null]",
    "n.@keys": "[null]",
    "nil.@keys": "[null]",
    "missing.@keys": "[]",
    "e.@keys": "[]",
    "o.@keys.#": "3",
    "o.@keys|1": "a",
    "o.@values": '[1,[3, {"d": null, "c": "x"}],{}]',
    "arr.@values": '[1, [2, 3], [], [4, [5, [6]]], {"k": [7]}, "s"]',
    "str.@values": '["{\\"in\\": [1, 2]}"]',
    "missing.@values": "[]",
    "o.@values|1": '[3, {"d": null, "c": "x"}]',
    "o.@values.1.0": "3",
    "cols.@group": '[{"id":1,"n":"x"},{"id":2,"n":"y"},{"id":3}]',
    "cols.@group.1.n": "y",
    "cols.@group|#": "3",
    "arr.@group": None,
    "missing.@group": None,
    "o.@this": '{"b": 1, "a": [3, {"d": null, "c": "x"}], "e": {}}',
    "o.@this.b": "1",
    "@this.n": "1.5",
    "nil.@this": "",
    "missing.@this": None,
    "@this|@this.n": "1.5",
    "o.@valid": '{"b": 1, "a": [3, {"d": null, "c": "x"}], "e": {}}',
    "str.@valid": '{"in": [1, 2]}',
    "o.@valid.b": "1",
    "missing.@valid": None,
    "@valid.n": "1.5",
    "nil.@valid": "",
}
STRINGS: dict[str, str | None] = {
    "str.@fromstr": '{"in": [1, 2]}',
    "str.@fromstr.in": "[1, 2]",
    "str.@fromstr.in.1": "2",
    "str.@fromstr|in|#": "2",
    "num.@fromstr": "12",
    "bad.@fromstr": '{"a":',
    "n.@fromstr": "1.5",
    "arr.@fromstr": '[1, [2, 3], [], [4, [5, [6]]], {"k": [7]}, "s"]',
    "missing.@fromstr": None,
    "n.@tostr": "1.50",
    "t.@tostr": "true",
    "nil.@tostr": "null",
    "e.@tostr": "[]",
    "o.@tostr": '{"b": 1, "a": [3, {"d": null, "c": "x"}], "e": {}}',
    "str.@tostr": '"{\\"in\\": [1, 2]}"',
    "str.@tostr.@fromstr": '{"in": [1, 2]}',
    "o.@tostr.@fromstr.b": "1",
    "o.@tostr|@tostr": '"{\\"b\\": 1, \\"a\\": [3, {\\"d\\": null, \\"c\\": \\"x\\"}], \\"e\\": {}}"',
    "plain.@tostr": '"a<b>&c\\u2028\\n\\"q\\" é"',
    "plain.@tostr|@fromstr|@fromstr": None,
    "objs.#.a|@tostr": '[1,{"a": 6}]',
    "objs.#.@tostr": '["{\\"a\\": 1, \\"b\\": 2}","{\\"b\\": 3, \\"c\\": 4}","5","{\\"a\\": {\\"a\\": 6}}"]',
    "str.in": None,
    "str|in": None,
    "str|in|1": None,
}
DIG: dict[str, str | None] = {
    "@dig:a": '[[3, {"d": null, "c": "x"}],1,{"a": 6},6]',
    "@dig:k": "[[7]]",
    "@dig:zzz": "[]",
    "@dig:c": '["x",4]',
    "@dig:#": "[2,6,2,0,2,2,1,1,4,3,2,0]",
    "@dig:a|0": '[3, {"d": null, "c": "x"}]',
    "@dig:a|#": "4",
    "o.@dig:c": '["x"]',
    "objs.@dig:a": '[1,{"a": 6},6]',
    "@dig:o.b": "[1]",
    "@dig:#(==2)": "[2,2]",
    "@dig:#(k)#": '[[],[{"k": [7]}],[],[],[],[],[],[],[],[],[],[]]',
    "@dig:*": '[{"b": 1, "a": [3, {"d": null, "c": "x"}], "e": {}},1,null,[7],1,3,{"a": 6},6,[1, 2, 3]]',
    "n.@dig:a": "[]",
    "missing.@dig:a": "[]",
    "arr.@dig:1": "[[2, 3],3,[5, [6]],[6]]",
    "@dig:a.#": "[2]",
    "@dig": "[]",
    "@dig:@this|#": "53",
    "@dig:{a,b}|#": "53",
    '@dig:"a"': "[]",
}
ODD: dict[str, str | None] = {
    "o.@nope": None,
    "@nope": None,
    "@nope.b": None,
    "o.@nope|b": None,
    "o.@Reverse": None,
    "o.@": None,
    "@": None,
    "@:": None,
    "o.@this:": '{"b": 1, "a": [3, {"d": null, "c": "x"}], "e": {}}',
    "o.@this:x|b": "1",
    "o.@this:x.b": '{"b": 1, "a": [3, {"d": null, "c": "x"}], "e": {}}',
    'o.@this:"x.y".b': "1",
    'o.@this:{"x":"}"}.b': "1",
    "o.@this:[1,2]|b": "1",
    "o.@this:(a|b)|b": "1",
    'o.@this:"open': '{"b": 1, "a": [3, {"d": null, "c": "x"}], "e": {}}',
    "o.@thisb": None,
    "o.@this b": None,
    "o.@reverse@this": None,
    '@reverse:{"a":1}x': '{"bad":"{\\"a\\":","e":[],"nil":null,"t":true,"n":1.50,"plain":"a<b>&c\\u2028\\n\\"q\\" é","num":"12","str":"{\\"in\\": [1, 2]}","cols":{"id": [1, 2, 3], "n": ["x", "y"], "z": 9},"objs":[{"a": 1, "b": 2}, {"b": 3, "c": 4}, 5, {"a": {"a": 6}}],"arr":[1, [2, 3], [], [4, [5, [6]]], {"k": [7]}, "s"],"o":{"b": 1, "a": [3, {"d": null, "c": "x"}], "e": {}}}',
    "arr.#.@this": '[1,[2, 3],[],[4, [5, [6]]],{"k": [7]},"s"]',
    "arr.#.@this|#": "6",
    "objs.#.@keys": '[["a","b"],["b","c"],[null],["a"]]',
    "objs.#.@keys|@flatten": '["a","b","b","c",null,"a"]',
    "*.@this": '{"b": 1, "a": [3, {"d": null, "c": "x"}], "e": {}}',
    "o.@this.@this.@this.b": "1",
    "@this.@reverse.o.b": "1",
    "@reverse|@keys|0": "bad",
}


@cases(SHAPES)
def test_shapes(path: str, expected: str | None) -> None:
    """A modifier makes another value of a value; what it cannot change it leaves, or makes nothing of."""
    assert expected == find(path, DOCUMENT)
    assert expected == find(path, DOCUMENT, orjson.loads(DOCUMENT))


@cases(STRINGS)
def test_strings(path: str, expected: str | None) -> None:
    """A value becomes the text of a string, and the text of a string a value."""
    assert expected == find(path, DOCUMENT)
    assert expected == find(path, DOCUMENT, orjson.loads(DOCUMENT))


@cases(DIG)
def test_dig(path: str, expected: str | None) -> None:
    """`@dig` finds what its path leads to, here and in all that is inside."""
    assert expected == find(path, DOCUMENT)
    assert expected == find(path, DOCUMENT, orjson.loads(DOCUMENT))


@cases(ODD)
def test_arguments_and_unknown_names(path: str, expected: str | None) -> None:
    """An argument ends with its bracket or string, else at a pipe; an unknown modifier is a name."""
    assert expected == find(path, DOCUMENT)
    assert expected == find(path, DOCUMENT, orjson.loads(DOCUMENT))
