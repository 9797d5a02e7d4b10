"""Sizes, times, lists and tables as people read them."""

from __future__ import annotations

import pytest

from ai_cache_extproc.cli.words import duration, listed, size, table


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (17, "17 bytes"), (2048, "2 KiB"), (4 * 1024**2, "4 MiB"), (1.5 * 1024**3, "1.5 GiB")],
)
def test_sizes_have_the_unit_that_reads_best(count: float, text: str) -> None:
    """Binary units, one decimal at most."""
    assert text == size(count)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.05, "50 ms"),
        (1, "1 s"),
        (1.5, "1.5 s"),
        (60, "1 min"),
        (5400, "90 min"),
        (3600, "1 h"),
        (86_400, "1 d"),
    ],
)
def test_times_have_the_unit_that_divides_them(seconds: float, text: str) -> None:
    """90 min, and not 1.5 h."""
    assert text == duration(seconds)


def test_lists_end_with_their_joint() -> None:
    """None, one, two and more."""
    assert ["", "a", "a or b", "a, b and c"] == [
        listed([]),
        listed(["a"]),
        listed(["a", "b"]),
        listed("abc", joint="and"),
    ]


def test_the_second_column_wraps_under_itself() -> None:
    """Long text stays readable, and an empty cell is no line of blanks."""
    first, second, empty = table([("name", "word " * 25), ("x", "")], indent="  ")
    assert first.startswith("  name  word")
    assert second.startswith("        word")
    assert "  x" == empty
