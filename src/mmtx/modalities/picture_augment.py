"""Augmentation of pictures in training, on the device, a whole batch at once.

Axes: B pictures, C channels, H rows, W columns.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from mmtx.errors import check_at_least, check_within
from mmtx.modalities.picture_operations import OPERATIONS, Pictures

ANGLE = math.radians(30)
SHEAR = 0.3
TRANSLATION = 150 / 331
"""RandAugment's strongest (Cubuk et al. 2019, arXiv 1909.13719), the last as a share of a side."""
GEOMETRY = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
NUM_CHOICES = 1 + len(GEOMETRY) + len(OPERATIONS)
"""Nothing, the geometry, and then the colours."""


class PictureAugment:
    """Mirroring, shifts, and random operations with random strengths: RandAugment, but for its equalisation, with
    strengths drawn as in TrivialAugment (Müller and Hutter 2021, arXiv 2103.10158).

    Each picture draws its own, and a batch is computed at once. What moves pixels is one resampling (bilinear, black
    outside), and comes before what changes colours.

    Args:
        mirror: chance that left and right are exchanged.
        shift: pixels by which a picture is moved at most, along either axis.
        operations: that follow one another.
        strength: the most that one of them may have; 1 is RandAugment's strongest.
    """

    def __init__(self, *, mirror: float | int, shift: int, operations: int, strength: float | int) -> None:
        check_within("augment.mirror", mirror, 0, 1)
        check_at_least("augment.shift", shift, 0)
        check_at_least("augment.operations", operations, 0)
        check_within("augment.strength", strength, 0, 1)
        self.mirror, self.shift, self.operations, self.strength = mirror, shift, operations, strength

    @property
    def changes(self) -> bool:
        """Whether it does anything."""
        return bool(self.mirror or self.shift or self.operations)

    def __call__(self, pixels: Pictures, generator: torch.Generator) -> Pictures:
        """Augmented pictures.

        Args:
            pixels: in 0..1.
            generator: on their device; all that is drawn follows from it.
        """
        count, _, height, width = pixels.shape
        drawn = torch.rand(3 + 2 * self.operations, count, generator=generator, device=pixels.device)
        choices = (drawn[3 : 3 + self.operations] * NUM_CHOICES).long()
        strengths = (2 * drawn[3 + self.operations :] - 1) * self.strength
        place = self._moved(drawn[:3], height, width)
        for choice, strength in zip(choices, strengths, strict=True):
            place = place @ _geometry(choice, strength)
        pixels = _resampled(pixels, place)
        for choice, strength in zip(choices, strengths, strict=True):
            pixels = _coloured(pixels, choice, strength)
        return pixels

    def _moved(self, drawn: Float[Tensor, "3 B"], height: int, width: int) -> Float[Tensor, "B 3 3"]:
        """Pictures mirrored and shifted by whole pixels, as `_resampled` reads it."""
        place = torch.eye(3, device=drawn.device).repeat(drawn.shape[1], 1, 1)
        place[:, 0, 0] = torch.where(drawn[0] < self.mirror, -1.0, 1.0)
        pixels = (drawn[1:] * (2 * self.shift + 1)).floor() - self.shift
        place[:, 0, 2], place[:, 1, 2] = 2 * pixels[0] / width, 2 * pixels[1] / height
        return place


def _geometry(choice: Int[Tensor, " B"], strength: Float[Tensor, " B"]) -> Float[Tensor, "B 3 3"]:
    """What the chosen operations do to places; nothing where colours are chosen."""
    rotate, shear_x, shear_y, translate_x, translate_y = (
        torch.where(choice == 1 + index, strength, 0.0) for index in range(len(GEOMETRY))
    )
    angle, zero, one = rotate * ANGLE, torch.zeros_like(strength), torch.ones_like(strength)
    rows = [
        torch.stack([angle.cos(), angle.sin() + shear_x * SHEAR, 2 * translate_x * TRANSLATION], dim=-1),
        torch.stack([shear_y * SHEAR - angle.sin(), angle.cos(), 2 * translate_y * TRANSLATION], dim=-1),
        torch.stack([zero, zero, one], dim=-1),
    ]
    return torch.stack(rows, dim=1)


def _resampled(pixels: Pictures, place: Float[Tensor, "B 3 3"]) -> Pictures:
    """Pictures read at other places, in -1..1 from edge to edge: ``place @ (x, y, 1)``."""
    grid = F.affine_grid(place[:, :2], list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _coloured(pixels: Pictures, choice: Int[Tensor, " B"], strength: Float[Tensor, " B"]) -> Pictures:
    choice, strength, out = choice[:, None, None, None], strength[:, None, None, None], pixels
    for index, operation in enumerate(OPERATIONS, start=1 + len(GEOMETRY)):
        out = torch.where(choice == index, operation(pixels, strength), out)
    return out
