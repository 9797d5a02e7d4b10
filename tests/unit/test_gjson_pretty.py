"""`@pretty` and `@ugly`, blank by blank."""

from __future__ import annotations

import orjson

from tests.support.paths import cases, find

DOCUMENT = r"""{"o": {"b": 1, "a": [3, {"d": null, "c": "x"}], "e": {}},
 "arr": [1, [2, 3], [], [4, [5, [6]]], {"k": [7]}, "s"],
 "objs": [{"a": 1, "b": 2}, {"b": 3, "c": 4}, 5, {"a": {"a": 6}}],
 "cols": {"id": [1, 2, 3], "n": ["x", "y"], "z": 9},
 "str": "{\"in\": [1, 2]}", "num": "12", "plain": "a<b>&c\u2028\n\"q\" é", "n": 1.50, "t": true, "nil": null, "e": [], "bad": "{\"a\":"}"""

LAYOUTS: dict[str, str | None] = {
    "@pretty": '{\n  "o": {\n    "b": 1,\n    "a": [\n      3,\n      {\n        "d": null,\n        "c": "x"\n      }\n    ],\n    "e": {}\n  },\n  "arr": [\n    1,\n    [2, 3],\n    [],\n    [4, [5, [6]]],\n    {\n      "k": [7]\n    },\n    "s"\n  ],\n  "objs": [\n    {\n      "a": 1,\n      "b": 2\n    },\n    {\n      "b": 3,\n      "c": 4\n    },\n    5,\n    {\n      "a": {\n        "a": 6\n      }\n    }\n  ],\n  "cols": {\n    "id": [1, 2, 3],\n    "n": ["x", "y"],\n    "z": 9\n  },\n  "str": "{\\"in\\": [1, 2]}",\n  "num": "12",\n  "plain": "a<b>&c\\u2028\\n\\"q\\" é",\n  "n": 1.50,\n  "t": true,\n  "nil": null,\n  "e": [],\n  "bad": "{\\"a\\":"\n}\n',
    "o.@pretty": '{\n  "b": 1,\n  "a": [\n    3,\n    {\n      "d": null,\n      "c": "x"\n    }\n  ],\n  "e": {}\n}\n',
    "arr.@pretty": '[\n  1,\n  [2, 3],\n  [],\n  [4, [5, [6]]],\n  {\n    "k": [7]\n  },\n  "s"\n]\n',
    "e.@pretty": "[]\n",
    "n.@pretty": "1.5",
    "str.@pretty": '{"in": [1, 2]}',
    "missing.@pretty": None,
    'o.@pretty:{"sortKeys":true}': '{\n  "a": [\n    3,\n    {\n      "c": "x",\n      "d": null\n    }\n  ],\n  "b": 1,\n  "e": {}\n}\n',
    'o.@pretty:{"indent":"\\t"}': '{\n\t"b": 1,\n\t"a": [\n\t\t3,\n\t\t{\n\t\t\t"d": null,\n\t\t\t"c": "x"\n\t\t}\n\t],\n\t"e": {}\n}\n',
    'o.@pretty:{"indent":""}': '{\n"b": 1,\n"a": [\n3,\n{\n"d": null,\n"c": "x"\n}\n],\n"e": {}\n}\n',
    'o.@pretty:{"indent":"xx"}': '{\n"b": 1,\n"a": [\n3,\n{\n"d": null,\n"c": "x"\n}\n],\n"e": {}\n}\n',
    'o.@pretty:{"prefix":"  "}': '{\n    "b": 1,\n    "a": [\n      3,\n      {\n        "d": null,\n        "c": "x"\n      }\n    ],\n    "e": {}\n  }\n',
    'arr.@pretty:{"width":10}': '[\n  1,\n  [2, 3],\n  [],\n  [\n    4,\n    [\n      5,\n      [6]\n    ]\n  ],\n  {\n    "k": [\n      7\n    ]\n  },\n  "s"\n]\n',
    'arr.@pretty:{"width":0}': '[\n  1,\n  [\n    2,\n    3\n  ],\n  [],\n  [\n    4,\n    [\n      5,\n      [\n        6\n      ]\n    ]\n  ],\n  {\n    "k": [\n      7\n    ]\n  },\n  "s"\n]\n',
    'arr.@pretty:{"width":-1}': '[\n  1,\n  [\n    2,\n    3\n  ],\n  [],\n  [\n    4,\n    [\n      5,\n      [\n        6\n      ]\n    ]\n  ],\n  {\n    "k": [\n      7\n    ]\n  },\n  "s"\n]\n',
    'arr.@pretty:{"width":"10"}': '[\n  1,\n  [2, 3],\n  [],\n  [\n    4,\n    [\n      5,\n      [6]\n    ]\n  ],\n  {\n    "k": [\n      7\n    ]\n  },\n  "s"\n]\n',
    'arr.@pretty:{"width":"x"}': '[\n  1,\n  [\n    2,\n    3\n  ],\n  [],\n  [\n    4,\n    [\n      5,\n      [\n        6\n      ]\n    ]\n  ],\n  {\n    "k": [\n      7\n    ]\n  },\n  "s"\n]\n',
    'arr.@pretty:{"width":true}': '[\n  1,\n  [\n    2,\n    3\n  ],\n  [],\n  [\n    4,\n    [\n      5,\n      [\n        6\n      ]\n    ]\n  ],\n  {\n    "k": [\n      7\n    ]\n  },\n  "s"\n]\n',
    'o.@pretty:{"sortKeys":true,"indent":"    ","prefix":"\\t","width":8}': '{\n\t    "a": [\n\t        3,\n\t        {\n\t            "c": "x",\n\t            "d": null\n\t        }\n\t    ],\n\t    "b": 1,\n\t    "e": {}\n\t}\n',
    "o.@pretty:[1]": '{\n  "b": 1,\n  "a": [\n    3,\n    {\n      "d": null,\n      "c": "x"\n    }\n  ],\n  "e": {}\n}\n',
    "o.@pretty:x": '{\n  "b": 1,\n  "a": [\n    3,\n    {\n      "d": null,\n      "c": "x"\n    }\n  ],\n  "e": {}\n}\n',
    "o.@pretty|b": "1",
    "o.@pretty.a.1.c": "x",
    "@ugly": '{"o":{"b":1,"a":[3,{"d":null,"c":"x"}],"e":{}},"arr":[1,[2,3],[],[4,[5,[6]]],{"k":[7]},"s"],"objs":[{"a":1,"b":2},{"b":3,"c":4},5,{"a":{"a":6}}],"cols":{"id":[1,2,3],"n":["x","y"],"z":9},"str":"{\\"in\\": [1, 2]}","num":"12","plain":"a<b>&c\\u2028\\n\\"q\\" é","n":1.50,"t":true,"nil":null,"e":[],"bad":"{\\"a\\":"}',
    "o.@ugly": '{"b":1,"a":[3,{"d":null,"c":"x"}],"e":{}}',
    "arr.@ugly": '[1,[2,3],[],[4,[5,[6]]],{"k":[7]},"s"]',
    "plain.@ugly": 'a<b>&c\u2028\n"q" \xe9',
    "missing.@ugly": None,
    "o.@pretty.@ugly": '{"b":1,"a":[3,{"d":null,"c":"x"}],"e":{}}',
    "arr.@pretty|@ugly": '[1,[2,3],[],[4,[5,[6]]],{"k":[7]},"s"]',
}


@cases(LAYOUTS)
def test_layouts(path: str, expected: str | None) -> None:
    """Members and elements get lines of their own, short arrays one line; `@ugly` takes every blank."""
    assert expected == find(path, DOCUMENT)
    assert expected == find(path, DOCUMENT, orjson.loads(DOCUMENT))
