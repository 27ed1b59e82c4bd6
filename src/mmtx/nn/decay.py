"""How much of its state each head keeps from token to token."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mmtx.nn.recurrence import precise

SHORTEST, LONGEST = 0.001, 0.1
"""Steps at the start are log-uniform between them, at an input of zero (Gu and Dao 2023, arXiv 2312.00752)."""

FASTEST = 16.0
"""Rates at the start are uniform between 1 and this (Dao and Gu 2024, arXiv 2405.21060)."""


class Decay(nn.Module):
    """A step of each head, ``softplus(x + bias)``, after which it keeps ``exp(-rate · step)`` of its state.

    Args:
        num_heads: H.
    """

    roles = {"log_rate": "state", "bias": "state"}  # both stay as they begin, and have no decay

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        step = torch.empty(num_heads).uniform_(math.log(SHORTEST), math.log(LONGEST)).exp()
        self.bias = nn.Parameter(step + torch.log(-torch.expm1(-step)))  # whose softplus is the step
        self.log_rate = nn.Parameter(torch.empty(num_heads).uniform_(1.0, FASTEST).log())

    def forward(
        self, x: Float[Tensor, "samples n H"]
    ) -> tuple[Float[Tensor, "samples n H"], Float[Tensor, "samples n H"]]:
        """The steps, and the logarithm of what is kept, in float32 at least."""
        step = F.softplus(precise(x) + precise(self.bias))
        return step, -precise(self.log_rate).exp() * step
