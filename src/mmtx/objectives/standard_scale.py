"""Targets as numbers of mean 0 and standard deviation 1, and back in their own units."""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn


class StandardScale(nn.Module):
    """Each number less its mean, over its standard deviation. Until it is fitted, numbers stay as they are.

    Both are float64 buffers, so that numbers far from 0 lose nothing.

    Args:
        size: numbers that are scaled, each by itself.
    """

    mean: Float[Tensor, " size"]
    deviation: Float[Tensor, " size"]

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size, dtype=torch.double))
        self.register_buffer("deviation", torch.ones(size, dtype=torch.double))

    def fit(self, parts: Iterable[Float[Tensor, "_ size"]]) -> None:
        """Takes mean and standard deviation (over n, not n - 1) of all parts together, merged part by part (Chan et
        al. 1979, Updating formulae, eq. 1.5). What never varies is only moved."""
        count, mean, squares = 0, torch.zeros_like(self.mean), torch.zeros_like(self.mean)
        for part in (part.to(self.mean) for part in parts if len(part)):
            total, shift = count + len(part), part.mean(0) - mean
            squares += (part - part.mean(0)).square().sum(0) + shift.square() * (count * len(part) / total)
            mean, count = mean + shift * (len(part) / total), total
        if count:
            deviation = (squares / count).sqrt()
            self.mean.copy_(mean)
            self.deviation.copy_(torch.where(deviation > 0, deviation, 1.0))

    def forward(self, values: Float[Tensor, "*n size"]) -> Float[Tensor, "*n size"]:
        """Numbers in their own units, scaled, in float64."""
        return (values - self.mean) / self.deviation

    def back(self, scaled: Float[Tensor, "*n size"]) -> Float[Tensor, "*n size"]:
        """Scaled numbers in their own units, in float64."""
        return scaled * self.deviation + self.mean
