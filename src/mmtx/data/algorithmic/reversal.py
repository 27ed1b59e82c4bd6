"""Reversal: what a stack does, if it is as deep as the text is long."""

import random
import string

from mmtx.data.algorithmic.task import WrittenTask
from mmtx.errors import check_within


class Reversal(WrittenTask):
    """Random letters, and the same backwards: ``abb=bba``.

    Args:
        num_letters: of the alphabet, 2 to 26.
    """

    def __init__(self, *, num_letters: int) -> None:
        check_within("num_letters", num_letters, 2, 26)
        self.letters = string.ascii_lowercase[:num_letters]
        super().__init__(self.letters)

    def example(self, drawn: random.Random, length: int) -> tuple[str, str]:
        letters = "".join(drawn.choices(self.letters, k=length))
        return letters, letters[::-1]

    def most(self, length: int) -> int:
        return 2 * length
