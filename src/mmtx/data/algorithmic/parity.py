"""Parity: the regular language that needs a state, and no more than one bit of it."""

import random

from mmtx.data.algorithmic.task import LabelledTask
from mmtx.data.text.vocabulary import Characters


class Parity(LabelledTask):
    """Random bits, and whether the number of ones is even or odd."""

    def __init__(self) -> None:
        super().__init__(Characters(), "01", ("even", "odd"))

    def example(self, drawn: random.Random, length: int) -> tuple[str, int]:
        bits = "".join(drawn.choices("01", k=length))
        return bits, bits.count("1") % 2
