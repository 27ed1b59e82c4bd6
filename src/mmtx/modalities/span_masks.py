"""Stretches of tokens, and of their features, that are masked in training."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmtx.errors import check_at_least, check_fraction


class SpanMasks(nn.Module):
    """SpecAugment of tokens, in training (Park et al. 2019, arXiv 1904.08779; as in Baevski et al. 2020, arXiv
    2006.11477, section 4.3): stretches of time become one learned vector, stretches of features 0.

    Of n places, ``share · n / length`` stretches are drawn, rounded up or down at random, no two of which begin in one
    place; they may overlap.

    Args:
        dim: width D.
        time_share: share of the tokens in stretches of time, were there no overlap.
        time_length: tokens of a stretch.
        time_least: the fewest stretches of a sample that has room for them.
        feature_share: share of the features in stretches of features.
        feature_length: features of a stretch.
        feature_least: the fewest of these.
    """

    roles = {"vector": "token"}

    def __init__(
        self,
        dim: int,
        *,
        time_share: float,
        time_length: int,
        time_least: int,
        feature_share: float,
        feature_length: int,
        feature_least: int,
    ) -> None:
        super().__init__()
        for key, share, length, least in (
            ("time", time_share, time_length, time_least),
            ("feature", feature_share, feature_length, feature_least),
        ):
            check_fraction(f"stem.masks.{key}_share", share)
            check_at_least(f"stem.masks.{key}_length", length, 1)
            check_at_least(f"stem.masks.{key}_least", least, 0)
        self.time = time_share, time_length, time_least
        self.features = feature_share, feature_length, feature_least
        self.vector = nn.Parameter(torch.rand(dim))

    def forward(self, x: Float[Tensor, "B n D"], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B n D"]:
        """Args:
        x: tokens.
        lengths: how many of each sample are real.
        """
        if not self.training:
            return x
        if self.time[0]:
            hidden = spans(x.shape[1], lengths, *self.time)
            x = torch.where(hidden[..., None], self.vector.to(x.dtype), x)
        if self.features[0]:
            hidden = spans(x.shape[2], torch.full_like(lengths, x.shape[2]), *self.features)
            x = x.masked_fill(hidden[:, None], 0.0)
        return x


def spans(size: int, available: Int[Tensor, " B"], share: float, length: int, least: int) -> Bool[Tensor, "B size"]:
    """Random stretches within the first `available` columns of each row."""
    device = available.device
    count = (share * available / length + torch.rand(len(available), device=device)).long().clamp(min=least)
    count = torch.minimum(count, available // length)
    begins = torch.arange(size, device=device) <= available[:, None] - length
    place = torch.rand(len(available), size, device=device).masked_fill(~begins, 2.0).argsort(1).argsort(1)
    begun = (begins & (place < count[:, None])).long().cumsum(1)
    return begun > nn.functional.pad(begun, (length, 0))[:, :size]
