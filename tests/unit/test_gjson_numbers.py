"""Numbers as Go reads and writes them."""

from __future__ import annotations

import math

import pytest

from ai_cache_extproc.paths.gjson.numbers import format_number, parse_number


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"1", 1.0),
        (b"-1.5e3", -1500.0),
        (b"+5", 5.0),
        (b".5", 0.5),
        (b"5.", 5.0),
        (b"00012", 12.0),
        (b"1_0", 10.0),
        (b"0_1", 1.0),
        (b"1e1_0", 1e10),
        (b"1__0", 0.0),
        (b"_1", 0.0),
        (b"1_", 0.0),
        (b"1e", 0.0),
        (b"1e+", 0.0),
        (b"--1", 0.0),
        (b" 1", 0.0),
        (b"", 0.0),
        (b"-", 0.0),
        (b"x", 0.0),
        (b"1e400", math.inf),
        (b"-1e400", -math.inf),
        (b"1e-400", 0.0),
        (b"0x1F", 0.0),
        (b"0x1Fp0", 31.0),
        (b"0X1P-2", 0.25),
        (b"-0x1.8p1", -3.0),
        (b"0x1.p1", 2.0),
        (b"0x.p1", 0.0),
        (b"0x_1p0", 1.0),
        (b"0x1_Fp2", 124.0),
        (b"0x1_p1", 0.0),
        (b"0x1p1_0", 1024.0),
        (b"0x1p99999", math.inf),
        (b"-0x1p99999", -math.inf),
        (b"inf", math.inf),
        (b"+Infinity", math.inf),
        (b"-INF", -math.inf),
        (b"infinit", 0.0),
        (b"-nan", 0.0),
    ],
)
def test_parse(raw: bytes, expected: float) -> None:
    """Decimal and hexadecimal, with underscores between digits; what is none of it is 0."""
    assert expected == parse_number(raw)


def test_parse_no_number() -> None:
    """NaN is read in any case of its letters."""
    assert math.isnan(parse_number(b"nan"))
    assert math.isnan(parse_number(b"NaN"))


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (0.0, "0"),
        (-0.0, "-0"),
        (1.0, "1"),
        (1.5, "1.5"),
        (1e21, "1000000000000000000000"),
        (1e23, "100000000000000000000000"),
        (1e-7, "0.0000001"),
        (123456789.125, "123456789.125"),
        (2.0**70, "1180591620717411300000"),
        (math.inf, "+Inf"),
        (-math.inf, "-Inf"),
        (math.nan, "NaN"),
    ],
)
def test_format(number: float, expected: str) -> None:
    """The fewest digits that tell the double from others, filled up with zeros."""
    assert expected == format_number(number)
