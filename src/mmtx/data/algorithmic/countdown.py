"""A number to be reached by calculating with given ones, as in the game of this name."""

import random
from typing import NamedTuple

from mmtx.data.algorithmic.task import WrittenTask
from mmtx.errors import InvalidValue, check_within

OPERATORS = {"+": 1, "-": 1, "*": 2, "/": 2}
"""And how closely they bind."""

LARGEST_TARGET = 999

MOST_NUMBERS = 6


class _Expression(NamedTuple):
    """What stands there, its value, and how closely its outermost operator binds; of a number, closer than any."""

    text: str
    value: int
    binding: int


class Countdown(WrittenTask):
    """A target and numbers, and an expression of these that has the target as its value, each number being used once:
    ``46:3,7,25=25+3*7``. Values within it are whole, and none is negative.

    A length is how many numbers there are, 2 to 6. The expression is drawn first, so that there is always one; there
    may be others, which `mmtx.objectives.NumberExpression` takes as well. Targets are 1 to 999.

    Args:
        largest: of the numbers, which begin at 1.
    """

    def __init__(self, *, largest: int) -> None:
        check_within("task.largest", largest, 1, 99)
        self.largest = largest
        super().__init__("0123456789:,()" + "".join(OPERATORS))

    def example(self, drawn: random.Random, length: int) -> tuple[str, str]:
        if not 2 <= length <= MOST_NUMBERS:
            raise InvalidValue("task", "Countdown", f"has lengths of 2 to {MOST_NUMBERS} numbers, and none of {length}")
        while True:
            numbers = [drawn.randint(1, self.largest) for _ in range(length)]
            found = _expression(drawn, numbers)
            if 1 <= found.value <= LARGEST_TARGET:
                drawn.shuffle(numbers)
                return f"{found.value}:{','.join(map(str, numbers))}", found.text

    def most(self, length: int) -> int:
        digits = length * len(str(self.largest))
        given = len(f"{LARGEST_TARGET}:") + digits + length - 1
        return given + digits + length - 1 + 2 * (length - 2)  # the outermost operator has no brackets round it


def _expression(drawn: random.Random, numbers: list[int]) -> _Expression:
    """Of all numbers, by joining two expressions until one is left."""
    left = [_Expression(str(number), number, 3) for number in numbers]
    while len(left) > 1:
        drawn.shuffle(left)
        one, other = left.pop(), left.pop()
        fitting = [operator for operator in OPERATORS if _value(one.value, operator, other.value) is not None]
        left.append(_joined(one, drawn.choice(fitting), other))
    return left[0]


def _value(one: int, operator: str, other: int) -> int | None:
    """None where it is negative or not whole."""
    if operator == "+":
        return one + other
    if operator == "-":
        return one - other if one >= other else None
    if operator == "*":
        return one * other
    return one // other if other and one % other == 0 else None


def _joined(one: _Expression, operator: str, other: _Expression) -> _Expression:
    """With no more brackets than it needs."""
    binding, value = OPERATORS[operator], _value(one.value, operator, other.value)
    assert value is not None
    first = one.text if one.binding >= binding else f"({one.text})"
    is_bare = other.binding > binding or (other.binding == binding and operator in "+*")
    return _Expression(f"{first}{operator}{other.text if is_bare else f'({other.text})'}", value, binding)
