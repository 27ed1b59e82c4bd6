"""The interface of feed-forward halves that know of their tokens. Axes as in `layer_context`."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmtx.nn.layer_context import LayerContext
from mmtx.nn.layer_statistics import Output, Statistics


class FeedForward(nn.Module, ABC):
    """A feed-forward half that knows which of its tokens are real, and may count them. Made by ``mlp(dim)``.

    What needs neither, such as `MLP`, is any module that is called with the tokens alone.
    """

    @property
    def follows(self) -> Mapping[str, int]:
        """Which of its statistics `follow` is given, and how many numbers each is."""
        return {}

    def follow(self, sums: Statistics, left_out: Float[Tensor, ""]) -> None:  # noqa: B027
        """Changes what no gradient does, after a step of training.

        Args:
            sums: of these statistics, over all micro-batches and ranks of the step, in float64.
            left_out: 1 where the step does not count, so that nothing may change; else 0.
        """

    def waits(self, device: torch.device, dtype: torch.dtype) -> bool:
        """Whether the host has to wait for a GPU in the middle of it, so that it cannot be recorded there."""
        return False

    @abstractmethod
    def forward(self, x: Float[Tensor, "B N D"], context: LayerContext) -> Output:
        """What is added to each token; or that, and statistics: ``{name: sum or count over real tokens}``.

        Args:
            x: tokens.
            context: which of them are real; sums are ``context.sum_over_tokens(values)``.
        """
