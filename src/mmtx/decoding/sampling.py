"""Drawing the next id from its scores, through a list of filters."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmtx.decoding.filters import less_for_each_draw, min_p, sharpened, top_k, top_p, without_repetition
from mmtx.errors import InvalidValue, check_at_least, check_within

MOST_PENALTY = 2.0
"""Of frequency and presence, either way, as in the API that defines them."""


@dataclass(frozen=True)
class Sampling:
    """How the next id is drawn from its scores: penalties, temperature, top-k, top-p and min-p, in this order, then the
    draw. What may come next at all (`Grammar`) is decided between penalties and temperature.

    Args:
        temperature: divides the scores; 0 takes the best id each time
        top_k: keep the k best ids
        top_p: keep the smallest set of ids whose probability reaches p
        min_p: keep ids at least as probable as this share of the best one
        repetition_penalty: divides positive and multiplies negative scores of ids that stand in the text; 1: none
        frequency_penalty: subtracted from an id's score for each time that it was written, -2 to 2
        presence_penalty: subtracted from the score of every id that was written, -2 to 2
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        check_at_least("top_k", self.top_k, 1)
        for key in ("top_p", "min_p"):
            share = getattr(self, key)
            if share is not None and not 0 < share <= 1:
                raise InvalidValue(key, share, "must lie in (0, 1]")
        for key in ("top_k", "top_p", "min_p"):
            if self.temperature == 0 and getattr(self, key) is not None:
                problem = "changes nothing beside temperature=0, which takes the best each time"
                raise InvalidValue(key, getattr(self, key), problem, "null, or a temperature above 0")
        if not 0 < self.repetition_penalty < math.inf:
            raise InvalidValue("repetition_penalty", self.repetition_penalty, "must be above 0, and finite")
        for key in ("frequency_penalty", "presence_penalty"):
            check_within(key, getattr(self, key), -MOST_PENALTY, MOST_PENALTY)

    @property
    def penalises(self) -> bool:
        """Whether scores depend on what is written."""
        return self.repetition_penalty != 1 or self.frequency_penalty != 0 or self.presence_penalty != 0

    def penalised(
        self, scores: Float[Tensor, "B V"], written: Int[Tensor, "B n"], starts: Int[Tensor, " B"]
    ) -> Float[Tensor, "B V"]:
        """Scores after the penalties.

        Args:
            written: the text so far.
            starts: the column of each text from which on ids were drawn.
        """
        if self.repetition_penalty != 1:
            scores = without_repetition(scores, written, self.repetition_penalty)
        if self.frequency_penalty or self.presence_penalty:
            frequency, presence = self.frequency_penalty, self.presence_penalty
            scores = less_for_each_draw(scores.float(), written, starts, frequency=frequency, presence=presence)
        return scores

    def filtered(self, scores: Float[Tensor, "*B V"]) -> Float[Tensor, "*B V"]:
        """Scores that are drawn from, up to a constant in each row; -inf for what is never drawn. The temperature is
        above 0."""
        scores = sharpened(scores, self.temperature)
        if self.top_k is not None:
            scores = top_k(scores, self.top_k)
        if self.top_p is not None:
            scores = top_p(scores, self.top_p)
        return min_p(scores, self.min_p) if self.min_p is not None else scores

    def draw(self, scores: Float[Tensor, "B V"], generator: torch.Generator | None) -> Int[Tensor, " B"]:
        """An id for each row, of scores after the penalties."""
        if self.temperature == 0:
            return scores.argmax(-1)
        probability = self.filtered(scores).softmax(-1)
        waits = torch.empty_like(probability).exponential_(generator=generator)
        return (probability / waits).argmax(-1)  # as torch.multinomial draws, which waits for a GPU to check its input


def check_temperature(temperature: float) -> None:
    """Raises InvalidValue for a temperature that scores cannot be divided by; 0 stands for the best."""
    if not 0 <= temperature < math.inf:
        raise InvalidValue("temperature", temperature, "must be at least 0, and finite")
    least = torch.finfo(torch.float32).tiny
    if 0 < temperature < least:
        problem = f"is too near to 0 to divide by (at least {least:.2g})"
        raise InvalidValue("temperature", temperature, problem, "0, which takes the best each time")


GREEDY, SAMPLED = Sampling(temperature=0.0), Sampling()
