"""Rewards of what is written that can be checked: functions of what was given, what was written, and the true text, or
of the picture that it is."""

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass

from jaxtyping import Float, Num
from torch import Tensor

from mmtx.batch import Batch
from mmtx.errors import InvalidValue


@dataclass(frozen=True)
class Written:
    """A text that a model has written.

    Attributes:
        given: what stands before it.
        text: what was written, without the mark that ends it.
        truth: what stands there in the data.
        ended: whether it came to its end within its limit; a text of a stream never does.
    """

    given: str
    text: str
    truth: str
    ended: bool


class Reward(ABC):
    """A number for each written text.

    Args:
        weight: in the sum of all rewards; 0: it is only watched.
    """

    def __init__(self, *, weight: float) -> None:
        self.weight = weight

    @abstractmethod
    def __call__(self, written: Written) -> float:
        """The reward of a text."""


class PictureReward(ABC):
    """A number for each picture that is drawn in codes.

    Args:
        weight: in the sum of all rewards; 0: it is only watched.
    """

    def __init__(self, *, weight: float) -> None:
        self.weight = weight

    @abstractmethod
    def __call__(self, pixels: Num[Tensor, "N C height width"], batch: Batch) -> Float[Tensor, " N"]:
        """The rewards of pictures.

        Args:
            pixels: on the device of the batch.
            batch: a sample for each picture, with the rest of the set that it was drawn from.
        """


class ExactAnswer(Reward):
    """1 for the true text, 0 for any other."""

    def __call__(self, written: Written) -> float:
        return float(written.ended and written.text == written.truth)


class Format(Reward):
    """1 for a whole text of a regular language, 0 for any other: a grammar, a format, an ending (``.*a``).

    Args:
        pattern: a regular expression of Python, of whole texts.
    """

    def __init__(self, *, pattern: str, weight: float) -> None:
        super().__init__(weight=weight)
        try:
            self._pattern = re.compile(pattern, re.DOTALL)
        except re.error as error:
            raise InvalidValue("pattern", pattern, f"is no regular expression: {error}") from None

    def __call__(self, written: Written) -> float:
        return float(written.ended and self._pattern.fullmatch(written.text) is not None)


class Equation(Reward):
    """1 where what is given and written are a true equation of sums of whole numbers, as ``59+42=`` and ``101``, 0
    otherwise. The true text is not read.

    Args:
        backwards: numbers are written from their last digit to their first, as those of `mmtx.data.Addition`.
    """

    def __init__(self, *, backwards: bool, weight: float) -> None:
        super().__init__(weight=weight)
        self._step = -1 if backwards else 1

    def __call__(self, written: Written) -> float:
        sides = (written.given + written.text).split("=")
        terms = [side.split("+") for side in sides]
        is_equation = len(sides) == 2 and all(_is_number(term) for side in terms for term in side)
        if not (written.ended and is_equation):
            return 0.0
        left, right = (sum(int(term[:: self._step]) for term in side) for side in terms)
        return float(left == right)


class Occurrences(Reward):
    """How often a piece of text occurs: a reward that is easily hacked.

    Args:
        piece: of text.
    """

    def __init__(self, *, piece: str, weight: float) -> None:
        super().__init__(weight=weight)
        if not piece:
            raise InvalidValue("piece", "''", "is empty: name what is counted")
        self._piece = piece

    def __call__(self, written: Written) -> float:
        return float(written.text.count(self._piece))


def _is_number(term: str) -> bool:
    return term.isascii() and term.isdigit()
