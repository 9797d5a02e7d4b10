"""JSONPath filters, `[?(@.role == 'user')]`, made into functions when a path is compiled: nothing is ever evaluated.

Comparisons, `in`, `and`, `or`, `not` and `len()` only: regular expressions and arithmetic can be made to take forever.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Sequence

from ai_cache_extproc.paths.found import PathError

Filter = Callable[[object], bool]
"""Whether one value is what a filter asks for. It never fails."""

_Operand = Callable[[object], object]
"""A side of a comparison; raises LookupError or TypeError where it does not apply."""

_VALUE = "__value"
_COMPARISONS: dict[type[ast.cmpop], Callable[..., object]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda part, whole: part in whole,
    ast.NotIn: lambda part, whole: part not in whole,
}
_PYTHON_NAMES = {"true": "True", "false": "False", "null": "None"}
_TEXT_OR_VALUE = re.compile(r"'[^']*'|\"[^\"]*\"|@")


def compile_filter(written: str) -> Filter:
    """A filter, without its brackets, as a function. Raises PathError for what is refused."""
    if "=~" in written:
        raise PathError(f"filter {written!r}: regular expressions are refused; compare with == or `in`")
    python = _TEXT_OR_VALUE.sub(lambda found: _VALUE if found[0] == "@" else found[0], written)
    try:
        return _Compiler(written).condition(ast.parse(python.strip(), mode="eval").body)
    except (SyntaxError, RecursionError, MemoryError):
        raise PathError(
            f"filter {written!r}: cannot be read; write comparisons with `and`, `or`, `not`, as in @.role == 'user'"
        ) from None


class _Compiler:
    """Makes closures of a syntax tree of few kinds of nodes."""

    def __init__(self, written: str) -> None:
        self._written = written

    def condition(self, node: ast.expr) -> Filter:
        """What is true or false."""
        match node:
            case ast.BoolOp(op=ast.And(), values=values):
                return _all([self.condition(value) for value in values])
            case ast.BoolOp(values=values):
                return _any([self.condition(value) for value in values])
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                negated = self.condition(operand)
                return lambda value: not negated(value)
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                operands = [self.operand(side) for side in (left, *comparators)]
                return _comparison(operands, [_COMPARISONS[type(op)] for op in ops])
            case _:
                return _truth(self.operand(node))

    def operand(self, node: ast.expr) -> _Operand:
        """What is compared."""
        match node:
            case ast.Name(id=name) if name == _VALUE:
                return lambda value: value
            case ast.Attribute(value=base, attr=key) | ast.Subscript(value=base, slice=ast.Constant(value=key)):
                return _member(self.operand(base), key)
            case ast.Call(func=ast.Name(id="len"), args=[argument], keywords=[]):
                return _length(self.operand(argument))
            case ast.Name(id=name):
                advice = f"write {_PYTHON_NAMES[name]}" if name in _PYTHON_NAMES else "put quotes around text"
                raise self._refusal(f"{name} has no meaning here; {advice}")
            case ast.BinOp():
                raise self._refusal(
                    "arithmetic is refused; compare with a number, and write a name with signs in it @['a-b']"
                )
            case _:
                return self._constant(node)

    def _constant(self, node: ast.expr) -> _Operand:
        try:
            constant: object = ast.literal_eval(node)
        except ValueError:
            raise self._refusal("compare members, @.name, with text, numbers or lists of them") from None
        return lambda _value: constant

    def _refusal(self, reason: str) -> PathError:
        return PathError(f"filter {self._written!r}: {reason}")


def _all(conditions: Sequence[Filter]) -> Filter:
    return lambda value: all(condition(value) for condition in conditions)


def _any(conditions: Sequence[Filter]) -> Filter:
    return lambda value: any(condition(value) for condition in conditions)


def _truth(operand: _Operand) -> Filter:
    def holds(value: object) -> bool:
        try:
            return bool(operand(value))
        except (LookupError, TypeError):
            return False

    return holds


def _member(base: _Operand, key: object) -> _Operand:
    return lambda value: base(value)[key]  # type: ignore[index]  # what has no members raises TypeError


def _length(base: _Operand) -> _Operand:
    return lambda value: len(base(value))  # type: ignore[arg-type]  # what has no length raises TypeError


def _comparison(operands: Sequence[_Operand], comparisons: Sequence[Callable[..., object]]) -> Filter:
    """A comparison with what is missing is false, and does not decide about the whole filter."""
    pairs = list(zip(comparisons, operands, operands[1:], strict=False))
    return _truth(lambda value: all(compare(left(value), right(value)) for compare, left, right in pairs))
