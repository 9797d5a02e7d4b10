"""Numbers as Go reads and writes them: `strconv.ParseFloat` without its errors, and format `f` with precision -1."""

from __future__ import annotations

import re
from decimal import Decimal
from math import isfinite

_DECIMAL = re.compile(rb"[+-]?(?:[0-9_]+\.?[0-9_]*|\.[0-9_]+)(?:[eE][+-]?[0-9_]+)?")
_HEXADECIMAL = re.compile(rb"[+-]?0[xX][0-9a-fA-F_]*\.?[0-9a-fA-F_]*[pP][+-]?[0-9_]+")
_MISPLACED = re.compile(rb"__|_[^0-9a-fA-F]|[^0-9a-fA-FxX]_|_$")
_NAMED = {
    b"nan": float("nan"),
    **dict.fromkeys((b"inf", b"+inf", b"infinity", b"+infinity"), float("inf")),
    **dict.fromkeys((b"-inf", b"-infinity"), float("-inf")),
}


def parse_number(raw: bytes) -> float:
    """The double nearest to what is written; 0 where that is no number, infinity where it is too large."""
    if _DECIMAL.fullmatch(raw):
        try:
            return float(raw)
        except ValueError:
            return 0.0
    if _HEXADECIMAL.fullmatch(raw) and not _MISPLACED.search(raw):
        try:
            return float.fromhex(raw.replace(b"_", b"").decode())
        except OverflowError:
            return float("-inf" if raw.startswith(b"-") else "inf")
        except ValueError:
            return 0.0
    return _NAMED.get(raw.lower(), 0.0)


def format_number(number: float) -> str:
    """The fewest digits that read back as the same double, never with an exponent."""
    if not isfinite(number):
        return {"inf": "+Inf", "-inf": "-Inf"}.get(repr(number), "NaN")
    digits = repr(number)
    if "e" in digits:
        digits = format(Decimal(digits), "f")
    return digits.removesuffix(".0")
