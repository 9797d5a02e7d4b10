"""Sizes, times and tables as people read them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from textwrap import wrap

_SIZES = ((1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB"))
_TIMES = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_WIDTH = 100


def size(count: float) -> str:
    """`4 MiB`, `1.5 GiB`, `17 bytes`."""
    for unit, name in _SIZES:
        if count >= unit:
            return f"{round(count / unit, 1):g} {name}"
    return f"{count:g} bytes"


def duration(seconds: float) -> str:
    """`1 h`, `90 min`, `50 ms`."""
    for unit, name in _TIMES:
        # 90 min reads better than 1.5 h.
        if seconds >= unit and seconds % unit == 0:
            return f"{seconds / unit:g} {name}"
    return f"{seconds * 1000:g} ms" if seconds < 1 else f"{seconds:g} s"


def listed(words: Sequence[str], *, joint: str = "or") -> str:
    """`a, b or c`."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {joint} {words[-1]}"


def table(rows: Iterable[tuple[str, str]], *, indent: str = "") -> Iterator[str]:
    """Two columns; the second is wrapped, and its further lines stand under its first."""
    rows = list(rows)
    column = max((len(label) for label, _ in rows), default=0) + 2
    for label, text in rows:
        first, *others = wrap(text, _WIDTH - column, break_long_words=False, break_on_hyphens=False) or [""]
        yield f"{indent}{label:<{column}}{first}".rstrip()
        for line in others:
            yield f"{indent}{'':<{column}}{line}"
