"""Frame-aligned point error, the loss of a structure."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mmtx.structure.frames import Frames
from mmtx.structure.superposition import Points, Real

CLAMP, LENGTH, EPS = 10.0, 10.0, 1e-4
"""In Å: the largest error that counts; what errors are divided by; and what is added to a square before its root, in Å²
(Jumper et al. 2021, supplement, algorithm 28)."""


def fape(
    predicted: Frames,
    predicted_points: Points,
    true: Frames,
    true_points: Points,
    framed: Bool[Tensor, "B n"],
    real: Real,
) -> Float[Tensor, " B"]:
    """How far points are from where they should be, as each frame sees them, averaged over frames and points.

    Rotations and shifts of either structure change nothing, and mirror images differ, as a frame has a hand.

    Args:
        predicted: frames, ``(B, n)``.
        predicted_points: in Å.
        true: frames.
        true_points: in Å.
        framed: which residues have a frame.
        real: which have a point.
    """
    seen = predicted.spread(1).to_local(predicted_points[:, None])
    should = true.spread(1).to_local(true_points[:, None])
    error = ((seen - should).square().sum(-1) + EPS).sqrt().clamp(max=CLAMP) / LENGTH
    scored = framed[:, :, None] & real[:, None]
    return torch.where(scored, error, 0.0).sum((1, 2)) / scored.sum((1, 2)).clamp(min=1)
