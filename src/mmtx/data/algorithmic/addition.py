"""Addition in decimal digits, as it is done by hand."""

import random
import string

from mmtx.data.algorithmic.task import SCRATCH_END, WrittenTask
from mmtx.errors import InvalidValue

LETTERS = string.ascii_lowercase


class Addition(WrittenTask):
    """Two numbers and their sum, each from its last digit to its first, so that a carry goes on to the next digit:
    ``95+24=101`` is 59 + 42 = 101.

    A length is that of either number; zeros may lead, and the sum has a digit more: ``12+34=460``.

    With `hints`, the numbers stand one below the other, as by hand: of each place a letter that names it, and both
    digits. They are as long as the sum then, whose digits have their letters too (after Zhou et al. 2023, arXiv
    2310.16028, whose numbers stand side by side)::

        d92e54f00=d1e0f1

    Letters follow each other around the alphabet from one that is drawn, so that long numbers have no letter and no
    two neighbours that short ones lack. All that is to be written follows from what stands close behind a letter: its
    digits, and behind them the next letter, or the sign that ends the numbers.

    With a `scratchpad`, what is written by hand comes before the sum: of each place its letter, its two digits, the
    carry that comes in, and their sum, of which the first digit is the carry to the next place; ``d92011`` is
    9 + 2 + 0 = 11::

        d92e54f00=d92011e54110f00101>d1e0f1

    Args:
        hints: letters name the places.
        scratchpad: the sum is computed in writing first; needs `hints`.
    """

    def __init__(self, *, hints: bool = False, scratchpad: bool = False) -> None:  # absent in stored configs of before
        if scratchpad and not hints:
            raise InvalidValue("task.scratchpad", True, "names its lines by letters", "task.hints=true")
        self.hints, self.scratchpad = hints, scratchpad
        super().__init__(string.digits + (LETTERS if hints else "+"), scratchpad=scratchpad)

    def example(self, drawn: random.Random, length: int) -> tuple[str, str]:
        numbers = [drawn.randrange(10**length) for _ in range(2)]
        total = _digits(sum(numbers), length + 1)
        if not self.hints:
            return "+".join(_digits(number, length) for number in numbers), total
        names, digits = self._names(drawn, length + 1), [_digits(number, length + 1) for number in numbers]
        given, answer = _by_place(names, *digits), _by_place(names, total)
        if not self.scratchpad:
            return given, answer
        return given, "".join(_lines(names, *digits)) + SCRATCH_END + answer

    def most(self, length: int) -> int:
        if not self.hints:
            return 3 * length + 2
        return 5 * (length + 1) + (6 * (length + 1) + 1 if self.scratchpad else 0)

    def _names(self, drawn: random.Random, count: int) -> str:
        """The letter of each place."""
        if count > len(LETTERS):
            problem = f"has {len(LETTERS)} letters, and numbers of {count - 1} digits need {count}"
            raise InvalidValue("task.hints", True, problem, f"lengths of at most {len(LETTERS) - 1}")
        first = drawn.randrange(len(LETTERS))
        return (LETTERS * 2)[first : first + count]


def _digits(number: int, count: int) -> str:
    """The last digit first."""
    return f"{number:0{count}}"[::-1]


def _by_place(*rows: str) -> str:
    """Rows that stand one below the other, read place by place."""
    return "".join(map("".join, zip(*rows, strict=True)))


def _lines(names: str, one: str, other: str) -> list[str]:
    """What is written of each place."""
    lines, carry = [], 0
    for name, digits in zip(names, zip(one, other, strict=True), strict=True):
        total = sum(map(int, digits)) + carry
        lines.append(f"{name}{''.join(digits)}{carry}{total:02}")
        carry = total // 10
    return lines
