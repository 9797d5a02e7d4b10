"""The strict parse: what is taken, what is refused with which word, and the one spelling."""

from __future__ import annotations

import inspect
import json
import sys
from json import JSONDecoder

import orjson
import pytest

from ai_cache_extproc.config.model import Limits
from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.keys.canonical import DEPTH_MAX, canonical, parse
from ai_cache_extproc.model import Reason


def refusal(body: bytes, *, depth_max: int = 128, values_max: int = 1_000_000) -> str:
    """The word with which a body is refused."""
    with pytest.raises(DialectError) as caught:
        parse(body, depth_max=depth_max, values_max=values_max)
    return caught.value.reason


def nested(levels: int, *, blank: str = "") -> bytes:
    """An object with so many containers inside each other, itself the first, lists and objects by turns."""
    opening = "".join('{"a":' + blank if level % 2 == 0 else "[" for level in range(levels))
    closing = "".join("}" if level % 2 == 0 else "]" for level in reversed(range(levels)))
    return f"{opening}0{closing}".encode()


@pytest.mark.parametrize("body", [b'{"a":1,"b":[true,null,"x"]}', b' {"a": 1,\t"b" :\r\n[true, null, "x"] }\n'])
def test_an_object_is_read_with_and_without_blanks(body: bytes) -> None:
    """Both ways of reading give the same values."""
    assert {"a": 1, "b": [True, None, "x"]} == parse(body, depth_max=8)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", Reason.NOT_JSON),
        (b"  ", Reason.NOT_JSON),
        (b"[]", Reason.NOT_JSON),
        (b" [1, 2]", Reason.NOT_JSON),
        (b"null", Reason.NOT_JSON),
        (b'"text"', Reason.NOT_JSON),
        (b"{'a': 1}", Reason.NOT_JSON),
        (b'{"a":1,}', Reason.NOT_JSON),
        (b'{"a":"\x01"}', Reason.NOT_JSON),
        (b'{"a":"\xff"}', Reason.NOT_JSON),
        (b'{"a":"\xed\xa0\x80"}', Reason.NOT_JSON),
        (b'{"a":"\\ud800"}', Reason.NOT_JSON),
        (b'{"a":"\\uDC00x"}', Reason.NOT_JSON),
        (b'{"\\ud800":1}', Reason.NOT_JSON),
        (b'{"a":"\\x"}', Reason.NOT_JSON),
        (b'{"a":01}', Reason.NOT_JSON),
        (b'{"a":+1}', Reason.NOT_JSON),
        (b'{"a":.5}', Reason.NOT_JSON),
        ('{"a":1}\u00a0'.encode(), Reason.TRAILING_DATA),
        (b'\x0b{"a":1}', Reason.NOT_JSON),
        (b'\xef\xbb\xbf{"a":1}', Reason.BOM),
        ('{"a":1}'.encode("utf-16"), Reason.NOT_JSON),
        (b'{"a":1}{"a":1}', Reason.TRAILING_DATA),
        (b'{"a":1}\x00', Reason.TRAILING_DATA),
        (b'{"a":1} x', Reason.TRAILING_DATA),
        (b'{"a":1,"a":1}', Reason.DUPLICATE_KEY),
        (b'{"a":1, "\\u0061":2}', Reason.DUPLICATE_KEY),
        (b'{"m":[{"b":{"a":1,"a":2}}]}', Reason.DUPLICATE_KEY),
        (b'{"a":NaN}', Reason.NUMBER),
        (b'{"a":-Infinity}', Reason.NUMBER),
    ],
)
def test_what_is_not_plainly_json_is_refused_with_its_word(body: bytes, reason: Reason) -> None:
    """Whatever two parsers may read differently gets a bypass, and the word says why."""
    assert reason == refusal(body)


@pytest.mark.parametrize(
    "number",
    [
        "-0",
        "18446744073709551616",
        "-9223372036854775809",
        "123456789012345678901",
        "9" * 5000,
        "0.1000000000000000055511151231257827",
        "9007199254740993.0",
        "1e400",
        "-1e400",
        "1e-400",
        "1e-99999999999999999999",
        "5e-325",
        "4.9406564584124654e-324",
        "1" + "0" * 400 + ".0",
        "0." + "0" * 70,
        "1.7976931348623159e308",
    ],
)
def test_a_number_that_a_parser_may_change_is_refused(number: str) -> None:
    """Beyond 64 bits, or with digits that a double does not keep: some upstream reads another number than we do."""
    assert Reason.NUMBER == refusal(f'{{"a":{number}}}'.encode())
    assert Reason.NUMBER == refusal(f'{{"a": {number}}}'.encode())


@pytest.mark.parametrize(
    ("spellings", "expected"),
    [
        (("0",), 0),
        (("18446744073709551615",), 2**64 - 1),
        (("-9223372036854775808",), -(2**63)),
        (("123456789012345678",), 123456789012345678),
        (("0.7", "0.70", "7e-1", "7E-01", "0.0000000000007e12"), 0.7),
        (("1.0", "1e0", "10e-1"), 1.0),
        (("1e5", "100000.0", "1E+5"), 1e5),
        (("0.0", "0e5", "0.000e-999999999999999999999999"), 0.0),
        (("-0.0", "-0e1"), -0.0),
        (("1.7976931348623157e308", "1.7976931348623157E+308"), sys.float_info.max),
        (("5e-324",), 5e-324),
        (("0.1234567890123",), 0.1234567890123),
        (("3.141592653589793",), 3.141592653589793),
    ],
)
def test_spellings_of_one_number_are_one(spellings: tuple[str, ...], expected: float) -> None:
    """A number that survives has one canonical spelling; 1 and 1.0 stay apart, and so do 0.0 and -0.0."""
    bodies = [f'{{"a":{blank}{spelling}}}'.encode() for spelling in spellings for blank in ("", " ")]
    (text,) = {canonical(parse(body, depth_max=8)) for body in bodies}
    assert repr(expected) == repr(json.loads(text)["a"])


@pytest.mark.parametrize("blank", ["", " "])
def test_depth_counts_open_brackets(blank: str) -> None:
    """Exactly as many levels as allowed are taken, and one more is refused."""
    assert parse(nested(5, blank=blank), depth_max=5)
    assert Reason.TOO_DEEP == refusal(nested(6, blank=blank), depth_max=5)
    assert canonical(parse(nested(DEPTH_MAX, blank=blank), depth_max=10_000))
    assert Reason.TOO_DEEP == refusal(nested(DEPTH_MAX + 1, blank=blank), depth_max=10_000)


def test_wide_is_not_deep() -> None:
    """Many brackets beside each other are no depth."""
    body = b'{"a":[' + b"[]," * 10_000 + b"{}]}"
    assert 10_001 == len(json.loads(canonical(parse(body, depth_max=3)))["a"])
    assert Reason.TOO_DEEP == refusal(body, depth_max=2)


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 100_000, b'{"a": ' * 100_000, nested(100_000)])
def test_a_tower_of_brackets_is_refused(body: bytes) -> None:
    """Neither the interpreter's stack nor ours is at risk."""
    assert refusal(body) in {Reason.TOO_DEEP, Reason.NOT_JSON}


@pytest.mark.parametrize(
    ("body", "values"),
    [
        (b'{"a":[1,2,3]}', 5),
        (b'{"a": [1.5, null, "x"]}', 5),
        (b'{"a":[{},[]]}', 6),
        (b'{"a":"x","b":"y","c":"z"}', 4),
        (b'{"a,b":"1,[2,{3"}', 2),
        (b'{"a":"\\",","b":"\\\\"}', 3),
        (b'{"a":"\\\\\\",[,[,[","b":",,,,,,"}', 3),
    ],
    ids=["numbers", "with blanks", "empty brackets", "texts", "commas in texts", "quotes in texts", "backslashes"],
)
def test_values_are_counted_before_they_are_made(body: bytes, values: int) -> None:
    """Exactly as many as allowed are taken; what stands inside a text is no value, an empty bracket counts for two."""
    assert parse(body, depth_max=8, values_max=values)
    assert Reason.TOO_MANY_VALUES == refusal(body, values_max=values - 1)


@pytest.mark.parametrize(
    "piece", [b"1", b"1.5", b"{}", b'""', b"[[[[]]]]", b'{"a":1}', b'"\\""'], ids=lambda piece: piece.decode()
)
def test_a_body_of_many_small_values_is_not_read(piece: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """4 MiB of them would hold the loop for up to half a second: neither parser is asked."""
    body = b'{"a": [' + b", ".join([piece] * (4 * 1024 * 1024 // (len(piece) + 2))) + b"]}"
    monkeypatch.setattr(orjson, "loads", None)
    monkeypatch.setattr(JSONDecoder, "raw_decode", None)
    assert Reason.TOO_MANY_VALUES == refusal(body, values_max=Limits().json_values_max)


def test_a_long_text_is_few_values() -> None:
    """However many commas and brackets it holds."""
    text = 'a, [b], {c}, \\"d\\", ' * 100_000
    assert parse(f'{{"a": "{text}"}}'.encode(), depth_max=2, values_max=2)


def test_a_stack_that_is_nearly_full_is_no_fault() -> None:
    """Where the interpreter has no room left to recurse, the body counts as too deep; later ones have more room."""
    body = nested(100, blank=" ")

    def descend(frames: int) -> str:
        if frames:
            return descend(frames - 1)
        try:
            parse(body, depth_max=128)
        except DialectError as error:
            return error.reason
        return "read"

    outcome = descend(sys.getrecursionlimit() - len(inspect.stack(0)) - 50)
    assert outcome == (Reason.TOO_DEEP if sys.version_info < (3, 12) else "read")


def test_surrogate_pairs_and_escapes_are_plain_text() -> None:
    """However a letter is spelled, it is the same letter."""
    bodies = [b'{"a":"\\ud83d\\ude00\\u00e9\\/"}', '{"a": "\U0001f600é/"}'.encode(), '{"a":"\U0001f600é/"}'.encode()]
    assert {'{"a":"\U0001f600é/"}'.encode()} == {canonical(parse(body, depth_max=8)) for body in bodies}


def test_a_deep_body_with_escapes_is_judged_by_its_depth() -> None:
    """Half a surrogate is not blamed for what is too deep."""
    body = nested(300, blank=" ").replace(b"0", b'"\\ud83d\\ude00"')
    assert Reason.TOO_DEEP == refusal(body)


def test_the_detail_holds_no_content() -> None:
    """What is logged of a refused body is where, never what."""
    for body in (
        b'{"canary": canary}',
        b'{"a":1} canary',
        b'{"canary":1,"canary": 2}',
        b'{"a":3133731337313373133731337}',
    ):
        with pytest.raises(DialectError) as caught:
            parse(body, depth_max=8)
        assert "canary" not in str(caught.value)
        assert "31337" not in str(caught.value)
        assert caught.value.__cause__ is None
