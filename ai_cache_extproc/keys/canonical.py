"""JSON that every parser reads the same way, and one spelling of it.

Whatever `parse` accepts survives a round trip: no key twice, no number that another parser would read otherwise.
"""

from __future__ import annotations

from decimal import Decimal
from json import JSONDecodeError, JSONDecoder
from math import isfinite
from typing import Never, cast

import orjson

from ai_cache_extproc.config.model import JSON_VALUES_MAX
from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.model import Reason

DEPTH_MAX = 254
"""`canonical` writes nothing deeper (orjson's own bound)."""

_WHITESPACE = " \t\n\r"
_BOM = b"\xef\xbb\xbf"
_INTEGER_MIN = -(2**63)
_INTEGER_MAX = 2**64 - 1
_FLOAT_CHARS_MAX = 64


def parse(body: bytes, *, depth_max: int, values_max: int = JSON_VALUES_MAX) -> dict[str, object]:
    """Read a JSON object. depth_max: how many brackets may be open at once, at most DEPTH_MAX.

    values_max: how many values it may hold, itself and those inside others included.
    Raises DialectError with TOO_MANY_VALUES, NOT_JSON, BOM, TRAILING_DATA, DUPLICATE_KEY, NUMBER or TOO_DEEP.
    """
    # No value is shorter than a byte.
    if len(body) > values_max and _holds_more(body, values_max):
        raise DialectError(Reason.TOO_MANY_VALUES, f"more than {values_max} values")
    compact = _parse_compact(body)
    value = _parse_strictly(body) if compact is None else compact
    if not isinstance(value, dict):
        raise DialectError(Reason.NOT_JSON, "the top level is not an object")
    if _deeper(value, min(depth_max, DEPTH_MAX)):
        raise DialectError(Reason.TOO_DEEP, f"more than {depth_max} levels")
    if compact is None:
        _refuse_lone_surrogates(value)
    return cast("dict[str, object]", value)


def canonical(value: object) -> bytes:
    """The one spelling of a parsed value: keys sorted, no blanks, numbers in their shortest form.

    How an exponent is written is orjson's choice; another version of it may miss what this one stored.
    """
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _holds_more(body: bytes, values_max: int) -> bool:
    """Whether a JSON text holds more values; told from its bytes, since making the values is what costs so much.

    Every value but the outermost stands behind a comma or is the first behind a bracket.
    """
    if _values_bound(body) <= values_max:
        return False
    # What stands in texts does not count. Two quotes make a text, and of two texts one at least is a value.
    bare = body.replace(rb"\\", b"").replace(rb"\"", b"") if b"\\" in body else body
    if bare.count(b'"') > 4 * values_max:
        return True
    return _values_bound(b" ".join(bare.split(b'"')[::2])) > values_max


def _values_bound(text: bytes) -> int:
    """As many values as there can be; empty brackets are counted as if they held one."""
    return 1 + text.count(b",") + text.count(b"[") + text.count(b"{")


def _parse_compact(body: bytes) -> object | None:
    """Read what is written without blanks, as most SDKs do: four times faster; None says to read strictly.

    Text that comes back byte for byte holds no key twice, no number that a round trip changes, no BOM, no blank.
    """
    # The first key tells: where blanks are written, one follows it.
    if b'": ' in body[:64]:
        return None
    try:
        value: object = orjson.loads(body)
        return value if orjson.dumps(value) == body else None
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return None


def _parse_strictly(body: bytes) -> object:
    if body.startswith(_BOM):
        raise DialectError(Reason.BOM, "the body begins with a byte order mark")
    try:
        text = body.decode().lstrip(_WHITESPACE)
        value, end = _DECODER.raw_decode(text)
    except UnicodeDecodeError as error:
        raise DialectError(Reason.NOT_JSON, f"not UTF-8 at byte {error.start}") from None
    except JSONDecodeError as error:
        raise DialectError(Reason.NOT_JSON, f"{error.msg} at character {error.pos}") from None
    except RecursionError:
        raise DialectError(Reason.TOO_DEEP, "more levels than the interpreter reads") from None
    if text[end:].strip(_WHITESPACE):
        raise DialectError(Reason.TRAILING_DATA, "something follows the value")
    return cast("object", value)


def _deeper(value: object, levels: int) -> bool:
    """Whether containers are nested more than `levels` deep; level by level, so that nothing recurses."""
    level = [value]
    for _ in range(levels):
        level = [
            child
            for container in level
            for child in (container.values() if type(container) is dict else cast("list[object]", container))
            if type(child) is dict or type(child) is list
        ]
        if not level:
            return False
    return True


def _refuse_lone_surrogates(value: object) -> None:
    """Refuse text that is no Unicode. Writing it all takes less time than looking for escapes in the body."""
    try:
        orjson.dumps(value)
    except orjson.JSONEncodeError:
        # Depth and numbers have been judged by then: nothing else is left to refuse.
        raise DialectError(Reason.NOT_JSON, "half of a surrogate pair") from None


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise DialectError(Reason.DUPLICATE_KEY, "a key stands twice in one object")
    return value


def _integer(text: str) -> int:
    # Up to 18 characters always fit; above 20 they never do, and int() would cost quadratic time.
    if len(text) <= 20 and text != "-0":
        value = int(text)
        if len(text) < 19 or _INTEGER_MIN <= value <= _INTEGER_MAX:
            return value
    raise DialectError(Reason.NUMBER, "an integer that not every parser keeps")


def _float(text: str) -> float:
    # A double keeps every decimal number of 15 digits.
    if len(text) < 17 and "e" not in text and "E" not in text:
        return float(text)
    if len(text) <= _FLOAT_CHARS_MAX and _exact(text, value := float(text)):
        return value
    raise DialectError(Reason.NUMBER, "a number that a double does not keep")


def _exact(text: str, value: float) -> bool:
    """Whether the shortest spelling of the double stands for the same number as the text."""
    if not isfinite(value):
        return False
    if value == 0:
        # Before Decimal, whose exponents have bounds of their own.
        return not text.lower().partition("e")[0].strip("-0.")
    return Decimal(text) == Decimal(repr(value))


def _constant(text: str) -> Never:
    raise DialectError(Reason.NUMBER, f"{text} is no JSON")


_DECODER = JSONDecoder(object_pairs_hook=_unique, parse_int=_integer, parse_float=_float, parse_constant=_constant)
