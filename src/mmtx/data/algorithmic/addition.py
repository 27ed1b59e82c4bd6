"""Addition in decimal digits, as it is done by hand."""

import random
import string

from mmtx.data.algorithmic.task import WrittenTask


class Addition(WrittenTask):
    """Two numbers and their sum, each from its last digit to its first, so that a carry goes on to the next digit:
    ``95+24=101`` is 59 + 42 = 101.

    A length is that of either number; zeros may lead, and the sum has a digit more: ``12+34=460``.
    """

    def __init__(self) -> None:
        super().__init__(string.digits + "+")

    def example(self, drawn: random.Random, length: int) -> tuple[str, str]:
        one, other = (drawn.randrange(10**length) for _ in range(2))
        written = [
            f"{number:0{size}}"[::-1] for number, size in ((one, length), (other, length), (one + other, length + 1))
        ]
        return f"{written[0]}+{written[1]}", written[2]

    def most(self, length: int) -> int:
        return 3 * length + 2
