"""Distances within a chain: how many are kept (lDDT), and a loss of which bin each lies in."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from mmtx.structure.superposition import Points, Real

KEPT_WITHIN = (0.5, 1.0, 2.0, 4.0)
"""Å by which a distance may differ and is kept (Mariani et al. 2013, Bioinformatics 29, 2722)."""

NUM_BINS, FIRST_EDGE, LAST_EDGE = 64, 2.3125, 21.6875
"""Of a distogram, in Å (Jumper et al. 2021, supplement 1.9.8). What lies beyond an edge is in the bin at that end."""


def distances(points: Points) -> Float[Tensor, "B n n"]:
    """Between all points."""
    return (points[:, :, None] - points[:, None]).norm(dim=-1)


def pairs(real: Real) -> Bool[Tensor, "B n n"]:
    """Two different points, both real."""
    other = ~torch.eye(real.shape[1], dtype=torch.bool, device=real.device)
    return real[:, :, None] & real[:, None] & other


def lddt(predicted: Points, true: Points, real: Real, cutoff: float = 15.0) -> Float[Tensor, " B"]:
    """The local distance difference test: of the distances below `cutoff` in the true structure, the share that is
    kept, averaged over `KEPT_WITHIN` (Mariani et al. 2013). It needs no superposition, and does not see mirror images.

    0 of samples that have no such distance.
    """
    of_true = distances(true)
    scored = pairs(real) & (of_true < cutoff)
    off = (distances(predicted) - of_true).abs()
    kept = torch.stack([off < limit for limit in KEPT_WITHIN]).to(off.dtype).mean(0)
    return torch.where(scored, kept, 0.0).sum((1, 2)) / scored.sum((1, 2)).clamp(min=1)


def distogram_bins(points: Points) -> Tensor:
    """The bin of each distance, ``(B, n, n)``, in 0..63."""
    edges = torch.linspace(FIRST_EDGE, LAST_EDGE, NUM_BINS - 1, device=points.device, dtype=points.dtype)
    return torch.bucketize(distances(points), edges)


def distogram_loss(logits: Float[Tensor, "B n n bins"], true: Points, real: Real) -> Float[Tensor, " B"]:
    """The cross-entropy of the bins of distances, averaged over pairs; 0 of samples that have none.

    Args:
        logits: of the 64 bins of each distance.
        true: points.
        real: which there are.
    """
    found = F.cross_entropy(logits.movedim(-1, 1).float(), distogram_bins(true), reduction="none")
    scored = pairs(real)
    return torch.where(scored, found, 0.0).sum((1, 2)) / scored.sum((1, 2)).clamp(min=1)
