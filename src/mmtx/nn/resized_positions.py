"""A learned table of positions for pictures of another size than those it was learned from."""

import math

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmtx.errors import InvalidValue
from mmtx.nn.positions import cell_of


class Resized(nn.Module):
    """A learned vector per cell of a grid, resized to the extent of the tokens (bicubic, as DINOv2: Oquab et al. 2023,
    arXiv 2304.07193). Weights are those of `Learned` with the grid as its extent.

    Args:
        extent: rows and columns of the tokens.
        dim: width D.
        grid: rows and columns of the table.
        antialias: smooth the table before it is made smaller.
    """

    roles = {"table.weight": "position"}

    def __init__(self, extent: tuple[int, ...], dim: int, *, grid: list[int], antialias: bool) -> None:
        super().__init__()
        if len(grid) != 2 or len(extent) != 2:
            raise InvalidValue("grid", grid, f"is resized to tokens of {len(extent)} axes; both must have 2")
        self.extent, self.grid, self.antialias = extent, tuple(grid), antialias
        self.table = nn.Embedding(math.prod(grid), dim)

    def forward(self, coordinates: Int[Tensor, "n A"]) -> Float[Tensor, "n D"]:
        return F.embedding(cell_of(coordinates, self.extent), self.resized())

    def resized(self) -> Float[Tensor, "cells D"]:
        """The table of the extent, in float32 as the library has it."""
        table = self.table.weight
        if self.grid == self.extent:
            return table
        planes = table.T.unflatten(1, self.grid)[None].float()
        resized = F.interpolate(planes, size=self.extent, mode="bicubic", align_corners=False, antialias=self.antialias)
        return resized[0].flatten(1).T.to(table.dtype)
