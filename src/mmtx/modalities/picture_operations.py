"""Changes of colours and of sharpness, a strength for each picture of a batch.

Axes: B pictures, C channels, H rows, W columns. Values lie in 0..1. Strengths lie in -1..1, of which 1 is RandAugment's
strongest (Cubuk et al. 2019, arXiv 1909.13719); an operation that has one direction takes their size.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Pictures = Float[Tensor, "B C H W"]
Strength = Float[Tensor, "B 1 1 1"]

BLEND = 0.9
"""The strongest brightness, contrast, colour and sharpness lie in 0.1..1.9 of a picture's own."""
FEWEST_BITS = 4
LUMA = (0.2989, 0.587, 0.114)  # ITU-R BT.601
CENTRE, WEIGHTS = 5, 13  # of the smoothing kernel of PIL and torchvision, whose other weights are 1


def brightness(x: Pictures, strength: Strength) -> Pictures:
    """Blended with black, or away from it."""
    return _blend(x, torch.zeros_like(x), strength)


def contrast(x: Pictures, strength: Strength) -> Pictures:
    """Blended with its mean grey."""
    return _blend(x, _grey(x).mean((1, 2, 3), keepdim=True), strength)


def colour(x: Pictures, strength: Strength) -> Pictures:
    """Blended with itself in grey."""
    return _blend(x, _grey(x), strength)


def sharpness(x: Pictures, strength: Strength) -> Pictures:
    """Blended with itself smoothed, but for the outermost pixels."""
    kernel = x.new_ones(x.shape[1], 1, 3, 3)
    kernel[:, :, 1, 1] = CENTRE
    smooth = x.clone()
    smooth[:, :, 1:-1, 1:-1] = F.conv2d(x, kernel / WEIGHTS, groups=x.shape[1])
    return _blend(x, smooth, strength)


def posterise(x: Pictures, strength: Strength) -> Pictures:
    """Fewer of the eight bits of a value."""
    step = 2 ** (strength.abs() * FEWEST_BITS).round()
    return (x * 255 / step + 1e-4).floor() * step / 255  # 255 times 1/255 may be less than 1


def solarise(x: Pictures, strength: Strength) -> Pictures:
    """What is brighter than a threshold is inverted."""
    return torch.where(x >= 1 - strength.abs(), 1 - x, x)


def autocontrast(x: Pictures, strength: Strength) -> Pictures:
    """Each channel spread over 0..1, whatever the strength."""
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    return torch.where(high > low, (x - low) / (high - low).clamp(min=1e-6), x)


OPERATIONS: tuple[Callable[[Pictures, Strength], Pictures], ...] = (
    brightness,
    contrast,
    colour,
    sharpness,
    posterise,
    solarise,
    autocontrast,
)


def _blend(x: Pictures, other: Float[Tensor, "B #C #H #W"], strength: Strength) -> Pictures:
    """A picture where the strength is 0; near the other where it is -1, and as far away from it where it is 1."""
    return (other + (1 + BLEND * strength) * (x - other)).clamp(0, 1)


def _grey(x: Pictures) -> Float[Tensor, "B 1 H W"]:
    """The luma of three channels, else their mean."""
    if x.shape[1] != len(LUMA):
        return x.mean(1, keepdim=True)
    red, green, blue = x.split(1, dim=1)
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue
