"""Whether what is drawn was copied from what was learnt from."""

import torch
from jaxtyping import Float
from torch import Tensor

AS_NEAR = 0.05
"""The share of test samples that are counted as near to a training sample."""


def copied_share(drawn: Float[Tensor, "n d"], test: Float[Tensor, "m d"], train: Float[Tensor, "k d"]) -> float:
    """The share of drawn samples that are nearer to their nearest training sample than 95% of the test samples are to
    theirs. What is new as test samples are new has 0.05; copies have 1.

    Args:
        drawn: samples, of which each is a vector.
        test: samples that were not learnt from.
        train: those that were.
    """
    limit = _nearest(test, train).quantile(AS_NEAR)
    return float((_nearest(drawn, train) < limit).double().mean())


def _nearest(samples: Float[Tensor, "n d"], among: Float[Tensor, "k d"]) -> Float[Tensor, " n"]:
    """The Euclidean distance of each to the nearest."""
    parts = [torch.cdist(part.double(), among.double()).amin(1) for part in samples.split(256)]
    return torch.cat(parts)
