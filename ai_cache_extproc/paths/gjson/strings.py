"""JSON strings: what the inside of one means, and text written as one."""

from __future__ import annotations

import re

import orjson

from ai_cache_extproc.paths.gjson.work import Work

_BACKSLASH = b"\\"
_PIECE = re.compile(rb"([^\\\x00-\x1f]++)|\\(?:u(.{4})|([\"\\/bfnrt]))", re.DOTALL)
_MEANT = dict(zip((b"b", b"f", b"n", b"r", b"t"), (b"\b", b"\f", b"\n", b"\r", b"\t"), strict=True))
_HEX = re.compile(rb"[0-9a-fA-F]{4}")
_REPLACEMENT = "\ufffd".encode()
_FOR_HTML = {
    b"<": rb"\u003c",
    b">": rb"\u003e",
    b"&": rb"\u0026",
    "\u2028".encode(): rb"\u2028",
    "\u2029".encode(): rb"\u2029",
}


def decoded(text: bytes, work: Work) -> str:
    """Text as it stands; what is not UTF-8 becomes U+FFFD. Raises PathBudget."""
    (work.copy if text.isascii() else work.read)(0, len(text))
    return text.decode("utf-8", "replace")


def unescaped(inner: bytes, work: Work) -> str:
    """What the inside of a string means. One that is not valid JSON ends where it stops being. Raises PathBudget."""
    work.copy(1, len(inner))
    if _BACKSLASH not in inner:
        return decoded(inner, work)
    work.read(3, len(inner))
    try:
        text: str = orjson.loads(b'"%b"' % inner)
    except orjson.JSONDecodeError:
        return decoded(_by_hand(inner, work), work)
    return text


def _by_hand(inner: bytes, work: Work) -> bytes:
    pieces: list[bytes] = []
    at = 0
    while match := _PIECE.match(inner, at):
        work.read(3, match.end() - at)
        at = match.end()
        plain, code, letter = match.groups()
        if code is None:
            pieces.append(plain or _MEANT.get(letter, letter))
            continue
        unit = _code_unit(code)
        if not _is_surrogate(unit):
            pieces.append(chr(unit).encode())
        elif (other := _PIECE.match(inner, at)) and other[2] is not None:
            at = other.end()
            pieces.append(_pair(unit, _code_unit(other[2])))
        else:
            pieces.append(_REPLACEMENT)
    return b"".join(pieces)


def _code_unit(digits: bytes) -> int:
    return int(digits, 16) if _HEX.fullmatch(digits) else 0


def _is_surrogate(unit: int) -> bool:
    return 0xD800 <= unit < 0xE000


def _pair(high: int, low: int) -> bytes:
    if high < 0xDC00 <= low < 0xE000:
        return chr(0x10000 + (high - 0xD800) * 0x400 + low - 0xDC00).encode()
    return _REPLACEMENT


def quoted(text: bytes, work: Work) -> bytes:
    """Text as a JSON string, spelled as Go's encoding/json does: safe inside HTML and JavaScript. Raises PathBudget."""
    work.search(3, len(text))
    string = orjson.dumps(text.decode("utf-8", "replace"))
    for sign, spelling in _FOR_HTML.items():
        string = string.replace(sign, spelling)
    return string
