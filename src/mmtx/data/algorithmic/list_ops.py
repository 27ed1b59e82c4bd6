"""ListOps: nested lists of digits (Nangia and Bowman 2018, arXiv 1804.06028)."""

import random
import string
from collections.abc import Callable

from mmtx.data.algorithmic.task import LabelledTask
from mmtx.data.text.vocabulary import Words
from mmtx.errors import InvalidValue, UserError, check_within

CLOSE = "]"
LIST_SHARE = 0.25
"""Of the elements that may be lists."""
MOST_TRIES = 10_000


def _middle(numbers: list[int]) -> int:
    """The median; of an even number, the mean of the two in the middle, rounded down."""
    ordered, half = sorted(numbers), len(numbers) // 2
    return ordered[half] if len(numbers) % 2 else (ordered[half - 1] + ordered[half]) // 2


OPERATORS: dict[str, Callable[[list[int]], int]] = {
    "[MAX": max,
    "[MIN": min,
    "[MED": _middle,
    "[SM": lambda numbers: sum(numbers) % 10,
}


class ListOps(LabelledTask):
    """Nested lists, each of an operator and of digits and lists, and the digit that they come to:
    ``[MAX 2 9 [MIN 4 7 ] 0 ]`` is 9. Operators are MAX, MIN, MED (the median, rounded down), SM (the sum modulo 10).

    The grammar of the paper: each element is a list with a chance of a quarter, where it may be one, of 2 to
    `max_elements` elements. A text of a length has more than half as many symbols, and at most as many; what is drawn
    of another length is drawn again.

    Args:
        max_depth: of lists in lists, the outermost counted.
        max_elements: of a list.
    """

    def __init__(self, *, max_depth: int, max_elements: int) -> None:
        check_within("max_depth", max_depth, 1, 100)
        check_within("max_elements", max_elements, 2, 100)
        self.max_depth, self.max_elements = max_depth, max_elements
        super().__init__(Words(), " ".join([*OPERATORS, CLOSE, *string.digits]), tuple(string.digits))

    def example(self, drawn: random.Random, length: int) -> tuple[str, int]:
        if length < 4:
            raise UserError(f"a length of {length} is below that of the shortest list, which has 4 symbols")
        for _ in range(MOST_TRIES):
            symbols: list[str] = []
            try:
                value = self._list(drawn, symbols, length, 1)
            except _TooLongError:
                continue
            if len(symbols) > length // 2:
                return " ".join(symbols), value
        problem = f"gave no list of {length // 2 + 1} to {length} symbols in {MOST_TRIES:,} that were drawn"
        raise InvalidValue("task.max_depth", self.max_depth, problem, "a larger one")

    def _list(self, drawn: random.Random, symbols: list[str], most: int, depth: int) -> int:
        """Writes a list behind these symbols, and gives its value."""
        operator = drawn.choice([*OPERATORS])
        symbols.append(operator)
        elements = [self._element(drawn, symbols, most, depth) for _ in range(drawn.randint(2, self.max_elements))]
        symbols.append(CLOSE)
        if len(symbols) > most:
            raise _TooLongError
        return OPERATORS[operator](elements)

    def _element(self, drawn: random.Random, symbols: list[str], most: int, depth: int) -> int:
        if depth < self.max_depth and drawn.random() < LIST_SHARE:
            return self._list(drawn, symbols, most, depth + 1)
        symbols.append(drawn.choice(string.digits))
        return int(symbols[-1])


class _TooLongError(Exception):
    """What is drawn has become too long."""
