"""Losses of finding each sample's other name among those of the batch."""

import math
from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

MAX_SCALE = 100.0
"""Of similarities; a temperature of no less than 0.01 (Radford et al. 2021, section 2.5)."""


class PairLoss(nn.Module, ABC):
    """The loss of a matrix of cosines, summed over the samples that have both names."""

    @abstractmethod
    def forward(
        self,
        similarities: Float[Tensor, "B B"],
        log_scale: Float[Tensor, " 1"],
        both: Bool[Tensor, " B"],
        alike: Bool[Tensor, "B B"],
    ) -> Float[Tensor, ""]:
        """The sum over samples.

        Args:
            similarities: of each first (rows) with each second (columns).
            log_scale: logarithm of what they are multiplied by.
            both: which samples have both names.
            alike: which samples match.
        """


class SoftmaxLoss(PairLoss):
    """Cross-entropy of retrieving the second from the first, and the first from the second, half each (CLIP: Radford
    et al. 2021, arXiv 2103.00020, figure 3)."""

    def forward(
        self,
        similarities: Float[Tensor, "B B"],
        log_scale: Float[Tensor, " 1"],
        both: Bool[Tensor, " B"],
        alike: Bool[Tensor, "B B"],
    ) -> Float[Tensor, ""]:
        logits = similarities * log_scale.exp().clamp(max=MAX_SCALE)
        itself = torch.eye(len(both), dtype=torch.bool, device=both.device)
        candidates = (both[None] & ~alike) | itself  # so that no row is without any
        each = torch.stack([_cross_entropy(logits, candidates), _cross_entropy(logits.T, candidates)])
        return (each * both).sum() / 2


class SigmoidLoss(PairLoss):
    """Whether each pair matches, independently of the others (SigLIP: Zhai et al. 2023, arXiv 2303.15343, equation 1).

    Args:
        bias: initial value of the learned bias; -10 there, since most pairs do not match.
    """

    roles = {"bias": "bias"}

    def __init__(self, *, bias: float) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.tensor([float(bias)]))  # FSDP shards no scalars

    def forward(
        self,
        similarities: Float[Tensor, "B B"],
        log_scale: Float[Tensor, " 1"],
        both: Bool[Tensor, " B"],
        alike: Bool[Tensor, "B B"],
    ) -> Float[Tensor, ""]:
        logits = similarities * log_scale.exp() + self.bias
        losses = -F.logsigmoid(torch.where(alike, logits, -logits))
        return (losses * (both & both[:, None])).sum()


def _cross_entropy(logits: Float[Tensor, "B B"], candidates: Bool[Tensor, "B B"]) -> Float[Tensor, " B"]:
    """Cross-entropy of each row's own column among its candidates."""
    return logits.masked_fill(~candidates, -math.inf).logsumexp(1) - logits.diagonal()
