"""Normalisations. Each is made by ``norm(dim)``."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class LayerNorm(nn.LayerNorm):
    """Layer normalisation (Ba et al. 2016, arXiv 1607.06450) over the last axis.

    Args:
        dim: width D.
        eps: added to the variance.
        bias: whether something learned is added after the gain.
    """

    def __init__(self, dim: int, *, eps: float, bias: bool) -> None:
        super().__init__(dim, eps=eps, bias=bias)

    def forward(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
        """Gains that ranks exchange as bfloat16 (FSDP2) scale what may be float32."""
        dtype = torch.promote_types(x.dtype, self.weight.dtype)
        bias = self.bias.to(dtype) if self.bias is not None else None
        return F.layer_norm(x, self.normalized_shape, self.weight.to(dtype), bias, self.eps)


class RMSNorm(nn.Module):
    """Root-mean-square normalisation (Zhang and Sennrich 2019, arXiv 1910.07467), computed in float32 as T5 does.

    Args:
        dim: width D.
        eps: added to the mean of squares.
    """

    roles = {"weight": "gain"}

    def __init__(self, dim: int, *, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
        return F.rms_norm(x.float(), self.weight.shape, eps=self.eps).to(x.dtype) * self.weight


class GroupedRMSNorm(nn.Module):
    """The same of each of several groups of features by itself, in float32 at least (Mamba 2, arXiv 2405.21060).

    Args:
        dim: features F of all groups.
        num_groups: of adjacent features; divides `dim`.
        eps: added to the mean of squares.
    """

    roles = {"weight": "gain"}

    def __init__(self, dim: int, num_groups: int, *, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.num_groups, self.eps = num_groups, eps

    def forward(self, x: Float[Tensor, "... F"]) -> Float[Tensor, "... F"]:
        groups = x.to(torch.promote_types(x.dtype, torch.float32)).unflatten(-1, (self.num_groups, -1))
        return F.rms_norm(groups, groups.shape[-1:], eps=self.eps).flatten(-2) * self.weight
