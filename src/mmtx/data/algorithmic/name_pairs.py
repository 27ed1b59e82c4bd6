"""Pairs of made-up names of which one is preferred, by a rule that is known."""

import math
import random
from collections.abc import Mapping

import torch

from mmtx.batch import Sample, Spec
from mmtx.data.algorithmic.task import Task
from mmtx.data.specs import text_spec
from mmtx.data.text.vocabulary import Characters
from mmtx.errors import InvalidValue

CONSONANTS, VOWELS = "bdfklmnrst", "aeiou"


class NamePairs(Task):
    """Names: ``text`` and ``rejected``, two names of 1 to `length` syllables, such as ``tomika``, all lengths,
    consonants and vowels equally often: every fifth ends in one of the vowels.

    Of two names, drawn independently, the one that ends in `ending` is preferred with the odds of ``exp(strength)``
    (Bradley and Terry 1952), and of two that do so, or do not, either as often. So a reward is known that explains the
    pairs: `strength` for a name that ends so, 0 for others. With ``strength=0`` the names under ``text`` are as drawn.

    Args:
        ending: the last letter of what is preferred, a vowel.
        strength: the reward of such a name.
    """

    def __init__(self, *, ending: str, strength: float) -> None:
        if ending not in VOWELS or len(ending) != 1:
            raise InvalidValue("task.ending", ending, f"must be one of {', '.join(VOWELS)}")
        if not 0 <= strength < math.inf:
            raise InvalidValue("task.strength", strength, "must be at least 0, and finite")
        self.ending, self.strength, self.vocabulary = ending, strength, Characters()
        self.vocabulary.fit([CONSONANTS + VOWELS], marks=True)

    def specs(self, longest: int) -> Mapping[str, Spec]:
        return dict.fromkeys(("text", "rejected"), text_spec(self.vocabulary, 2 * longest + 2))

    def draw(self, drawn: random.Random, length: int) -> Sample:
        one, other = (self._name(drawn, length) for _ in range(2))
        gain = self.strength * (one.endswith(self.ending) - other.endswith(self.ending))
        if drawn.random() >= 1 / (1 + math.exp(-gain)):
            one, other = other, one
        return {name: {"ids": self._ids(text)} for name, text in (("text", one), ("rejected", other))}

    def _name(self, drawn: random.Random, longest: int) -> str:
        return "".join(drawn.choice(CONSONANTS) + drawn.choice(VOWELS) for _ in range(drawn.randint(1, longest)))

    def _ids(self, text: str) -> torch.Tensor:
        return torch.tensor(self.vocabulary.encode_marked(text))
