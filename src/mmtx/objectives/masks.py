"""Which ids are masked in a step of masked diffusion, and what their losses are multiplied by."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class Blocks(NamedTuple):
    """Attributes:
    of: each column, rising from 0.
    number: of blocks.
    """

    of: Int[Tensor, " n"]
    number: int


class Masks(NamedTuple):
    """Attributes:
    masked: which ids are masked.
    weights: of the losses of masked ids, whose sum is an unbiased estimate of the bound; 0 elsewhere.
    """

    masked: Bool[Tensor, "B n"]
    weights: Float[Tensor, "B n"]


def blocks_of(columns: Sequence[int], size: int | None, device: torch.device) -> Blocks:
    """Blocks of `size` ids of each name, one name after the other; None: one of all names.

    Args:
        columns: of each name, side by side.
    """
    if size is None:
        return Blocks(torch.zeros(sum(columns), dtype=torch.long, device=device), 1)
    parts, count = [], 0
    for width in columns:
        parts.append(count + torch.arange(width, device=device) // size)
        count += -(-width // size)
    return Blocks(torch.cat(parts), count)


def draw_masks(may_be: Bool[Tensor, "B n"], blocks: Blocks, generator: torch.Generator) -> Masks:
    """Masks so many ids of each block, any number being as likely, and any of them.

    With k of a block's L ids masked, the loss of each of them counts L / k times. The mean over k in 1..L and over the
    choice of k ids is the integral of the linear schedule, ``∫ dt/t Σ loss``, where each id is masked with probability
    t: the same bound, estimated with less variance (Nie et al. 2025, arXiv 2502.09992, appendix A.2).

    Args:
        may_be: which ids may be masked; the others are given.
        blocks: over its columns.
        generator: on the device.
    """
    of = blocks.of.expand(may_be.shape)
    size = torch.zeros(len(may_be), blocks.number, device=may_be.device).scatter_add_(1, of, may_be.float())
    count = (1 + (stratified(size, generator) * size).floor()).minimum(size)
    key = torch.rand(may_be.shape, generator=generator, device=may_be.device).masked_fill(~may_be, 1.0)
    rank = (2 * of + key.double()).argsort(1).argsort(1) - torch.searchsorted(blocks.of, blocks.of)  # in its block
    masked = may_be & (rank < count.gather(1, of))
    weights = size.to(torch.get_default_dtype()) / count.clamp(min=1)
    return Masks(masked, weights.gather(1, of) * masked)


def stratified(like: Float[Tensor, "B blocks"], generator: torch.Generator) -> Float[Tensor, "B blocks"]:
    """Uniform numbers at equal distances from each other, modulo 1, behind one that is drawn (Kingma et al. 2021, arXiv
    2107.00630, appendix I.1); those of a row are spread over all of the interval."""
    rows, blocks = like.shape
    step = torch.arange(rows * blocks, device=like.device).view(blocks, rows).T / max(rows * blocks, 1)
    return (torch.rand(1, generator=generator, device=like.device) + step) % 1
