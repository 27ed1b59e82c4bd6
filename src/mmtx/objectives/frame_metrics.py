"""How near made frames are to real ones.

Axes: B films, T frames, C channels.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

WINDOW, SIGMA, K1, K2 = 11, 1.5, 0.01, 0.03
"""Of Wang et al. 2004."""


def squared_error(
    one: Float[Tensor, "B T C height width"], other: Float[Tensor, "B T C height width"]
) -> Float[Tensor, "B T"]:
    """Summed over the pixels of a frame, whose values lie in 0..1."""
    return (one - other).square().sum((2, 3, 4))


def structural_similarity(
    one: Float[Tensor, "B T C height width"], other: Float[Tensor, "B T C height width"]
) -> Float[Tensor, "B T"]:
    """SSIM (Wang et al. 2004, Image quality assessment, eq. 13) of each frame, whose values lie in 0..1: under a
    Gaussian window of 11 pixels, smaller in smaller frames, wherever it lies within the frame, and the mean of that."""
    height, width = one.shape[3:]
    weights = _gaussian(height, one)[:, None] * _gaussian(width, one)
    x, y = one.flatten(0, 2)[:, None], other.flatten(0, 2)[:, None]
    moments = F.conv2d(torch.cat([x, y, x * x, y * y, x * y], dim=1).flatten(0, 1)[:, None], weights[None, None])
    mean_x, mean_y, square_x, square_y, product = moments.unflatten(0, (-1, 5)).squeeze(2).unbind(1)
    variance_x, variance_y = square_x - mean_x.square(), square_y - mean_y.square()
    covariance = product - mean_x * mean_y
    similar = (2 * mean_x * mean_y + K1**2) / (mean_x.square() + mean_y.square() + K1**2)
    structure = (2 * covariance + K2**2) / (variance_x + variance_y + K2**2)
    return (similar * structure).mean((1, 2)).unflatten(0, one.shape[:3]).mean(2)


def _gaussian(size: int, like: Tensor) -> Float[Tensor, " window"]:
    """Weights that sum to 1, as many as there is room for, an odd number."""
    count = min(WINDOW, size - 1 + size % 2)
    away = torch.arange(count, device=like.device, dtype=like.dtype) - (count - 1) / 2
    weights = (-away.square() / (2 * SIGMA**2)).exp()
    return weights / weights.sum()
