"""The interface of feed-forward halves that know of their tokens. Axes as in `layer_context`."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn

from mmtx.nn.layer_context import LayerContext
from mmtx.nn.layer_statistics import Output


class FeedForward(nn.Module, ABC):
    """A feed-forward half that knows which of its tokens are real, and may count them. Made by ``mlp(dim)``.

    What needs neither, such as `MLP`, is any module that is called with the tokens alone.
    """

    @abstractmethod
    def forward(self, x: Float[Tensor, "B N D"], context: LayerContext) -> Output:
        """What is added to each token; or that, and statistics: ``{name: sum or count over real tokens}``.

        Args:
            x: tokens.
            context: which of them are real; sums are ``context.sum_over_tokens(values)``.
        """
