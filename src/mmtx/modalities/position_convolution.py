"""Positions that a convolution over neighbouring tokens gives."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mmtx.errors import InvalidValue, check_at_least


class PositionConvolution(nn.Module):
    """Adds to each token what a wide grouped convolution reads around it (Mohamed et al. 2019, arXiv 1904.11660;
    wav2vec 2.0: Baevski et al. 2020, arXiv 2006.11477, section 2).

    Its weight is a direction for each place of the kernel times a learned length (weight normalisation: Salimans and
    Kingma 2016, arXiv 1602.07868), which begins where fairseq has it: the variance is ``4 / (kernel · dim)``.

    Args:
        dim: width D.
        kernel: tokens that one reads, half of them before it.
        groups: of features, which do not read each other.
        activation: of what is added.
    """

    roles = {"direction": "filter", "scale": "gain", "bias": "bias"}

    def __init__(self, dim: int, *, kernel: int, groups: int, activation: nn.Module) -> None:
        super().__init__()
        check_at_least("stem.position_kernel", kernel, 1)
        if groups < 1 or dim % groups:
            raise InvalidValue("stem.position_groups", groups, f"does not divide the width {dim}")
        self.kernel, self.groups, self.activation = kernel, groups, activation
        self.direction = nn.Parameter(torch.randn(dim, dim // groups, kernel))
        self.scale = nn.Parameter(torch.full((1, 1, kernel), math.sqrt(4 * dim / (kernel * groups))))
        self.bias = nn.Parameter(torch.zeros(dim))

    @property
    def weight(self) -> Float[Tensor, "D D_of_a_group K"]:
        """What the convolution multiplies by."""
        return self.direction * (self.scale / torch.linalg.vector_norm(self.direction, dim=(0, 1), keepdim=True))

    def forward(self, x: Float[Tensor, "B n D"], real: Bool[Tensor, "B n"]) -> Float[Tensor, "B n D"]:
        """Tokens, as if nothing but zeros stood around those that are real."""
        x = x.masked_fill(~real[..., None], 0.0)
        read = F.conv1d(x.transpose(1, 2), self.weight, self.bias, padding=self.kernel // 2, groups=self.groups)
        read = read[..., : x.shape[1]]  # an even kernel gives one more
        return x + self.activation(read).transpose(1, 2)
