"""A mean over the depth of a stack, whose weights are learned."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn


class LayerSum(nn.Module):
    """What the first layer reads and what each layer gives, the last one normalised, weighted by a softmax (the probes
    of SUPERB: Yang et al. 2021, arXiv 2105.01051).

    Args:
        count: of what is summed.
    """

    roles = {"weights": "gain"}

    def __init__(self, count: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.full((count,), 1 / count))

    def forward(self, states: Sequence[Float[Tensor, "B N D"]]) -> Float[Tensor, "B N D"]:
        shares = self.weights.softmax(0).to(states[0].dtype)
        return sum((share * state for share, state in zip(shares, states, strict=True)), torch.zeros_like(states[0]))
