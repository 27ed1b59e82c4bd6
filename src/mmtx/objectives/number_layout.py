"""The numbers of a sample's names, side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mmtx.batch import Batch
from mmtx.objectives.flowed_name import FlowedName


@dataclass(frozen=True)
class NumberLayout:
    """Where the numbers of each name stand among those K of a sample.

    Attributes:
        shapes: of each name: tokens, and numbers of a token.
        real: which numbers there are.
    """

    shapes: Mapping[str, tuple[int, int]]
    real: Bool[Tensor, "B K"]

    @classmethod
    def of(cls, heads: Iterable[FlowedName], batch: Batch) -> NumberLayout:
        real = {head.name: head.real(batch)[..., None].expand(-1, -1, head.size) for head in heads}
        shapes = {name: (part.shape[1], part.shape[2]) for name, part in real.items()}
        return cls(shapes, torch.cat([part.flatten(1) for part in real.values()], dim=1))

    def flat(self, parts: Mapping[str, Float[Tensor, "B n k"]]) -> Float[Tensor, "B K"]:
        """Numbers of each token of each name as numbers of a sample, zero where there is none."""
        return torch.cat([parts[name].flatten(1) for name in self.shapes], dim=1) * self.real

    def parts(self, flat: Float[Tensor, "B K"]) -> dict[str, Float[Tensor, "B n k"]]:
        """Undoes `flat`."""
        sizes = [tokens * size for tokens, size in self.shapes.values()]
        split = zip(self.shapes.items(), flat.split(sizes, dim=1), strict=True)
        return {name: part.unflatten(1, shape) for (name, shape), part in split}

    def repeated(self, times: int) -> NumberLayout:
        """Of the same samples, one after the other, so many times."""
        return NumberLayout(self.shapes, self.real.repeat(times, 1))
