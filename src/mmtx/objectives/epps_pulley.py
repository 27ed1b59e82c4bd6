"""How far vectors are from a standard normal distribution, along random directions."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

LARGEST = 3.0
"""Up to where characteristic functions are compared."""

NUM_KNOTS = 17
"""Of the quadrature, from 0 on: what is compared is even."""


def epps_pulley(values: Float[Tensor, "... N k"], real: Bool[Tensor, " N"]) -> Float[Tensor, "... k"]:
    """The statistic of Epps and Pulley (1983, Biometrika 70) of each column against a standard normal distribution::

        N ∫ |mean of exp(i t x) - exp(-t² / 2)|² exp(-t² / 2) dt,  over -3 < t < 3, by the trapezium rule

    as LeJEPA has it (Balestriero and LeCun 2025, arXiv 2511.08544). In the precision of the values.

    Args:
        values: N numbers in each of k columns.
        real: which rows count.
    """
    knots = torch.linspace(0, LARGEST, NUM_KNOTS, dtype=values.dtype, device=values.device)
    normal = (-(knots**2) / 2).exp()
    weights = normal * 2 * LARGEST / (NUM_KNOTS - 1)
    weights[[0, -1]] /= 2
    angles = values[..., None] * knots
    share = real.to(values.dtype) / real.sum().clamp(min=1)
    cosines, sines = (torch.einsum("n,...nkt->...kt", share, each) for each in (angles.cos(), angles.sin()))
    return ((cosines - normal).square() + sines.square()) @ weights * real.sum()


def random_directions(dim: int, count: int, generator: torch.Generator | None, like: Tensor) -> Float[Tensor, "dim k"]:
    """Unit vectors, uniform on the sphere, on the device of a tensor and in its precision."""
    drawn = torch.randn(dim, count, generator=generator, device=like.device)
    return (drawn / drawn.norm(dim=0)).to(like.dtype)
