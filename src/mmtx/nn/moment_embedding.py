"""An embedding of the time of a flow."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

FREQUENCIES = 256
"""Of sines and cosines together."""

STEPS = 1000.0
"""In which the interval from 0 to 1 is measured, so that frequencies are those of DiT."""


class MomentEmbedding(nn.Module):
    """Times in 0..1 as vectors: sines and cosines of geometric frequencies, then an MLP of two layers with SiLU (DiT,
    Peebles and Xie 2022, arXiv 2212.09748).

    Args:
        dim: width D.
    """

    draws_weights = True
    roles = {"mlp.0.weight": "input", "mlp.2.weight": "matrix"}

    def __init__(self, dim: int) -> None:
        super().__init__()
        linears = nn.Linear(FREQUENCIES, dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(linears[0], nn.SiLU(), linears[1])
        for layer in linears:
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    def forward(self, moment: Float[Tensor, " B"]) -> Float[Tensor, "B D"]:
        half = torch.arange(FREQUENCIES // 2, device=moment.device, dtype=torch.double) / (FREQUENCIES // 2)
        angles = moment.double()[:, None] * STEPS * torch.exp(-math.log(10_000.0) * half)
        waves = torch.cat([angles.cos(), angles.sin()], dim=1)
        return self.mlp(waves.to(self.dtype))
