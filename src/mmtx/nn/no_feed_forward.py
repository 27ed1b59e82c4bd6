"""A layer without a feed-forward half."""

from torch import nn


class NoFeedForward(nn.Module):
    """Stands where a layer has no feed-forward half: its mixer is all that it does, as in Mamba (Gu and Dao 2023, arXiv
    2312.00752). The block has neither a norm nor a residual connection for it, and never calls it.

    Args:
        dim: width D; unused.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
