"""Filters: each takes the scores of the ids that may come next to new ones, and leaves an id out by a score of -inf."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmtx.process.device_copies import sent

OUT = float("-inf")


def suppressed(scores: Float[Tensor, "B V"], ids: Sequence[int], rows: Bool[Tensor, " B"]) -> Float[Tensor, "B V"]:
    """Scores with which some rows never draw some ids."""
    if not ids:
        return scores
    without = scores.index_fill(-1, sent(torch.tensor(ids), scores.device), OUT)
    return torch.where(rows[:, None], without, scores)


def without_repetition(
    scores: Float[Tensor, "B V"], written: Int[Tensor, "B n"], penalty: float
) -> Float[Tensor, "B V"]:
    """Scores of ids that stand in the text, its prompt included, over the penalty, or times it where they are negative
    (Keskar et al. 2019, arXiv 1909.05858, section 4.1)."""
    stands = torch.zeros_like(scores, dtype=torch.bool).scatter(1, written, True)
    return torch.where(stands, torch.where(scores < 0, scores * penalty, scores / penalty), scores)


def less_for_each_draw(
    scores: Float[Tensor, "B V"],
    written: Int[Tensor, "B n"],
    starts: Int[Tensor, " B"],
    *,
    frequency: float,
    presence: float,
) -> Float[Tensor, "B V"]:
    """Scores less `frequency` for each time that an id was drawn, and `presence` if it was at all, as the API of OpenAI
    defines them.

    Args:
        written: the text so far.
        starts: the column of each text from which on ids were drawn; those before are its prompt.
    """
    drawn = torch.arange(written.shape[1], device=written.device) >= starts[:, None]
    times = torch.zeros_like(scores).scatter_add(1, written, drawn.to(scores.dtype))
    return scores - frequency * times - presence * (times > 0)


def sharpened(scores: Float[Tensor, "*B V"], temperature: float) -> Float[Tensor, "*B V"]:
    """Scores over a temperature above 0, up to a constant in each row: the best are 0, so that none overflows."""
    scores = scores.float()
    return (scores - scores.amax(-1, keepdim=True)) / temperature


def top_k(scores: Float[Tensor, "*B V"], k: int) -> Float[Tensor, "*B V"]:
    """The k best (Fan et al. 2018, arXiv 1805.04833), and those that are equal to the last of them."""
    if k >= scores.shape[-1]:
        return scores
    return scores.masked_fill(scores < scores.topk(k).values[..., -1:], OUT)


def top_p(scores: Float[Tensor, "*B V"], p: float) -> Float[Tensor, "*B V"]:
    """The smallest set whose probability reaches p, the best at least (Holtzman et al. 2019, arXiv 1904.09751). Which
    of equal ones at its edge stay is left to torch's order."""
    rising, index = scores.sort(-1)
    beyond = rising.softmax(-1).cumsum(-1) <= 1 - p
    beyond[..., -1] = False  # even where float32 has no number as small as p
    return scores.masked_fill(beyond.scatter(-1, index, beyond), OUT)


def min_p(scores: Float[Tensor, "*B V"], share: float) -> Float[Tensor, "*B V"]:
    """Those at least as probable as a share of the best (Nguyen et al. 2024, arXiv 2407.01082)."""
    probability = scores.softmax(-1)
    return scores.masked_fill(probability < share * probability.amax(-1, keepdim=True), OUT)
