"""What a query, `#(name == "x")`, demands of a value."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from ai_cache_extproc.paths.gjson.glob import Glob
from ai_cache_extproc.paths.gjson.numbers import parse_number
from ai_cache_extproc.paths.gjson.value import Kind, Value
from ai_cache_extproc.paths.gjson.work import Work

Content = str | float | None
"""What is compared: a string as it is meant, a number; None of anything else."""

_LOOSE = "~"
_ORDERS: dict[str, Callable[..., bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True)
class Condition:
    """operator: as written, `=` for `==`; empty if any value will do. operand: without its quotes."""

    operator: str
    operand: str

    @cached_property
    def _loose(self) -> bool:
        return self.operand.startswith(_LOOSE)

    @cached_property
    def _number(self) -> float:
        return parse_number(self.operand.encode())

    @cached_property
    def _glob(self) -> Glob:
        return Glob.of(self.operand)

    def holds_for(self, value: Value, work: Work) -> bool:
        """Whether a value, or nothing, is what is asked for. Raises PathBudget."""
        if not value.exists:
            return self.holds(None, None, work)
        match value.kind:
            case Kind.STRING:
                return self.holds(value.kind, value.text(work), work)
            case Kind.NUMBER:
                return self.holds(value.kind, value.number, work)
            case _:
                return self.holds(value.kind, None, work)

    def holds(self, kind: Kind | None, content: Content, work: Work) -> bool:
        """The same for a value taken apart; kind: None if there is none. Raises PathBudget."""
        if self._loose:
            likeness = _likeness(self.operand.removeprefix(_LOOSE), kind, content)
            return likeness is not None and (not self.operator or self._orders_flag(likeness, "true"))
        if kind is None or not self.operator:
            return kind is not None
        match kind:
            case Kind.STRING:
                return self._orders_text(str(content), work)
            case Kind.NUMBER:
                order = _ORDERS.get(self.operator)
                return order is not None and order(content, self._number)
            case Kind.TRUE | Kind.FALSE:
                return self._orders_flag(kind is Kind.TRUE, self.operand)
            case _:
                return False

    def _orders_text(self, text: str, work: Work) -> bool:
        work.copy(1, len(text))
        match self.operator:
            case "%":
                return self._glob.matches(text, work)
            case "!%":
                return not self._glob.matches(text, work)
            case _:
                order = _ORDERS.get(self.operator)
                return order is not None and order(text, self.operand)

    def _orders_flag(self, flag: bool, operand: str) -> bool:
        """False is less than true; what is neither is equal to none, and less and more than nothing."""
        own, other = ("true", "false") if flag else ("false", "true")
        match self.operator:
            case "=":
                return operand == own
            case "!=":
                return operand != own
            case ">" | "<":
                return (self.operator == ">") == flag and operand == other
            case ">=" | "<=":
                return (self.operator == ">=") == flag
            case _:
                return False


def _likeness(to: str, kind: Kind | None, content: Content) -> bool | None:
    """Whether a value counts as `true`, `false`, `null` or anything at all (`*`); None for any other word."""
    match to:
        case "*":
            return kind is not None
        case "null":
            return kind is None or kind is Kind.NULL
        case "true":
            return _truth(kind, content) is True
        case "false":
            return kind is None or kind is Kind.NULL or _truth(kind, content) is False
        case _:
            return None


def _truth(kind: Kind | None, content: Content) -> bool | None:
    match kind:
        case Kind.TRUE | Kind.FALSE:
            return kind is Kind.TRUE
        case Kind.NUMBER:
            return content != 0
        case Kind.STRING:
            # The words of Go's strconv.ParseBool, in any case.
            return {"1": True, "t": True, "true": True, "0": False, "f": False, "false": False}.get(
                str(content).lower() if len(str(content)) < 6 else ""
            )
        case _:
            return None
