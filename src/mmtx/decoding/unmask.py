"""Writing masked ids over several passes, in any order."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmtx.decoding.sampling import Sampling
from mmtx.errors import check_at_least
from mmtx.process.stopping import track

Scores = Callable[[Tensor, Tensor], Tensor]
"""From ids ``(B, n)``, and which of them are masked, to the scores of all ids in each place, ``(B, n, V)``."""


@dataclass(frozen=True)
class Unmasking:
    """How masked ids are written.

    Args:
        num_steps: passes over which the ids of a block are spread; null: one for each id
        grid: how many ids a pass writes: as many as every other (the first ones more), or few at first (cosine)
        order: which ids a pass writes: any, or those that it is most sure of (confidence)
        block_size: ids that are written before the next ones are begun, from left to right; null: all, or the blocks
            that the model was trained with
        temperature: divides the scores; 0 takes the best id each time
        top_k: keep the k best ids
        top_p: keep the smallest set of ids whose probability reaches p
        min_p: keep ids at least as probable as this share of the best one
    """

    num_steps: int | None = None
    grid: Literal["equal", "cosine"] = "equal"
    order: Literal["random", "confidence"] = "random"
    block_size: int | None = None
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None

    def __post_init__(self) -> None:
        check_at_least("num_steps", self.num_steps, 1)
        check_at_least("block_size", self.block_size, 1)
        _ = self.sampling  # which checks its own

    @property
    def sampling(self) -> Sampling:
        return Sampling(self.temperature, top_k=self.top_k, top_p=self.top_p, min_p=self.min_p)


FREELY = Unmasking()


@torch.inference_mode()
def unmask(
    scores: Scores,
    ids: Int[Tensor, "B n"],
    masked: Bool[Tensor, "B n"],
    block: Int[Tensor, " n"],
    *,
    how: Unmasking,
    generator: torch.Generator,
) -> Int[Tensor, "B n"]:
    """Ids in the place of all masked ones; the others stay.

    With a pass for each id, in random order, texts have the probability that the model gives them: the mean over all
    orders of the product of its conditionals. Fewer passes draw ids at once as if they were independent.

    Args:
        scores: of all ids in each place.
        ids: given ones; anything where they are masked.
        masked: which are to be written.
        block: of each place, from 0 on; those of one block are written before the next.
        how: they are written.
        generator: source of randomness, on the device of the ids.
    """
    for number, of_each in track(list(_passes(masked, block, how)), "unmasking, pass"):
        is_open = masked & (block == number)
        new, sureness = _drawn(scores(ids, masked)[is_open], how.sampling, generator)
        key = torch.full(ids.shape, -1.0, device=ids.device)
        if how.order == "random":
            sureness = torch.rand(sureness.shape, generator=generator, device=ids.device)
        rank = key.masked_scatter(is_open, sureness).argsort(1, descending=True).argsort(1)
        written = is_open & (rank < of_each[:, None])
        ids, masked = torch.where(written, ids.masked_scatter(is_open, new), ids), masked & ~written
    return ids


def _passes(
    masked: Bool[Tensor, "B n"], block: Int[Tensor, " n"], how: Unmasking
) -> Iterator[tuple[int, Int[Tensor, " B"]]]:
    """The block of each pass that writes anything, and how many ids of each row it writes."""
    for number in range(int(block.max()) + 1 if block.numel() else 0):
        counts = (masked & (block == number)).sum(1)
        for of_each in per_pass(counts, how.num_steps or int(counts.max()), how.grid):
            if of_each.any():
                yield number, of_each


def per_pass(
    counts: Int[Tensor, " B"], num_steps: int, grid: Literal["equal", "cosine"]
) -> Iterator[Int[Tensor, " B"]]:
    """How many of so many ids each pass writes: equal numbers, what is left over first (Nie et al. 2025, arXiv
    2502.09992); or as many as leave ``cos(pi/2 · share of passes)`` of them (Chang et al. 2022, arXiv 2202.04200)."""
    left = counts
    for step in range(1, num_steps + 1):
        if grid == "equal":
            now = counts // num_steps + (step <= counts % num_steps)
        else:
            share = math.cos(math.pi / 2 * step / num_steps) if step < num_steps else 0.0
            now = left - (counts * share).floor().long()
        left = left - now
        yield now


def _drawn(
    scores: Float[Tensor, "m V"], sampling: Sampling, generator: torch.Generator
) -> tuple[Int[Tensor, " m"], Float[Tensor, " m"]]:
    """An id for each place, and the probability that the model gives it. Drawn in float64, as the rarest ids would
    come too seldom in float32 (Zheng et al. 2024, arXiv 2409.02908)."""
    if sampling.temperature == 0:
        new = scores.argmax(-1)
    else:
        probability = sampling.filtered(scores).double().softmax(-1)
        waits = torch.empty_like(probability).exponential_(generator=generator)
        new = (probability / waits).argmax(-1)
    return new, scores.float().softmax(-1).gather(-1, new[:, None])[:, 0]
