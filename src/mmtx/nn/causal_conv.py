"""A short causal convolution of each feature by itself."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class CausalConv(nn.Module):
    """Of each feature alone, over its token and those before it.

    Args:
        features: F.
        bias: whether something learned is added.
        width: tokens K that an output sees.
    """

    roles = {"conv.weight": "input"}  # its fan-in is K, whatever the width of the model

    def __init__(self, features: int, *, bias: bool, width: int = 4) -> None:
        super().__init__()
        self.past = width - 1
        self.conv = nn.Conv1d(features, features, width, groups=features, bias=bias)

    def forward(
        self, x: Float[Tensor, "samples n F"], before: Float[Tensor, "samples past F"] | None
    ) -> tuple[Float[Tensor, "samples n F"], Float[Tensor, "samples past F"]]:
        """Outputs, and what the tokens behind see of these.

        Args:
            x: tokens.
            before: the last tokens before these; None: zeros.
        """
        x = F.pad(x, (0, 0, self.past, 0)) if before is None else torch.cat([before, x], dim=1)
        return self.conv(x.transpose(1, 2)).transpose(1, 2), x[:, -self.past :]
