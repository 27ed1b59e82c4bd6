"""A reward for expressions that reach a number with given ones."""

import ast
import operator
import re
from fractions import Fraction

from mmtx.objectives.rewards import Reward, Written

_OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


class NumberExpression(Reward):
    """1 for an expression of sums, differences, products and quotients that uses each given number once and has the
    given value, as ``25+3*7`` after ``46:3,7,25=``; 0 otherwise. The true text is not read, so that any solution will
    do. Quotients need not be whole.
    """

    def __call__(self, written: Written) -> float:
        problem = re.fullmatch(r"(\d+):(\d+(?:,\d+)*)=", written.given, re.ASCII)
        if problem is None or not written.ended:
            return 0.0
        target, numbers = int(problem[1]), sorted(map(int, problem[2].split(",")))
        used: list[int] = []
        try:
            value = _value(ast.parse(written.text, mode="eval").body, used) if _is_plain(written.text) else None
        except (SyntaxError, ZeroDivisionError, RecursionError, MemoryError, ValueError):
            return 0.0
        return float(value == target and sorted(used) == numbers)


def _is_plain(text: str) -> bool:
    return re.fullmatch(r"[0-9+\-*/()]+", text, re.ASCII) is not None


def _value(node: ast.expr, used: list[int]) -> Fraction:
    """The value, with its numbers added to `used`.

    Raises:
        ValueError: it has a sign, or something else that is no operator between two numbers.
    """
    if isinstance(node, ast.Constant) and type(node.value) is int:
        used.append(node.value)
        return Fraction(node.value)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        value: Fraction = _OPERATORS[type(node.op)](_value(node.left, used), _value(node.right, used))
        return value
    raise ValueError(ast.dump(node))
