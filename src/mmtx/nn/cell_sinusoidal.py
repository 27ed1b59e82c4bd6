"""Fixed sines and cosines of the number of each cell of a grid."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmtx.nn.positions import cell_of


class CellSinusoidal(nn.Module):
    """Sines and cosines of one number, which counts the cells of a grid along its last axis first, as VideoMAE has them
    (Tong et al. 2022, arXiv 2203.12602); side by side, as Vaswani et al. 2017, section 3.5, write them.

    Args:
        extent: number of positions on each axis.
        dim: width D.
        base: feature 2i turns once in ``2π · base^(2i / dim)`` cells.
    """

    def __init__(self, extent: tuple[int, ...], dim: int, *, base: float) -> None:
        super().__init__()
        self.extent, self.dim, self.base = extent, dim, base

    def forward(self, coordinates: Int[Tensor, "n A"]) -> Float[Tensor, "n D"]:
        """Computed in float64, and given as float32."""
        cells = cell_of(coordinates, self.extent).double()
        even = torch.arange(0, self.dim, 2, device=cells.device, dtype=torch.float64)
        angle = cells[:, None] * (even * (-math.log(self.base) / self.dim)).exp()
        return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)[:, : self.dim].float()
