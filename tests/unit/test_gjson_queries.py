"""GJSON queries: every operator on every type, patterns, nested ones, loose words, and broken brackets."""

from __future__ import annotations

import orjson

from tests.support.paths import cases, find

PEOPLE = r"""{
  "people": [
    {"first": "Dale", "last": "Murphy", "age": 44, "nets": ["ig", "fb", "tw"], "ok": true},
    {"first": "Roger", "last": "Craig", "age": 68, "nets": ["fb", "tw"], "ok": false},
    {"first": "Jane", "last": "Murphy", "age": 47, "nets": ["ig", "tw"]},
    {"first": "Ann", "age": null, "x.y": {"z": 1}, "q\"": "a\"b"}],
  "words": ["Sara", "Alex", "Jack", "", "*", "a\"b", "é"],
  "mixed": [1, 2.5, "three", null, true, false, [4], {"k": 5}, "2", -3],
  "flags": [{"v": true}, {"v": false}, {"v": 1}, {"v": 0}, {"v": "true"}, {"v": "False"}, {"v": "T"}, {"v": "0"},
    {"v": "yes"}, {"v": ""}, {"v": null}, {}, {"v": []}],
  "grid": [[1, 2], [3], []]
}"""

EQUAL: dict[str, str | None] = {
    'people.#(last=="Murphy").first': "Dale",
    'people.#(last="Murphy").first': "Dale",
    "people.#(last==Murphy).first": "Dale",
    'people.#(last=="Murphy")#.first': '["Dale","Jane"]',
    'people.#(last!="Murphy").first': "Roger",
    'people.#(last!="Murphy")#.first': '["Roger"]',
    'people.#(last=="Nobody")': None,
    'people.#(last=="Nobody").first': None,
    'people.#(last=="Nobody")#': "[]",
    'people.#(last=="Nobody")#.first': "[]",
    'people.#(last=="Nobody")#|0': None,
    'people.#( last == "Murphy" ).first': "Dale",
    'people.#(last=="murphy")': None,
    "people.#(age==47).first": "Jane",
    'people.#(age=="47").first': "Jane",
    "people.#(age==47.0).first": "Jane",
    "people.#(age!=47)#.first": '["Dale","Roger"]',
    "people.#(ok==true).first": "Dale",
    "people.#(ok==false).first": "Roger",
    "people.#(ok!=true)#.first": '["Roger"]',
    'people.#(ok=="true").first': "Dale",
    "people.#(age==null)": None,
    "people.#(age!=null)#.first": '["Dale","Roger","Jane"]',
    'people.#(q"=="a\\"b")': None,
    'people.#(first=="D\\u0061le").first': "Dale",
    "people.#(x\\.y.z==1).first": "Ann",
    "people.#(last)#.first": '["Dale","Roger","Jane"]',
    "people.#(x\\.y).first": "Ann",
    "people.#(nope)#": "[]",
    "people.#().first": None,
    "people.#()#": "[]",
    'people.#(first=="")': None,
    "people.#(last=='Murphy')": None,
    'people.#(last=="Murphy"': None,
}
ORDER: dict[str, str | None] = {
    "people.#(age>45)#.first": '["Roger","Jane"]',
    "people.#(age>=47)#.first": '["Roger","Jane"]',
    "people.#(age<47)#.first": '["Dale"]',
    "people.#(age<=47)#.first": '["Dale","Jane"]',
    "people.#(age>100).first": None,
    'people.#(last>"D")#.first': '["Dale","Jane"]',
    'people.#(last<"D")#.first': '["Roger"]',
    'people.#(last<="Craig")#.first': '["Roger"]',
    'people.#(last>="Murphy")#.first': '["Dale","Jane"]',
    "people.#(age>4e1)#.first": '["Dale","Roger","Jane"]',
    "people.#(age>abc)#.first": '["Dale","Roger","Jane"]',
    "people.#(age>-1)#.first": '["Dale","Roger","Jane"]',
    "people.#(ok>false)#.first": '["Dale"]',
    "people.#(ok<true)#.first": '["Roger"]',
    "people.#(ok>=true)#.first": '["Dale"]',
    "people.#(ok<=true)#.first": '["Roger"]',
    "people.#(ok>=whatever)#.first": '["Dale"]',
    "people.#(ok>true)#.first": "[]",
    "people.#(ok<false)#.first": "[]",
    'people.#(age<"45")#.first': '["Dale"]',
    "people.#(first>5)#.first": '["Dale","Roger","Jane","Ann"]',
    "people.#(nets>1)#.first": "[]",
    "people.#(age!45)#.first": '["Dale","Roger","Jane","Ann"]',
    "people.#(age=>45)#.first": "[]",
    "people.#(age<>45)#.first": "[]",
}
LIKE: dict[str, str | None] = {
    'people.#(first%"D*").last': "Murphy",
    'people.#(first!%"D*").first': "Roger",
    'people.#(first%"?ane").first': "Jane",
    'people.#(first%"*a*")#.first': '["Dale","Jane"]',
    'people.#(first!%"*a*")#.first': '["Roger","Ann"]',
    'people.#(first%"Jane").first': "Jane",
    'people.#(first%"*").first': "Dale",
    'people.#(first%"").first': None,
    'people.#(age%"4*")#.first': "[]",
    'words.#(%"*a*")#': '["Sara","Jack","a\\"b"]',
    'words.#(!%"*a*")#': '["Alex","","*","é"]',
    'words.#(!%"*a*")': "Alex",
    'words.#(%"????")#': '["Sara","Alex","Jack"]',
    'words.#(%"?")#': '["*","é"]',
    'words.#(%"*x")': "Alex",
    'words.#(%"\\\\*")#': '["*"]',
    'words.#(%"*\\"*")': 'a"b',
    'words.#(=="é")': "é",
    'words.#(=="\\u00e9")': "é",
    'words.#(%"\\u00e9")': "é",
    'words.#(=="")#': '[""]',
    'words.#(>"Jack")#': '["Sara","a\\"b","é"]',
    'words.#(=="a\\"b")': 'a"b',
    "words.#(%a*)": 'a"b',
    "words.#(%*)#": '["Sara","Alex","Jack","","*","a\\"b","é"]',
}
ELEMENTS: dict[str, str | None] = {
    "mixed.#(==2.5)": "2.5",
    "mixed.#(==2)": "2",
    'mixed.#(=="2")': "2",
    "mixed.#(>1)": "2.5",
    "mixed.#(>1)#": '[2.5,"three","2"]',
    "mixed.#(<=2.5)#": '[1,2.5,false,"2",-3]',
    "mixed.#(!=1)#": '[2.5,"three",true,false,"2",-3]',
    "mixed.#(==true)": "true",
    "mixed.#(==false)": "false",
    "mixed.#(==null)": None,
    'mixed.#(=="three")': "three",
    "mixed.#(k==5)": '{"k": 5}',
    "mixed.#(k)#": '[{"k": 5}]',
    "mixed.#(k==5).k": "5",
    "mixed.#(0==4)": "[4]",
    "mixed.#(#==1)": "[4]",
    "mixed.#()": "1",
    "mixed.#()#": '[1,2.5,"three",null,true,false,"2",-3]',
    'mixed.#(!%"t*")#': '["2"]',
    "mixed.#(<0)": "-3",
    "mixed.#(==-3)": "-3",
    "grid.#(#>1)": "[1, 2]",
    "grid.#(#==1)#": "[[3]]",
    "grid.#(0>1)": "[3]",
    "grid.#(1)#": "[[1, 2]]",
    "grid.#(#>0)#.0": "[1,3]",
    "grid.#(#>0)#|#": "2",
    "grid.#(#(>2))": "[3]",
    "grid.#(#(>2)#.0)": "[1, 2]",
    "grid.0.#(>1)": "2",
    'people.#(nets.#(=="fb"))#.first': '["Dale","Roger"]',
    'people.#(nets.#(=="ig")).first': "Dale",
    'people.#(nets.1=="tw").first': "Roger",
    "people.#(nets.#>2).first": "Dale",
    'people.#(nets.#(%"i*")#|#>0)#.first': '["Dale","Jane"]',
    'people.#(nets.@reverse.0=="tw")#.first': '["Dale","Roger","Jane"]',
    "people.#(nets.#==3).nets.#": "3",
    "people.#(nets.#==3).nets|0": "ig",
    'people.#(age>40)#.nets.#(=="fb")': '["fb","fb"]',
    "people.#(age>40)#.nets.0": '["ig","fb","ig"]',
    "people.#(age>40)#|0.first": "Dale",
    "people.#(age>40)#|#": "3",
    "people.#(age>40)#|#(ok==true).first": "Dale",
    "people.#(age>40)#.@keys|0": '["first","last","age","nets","ok"]',
    "people.#(age>40).@keys": '["first","last","age","nets","ok"]',
    'people.#(first=="Ann").x\\.y.z': "1",
    "people.#(age>40)#.nets|1|0": "fb",
    "people.#(age>400)#.nets|1|0": "[]",
    "people.#(age>40)#.{first,age}": '[{"first":"Dale","age":44},{"first":"Roger","age":68},{"first":"Jane","age":47}]',
    "people.#(age>40)#.{first,age}|1.first": "Roger",
}
LOOSE: dict[str, str | None] = {
    "flags.#(v==~true)#": '[{"v": true},{"v": 1},{"v": "true"},{"v": "T"}]',
    "flags.#(v==~false)#": '[{"v": false},{"v": 0},{"v": "False"},{"v": "0"},{"v": null},{}]',
    "flags.#(v==~null)#": '[{"v": null},{}]',
    "flags.#(v==~*)#": '[{"v": true},{"v": false},{"v": 1},{"v": 0},{"v": "true"},{"v": "False"},{"v": "T"},{"v": "0"},{"v": "yes"},{"v": ""},{"v": null},{"v": []}]',
    "flags.#(v!=~true)#.v": '[false,0,"False","0","yes","",null,[]]',
    "flags.#(v!=~null)#.v": '[true,false,1,0,"true","False","T","0","yes","",[]]',
    "flags.#(v>~true)#.v": "[]",
    "flags.#(v>=~true)#.v": '[true,1,"true","T"]',
    "flags.#(v<~true)#.v": '[false,0,"False","0","yes","",null,[]]',
    "flags.#(v<=~true)#.v": '[false,0,"False","0","yes","",null,[]]',
    "flags.#(v==~other)#": "[]",
    'flags.#(v=="~true")#.v': '[true,1,"true","T"]',
    "flags.#(v==~)#": "[]",
    "flags.#(v%~true)#": "[]",
    "mixed.#(==~true)#": "[1,2.5,true,-3]",
    "mixed.#(==~false)#": '[null,false,[4],{"k": 5}]',
    "mixed.#(==~null)#": '[null,[4],{"k": 5}]',
    "mixed.#(==~*)#": '[1,2.5,"three",null,true,false,"2",-3]',
    "people.#(ok==~null)#.first": '["Jane","Ann"]',
}
OLD: dict[str, str | None] = {
    'people.#[last=="Murphy"].first': "Dale",
    'people.#[last=="Murphy"]#.first': '["Dale","Jane"]',
    'people.#[nets.#[=="fb"]]#.first': '["Dale","Roger"]',
    'words.#[%"*a*"]#': '["Sara","Jack","a\\"b"]',
    "people.#[age>45]#|0.first": "Roger",
    'people.#[last=="Murphy")#.first': '["Dale","Jane"]',
    'people.#(last=="Murphy"]#.first': '["Dale","Jane"]',
    "people.#[]#|#": "0",
}
BROKEN: dict[str, str | None] = {
    "people.#(": None,
    "people.#[": None,
    "people.#(last": None,
    "people.#(last==": None,
    'people.#(last=="Mur': None,
    "words.#(": "Sara",
    'words.#(=="Jack"': "Sara",
    "words.#(x.y": "Sara",
    'people.#(last=="Murphy")x.first': "Dale",
    'people.#(last=="Murphy")##.first': '["Dale","Jane"]',
    'people.#(last=="Murphy")#x|0.first': "Dale",
    'people#(last=="Murphy")': None,
    'people.#(last=="Murphy").': None,
    'people.#(last=="Murphy")#.': "[]",
    'people.#(last=="Murphy")|': None,
    'people.#(last=="Mur)phy").first': None,
    'people.#(last\\=="Murphy").first': None,
}


@cases(EQUAL)
def test_equality(path: str, expected: str | None) -> None:
    """`==` and `=` ask for the value, `!=` for any other of the same type, no operator for any value."""
    assert expected == find(path, PEOPLE)
    assert expected == find(path, PEOPLE, orjson.loads(PEOPLE))


@cases(ORDER)
def test_order(path: str, expected: str | None) -> None:
    """Numbers and texts are compared with their own kind; false is less than true; nothing else is ordered."""
    assert expected == find(path, PEOPLE)
    assert expected == find(path, PEOPLE, orjson.loads(PEOPLE))


@cases(LIKE)
def test_likeness(path: str, expected: str | None) -> None:
    """`%` asks for texts of a pattern, `!%` for texts of another shape."""
    assert expected == find(path, PEOPLE)
    assert expected == find(path, PEOPLE, orjson.loads(PEOPLE))


@cases(ELEMENTS)
def test_elements(path: str, expected: str | None) -> None:
    """A query without a path asks for elements; with one, for what it finds in them, nested queries included."""
    assert expected == find(path, PEOPLE)
    assert expected == find(path, PEOPLE, orjson.loads(PEOPLE))


@cases(LOOSE)
def test_loose_words(path: str, expected: str | None) -> None:
    """A tilde asks for what counts as true, false or null, or is there at all."""
    assert expected == find(path, PEOPLE)
    assert expected == find(path, PEOPLE, orjson.loads(PEOPLE))


@cases(OLD)
def test_square_brackets(path: str, expected: str | None) -> None:
    """Queries may stand in square brackets, as before gjson 1.3."""
    assert expected == find(path, PEOPLE)
    assert expected == find(path, PEOPLE, orjson.loads(PEOPLE))


@cases(BROKEN)
def test_odd_queries(path: str, expected: str | None) -> None:
    """Brackets that do not close ask for any value that is no container; what follows a bracket is passed over."""
    assert expected == find(path, PEOPLE)
    assert expected == find(path, PEOPLE, orjson.loads(PEOPLE))
