"""Drawing the next id from its scores: temperature, top-k and top-p."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmtx.errors import InvalidValue, check_at_least
from mmtx.process.device_copies import sent


@dataclass(frozen=True)
class Sampling:
    """How the next id is drawn from its scores.

    Args:
        temperature: divides the scores; 0 takes the best.
        top_k: keep the k best.
        top_p: keep the smallest set whose probability reaches p (Holtzman et al. 2019, arXiv 1904.09751).
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        check_at_least("top_k", self.top_k, 1)
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise InvalidValue("top_p", self.top_p, "must lie in (0, 1]")

    def draw(self, logits: Float[Tensor, "B V"], generator: torch.Generator | None) -> Int[Tensor, " B"]:
        if self.temperature == 0:
            return logits.argmax(-1)
        logits = sharpened(logits, self.temperature)
        if self.top_k is not None and self.top_k < logits.shape[-1]:
            logits = logits.masked_fill(logits < logits.topk(self.top_k).values[:, -1:], float("-inf"))
        probability = logits.softmax(-1)
        if self.top_p is not None:
            ranked, index = probability.sort(-1, descending=True)
            beyond = ranked.cumsum(-1) - ranked >= self.top_p
            beyond[..., 0] = False  # the best always stays, even where float32 has no number as small as top_p
            probability = probability.masked_fill(beyond.scatter(-1, index, beyond), 0.0)
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


def sharpened(logits: Float[Tensor, "*B V"], temperature: float) -> Float[Tensor, "*B V"]:
    """Scores over a temperature above 0, up to a constant in each row: the best are 0, so that none overflows."""
    logits = logits.float()
    return (logits - logits.amax(-1, keepdim=True)) / temperature


def suppressed(scores: Float[Tensor, "B V"], ids: Sequence[int], rows: Bool[Tensor, " B"]) -> Float[Tensor, "B V"]:
    """Scores with which some rows never draw some ids."""
    if not ids:
        return scores
    without = scores.index_fill(-1, sent(torch.tensor(ids), scores.device), float("-inf"))
    return torch.where(rows[:, None], without, scores)


GREEDY = Sampling(temperature=0.0)
