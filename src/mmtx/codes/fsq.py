"""Finite scalar quantisation: each feature is rounded to one of a few levels, and nothing is learnt."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmtx.codes.quantiser import Quantised, Quantiser, in_float32, straight_through
from mmtx.errors import InvalidValue

SLACK = 1e-3
"""By which the range of tanh is wider than the levels, so that the outer ones are reached."""


class FSQ(Quantiser):
    """Features within -1..1, each at one of its levels; a code is a combination of levels (Mentzer et al. 2023, arXiv
    2309.15505). There is no codebook to collapse, and no other loss than that of what is decoded.

    Args:
        levels: of each feature; there are as many features, and as many codes as combinations.
    """

    level: Tensor
    step: Tensor

    def __init__(self, *, levels: Sequence[int]) -> None:
        super().__init__()
        if not levels or min(levels) < 3:  # of 2, the border between them lies where tanh is flat
            raise InvalidValue("levels", [*levels], "must be a list of numbers of at least 3", "[8,6,5]")
        self.levels, self.dim = tuple(levels), len(levels)
        level = torch.tensor(self.levels)
        self.num_codes = int(level.prod())
        self.register_buffer("level", level, persistent=False)
        self.register_buffer("step", torch.cat([torch.ones(1, dtype=torch.long), level.cumprod(0)[:-1]]), False)

    @property
    def settings(self) -> dict[str, Any]:
        return {"levels": [*self.levels]}

    def forward(self, x: Float[Tensor, "... d"]) -> Quantised:
        with torch.autocast(x.device.type, enabled=False):
            x = in_float32(x)
            bounded = self._bounded(x)
            rounded = straight_through(bounded, bounded.round())
            ids = ((rounded.detach().round().long() + self.level // 2) * self.step).sum(-1)
            return Quantised(rounded / (self.level // 2), ids, torch.zeros_like(ids, dtype=x.dtype))

    def vectors_of(self, ids: Int[Tensor, "..."]) -> Float[Tensor, "... d"]:
        places = ids[..., None] // self.step % self.level
        return (places - self.level // 2) / (self.level // 2)

    def _bounded(self, x: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
        """Between the lowest and the highest level, as integers from ``-(level // 2)`` on: an even number of levels has
        one more below 0 than above."""
        half = (self.level - 1) * (1 + SLACK) / 2
        offset = torch.where(self.level % 2 == 0, 0.5, 0.0)
        return (x + (offset / half).atanh()).tanh() * half - offset
