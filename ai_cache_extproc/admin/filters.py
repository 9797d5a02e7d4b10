"""The filters of a call, from a query or a JSON body, as a `Selection`. Every refusal names the filter."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException

from ai_cache_extproc.cache.selection import Selection

FILTERS = ("id", "scope", "model", "rule", "tag", "older_than_s", "younger_than_s", "foreign", "all")
_FORMS = {
    "id": (re.compile(r"[0-9a-f]{32}"), "32 hex digits, as in X-AI-Cache-Key"),
    "scope": (re.compile(r"[0-9a-f]{16}"), "16 hex digits, as in the entry's key"),
}
_TRUTHS = {"true": True, "false": False}
CHARS_MAX = 1024


@dataclass(frozen=True, slots=True)
class Filters:
    """What was asked for, as it was said. is_all: everything was asked for by name."""

    selection: Selection
    said: Mapping[str, object]
    is_all: bool


def filters_from(given: Mapping[str, object], now_s: float) -> Filters:
    """Ages become times here, so that a call that goes on later means the same. Raises HTTPException 400."""
    unknown = sorted(given.keys() - set(FILTERS))
    if unknown:
        raise _wrong(f"{unknown[0]!r} is no filter; there are {', '.join(FILTERS)}")
    words = {name: _word(name, given[name]) for name in ("id", "scope", "model", "rule", "tag") if name in given}
    older_s, younger_s = (_seconds(name, given.get(name)) for name in ("older_than_s", "younger_than_s"))
    foreign, is_all = (_truth(name, given.get(name, False)) for name in ("foreign", "all"))
    if is_all and given.keys() - {"all", "foreign"}:
        raise _wrong("'all' stands alone: leave it out, or the other filters")
    if foreign and given.keys() - {"id", "foreign", "all"}:
        raise _wrong("'foreign' entries say nothing of themselves: only 'id' or 'all' goes with it")
    selection = Selection(
        **words,
        created_before_s=None if older_s is None else now_s - older_s,
        created_after_s=None if younger_s is None else now_s - younger_s,
        foreign=foreign,
    )
    return Filters(selection, dict(given), is_all)


def query_values(query: QueryParams, *, besides: tuple[str, ...]) -> dict[str, object]:
    """The filters in a query; what stands `besides` is for others."""
    values: dict[str, object] = {}
    for name, text in query.multi_items():
        if name in besides:
            continue
        if name in values:
            raise _wrong(f"{name!r} stands twice")
        values[name] = (
            _number(name, text) if name.endswith("_s") else _TRUTHS.get(text, text) if name in _FLAGS else text
        )
    return values


_FLAGS = ("foreign", "all")


def _word(name: str, value: object) -> str:
    if not isinstance(value, str) or not value or len(value) > CHARS_MAX:
        raise _wrong(f"{name!r} must be a text")
    form = _FORMS.get(name)
    if form is not None and not form[0].fullmatch(value):
        raise _wrong(f"{name!r} must be {form[1]}")
    return value


def _seconds(name: str, value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise _wrong(f"{name!r} must be a number of seconds")
    return float(value)


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise _wrong(f"{name!r} must be a number of seconds") from None


def _truth(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise _wrong(f"{name!r} must be true or false")
    return value


def _wrong(reason: str) -> HTTPException:
    return HTTPException(400, reason)
