"""Superposition of two sets of points, and their distance after it. Axes: B samples, n points, the last one x, y, z."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Points = Float[Tensor, "B n 3"]
Real = Bool[Tensor, "B n"]
"""Which points there are; the others are padding."""


def superpose(moving: Points, fixed: Points, real: Real) -> Points:
    """`moving`, turned and shifted so that it is as near to `fixed` as it can be, and not mirrored (Kabsch 1976, Acta
    Cryst. A32, 922; the sign of the determinant: Kabsch 1978, Acta Cryst. A34, 827).

    Computed in float64. What is not real is turned with the rest and means nothing.
    """
    of_moving, of_fixed = centre(moving.double(), real), centre(fixed.double(), real)
    one, other = centred(moving.double(), real), centred(fixed.double(), real)
    covariance = torch.einsum("bni,bnj->bij", one, other)
    left, _, right = torch.linalg.svd(covariance)
    sign = torch.linalg.det(left @ right).sign()  # -1: the nearest of all turns mirrors, and the next one is taken
    turn = left @ torch.cat([right[:, :2], sign[:, None, None] * right[:, 2:]], dim=1)
    turned = torch.einsum("bni,bij->bnj", moving.double() - of_moving, turn)
    return (turned + of_fixed).to(moving.dtype)


def rmsd(moving: Points, fixed: Points, real: Real) -> Float[Tensor, " B"]:
    """The root of the mean squared distance between points after `superpose`; 0 of samples without any."""
    squares = (superpose(moving.double(), fixed.double(), real) - fixed.double()).square().sum(-1)
    return (torch.where(real, squares, 0.0).sum(1) / real.sum(1).clamp(min=1)).sqrt().to(moving.dtype)


def centre(points: Points, real: Real) -> Float[Tensor, "B 1 3"]:
    """The mean of the real points."""
    total = torch.where(real[..., None], points, 0.0).sum(1, keepdim=True)
    return total / real.sum(1).clamp(min=1)[:, None, None]


def centred(points: Points, real: Real) -> Points:
    """Points about the mean of the real ones; zero where there is none."""
    return torch.where(real[..., None], points - centre(points, real), 0.0)
