"""Sums modulo a number, as a clock has them: parity is the one of two digits."""

import random
import string

from mmtx.data.algorithmic.task import LabelledTask
from mmtx.data.text.vocabulary import Characters
from mmtx.errors import check_within


class ModularSums(LabelledTask):
    """Random digits below a modulus, and their sum modulo that.

    Args:
        modulus: 2 to 10.
    """

    def __init__(self, *, modulus: int) -> None:
        check_within("modulus", modulus, 2, 10)
        self.modulus, self.digits = modulus, string.digits[:modulus]
        super().__init__(Characters(), self.digits, tuple(self.digits))

    def example(self, drawn: random.Random, length: int) -> tuple[str, int]:
        digits = "".join(drawn.choices(self.digits, k=length))
        return digits, sum(map(int, digits)) % self.modulus
