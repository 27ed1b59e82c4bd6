"""The interface of projectors: from the hidden states of one stack to the tokens of another."""

from abc import ABC, abstractmethod

from jaxtyping import Float, Int
from torch import Tensor, nn


class Projector(nn.Module, ABC):
    """From what an encoder says of a sample to tokens of another set.

    Subclasses are constructed as ``Class(from_dim=..., dim=..., extent=..., **keys of the yaml)``.

    Args:
        from_dim: width F of the encoder.
        dim: width D of the tokens.
        extent: of the encoder's tokens, the size of each axis: ``(rows, columns)`` of a picture.
        causal: its tokens are items of their own, as those of a text: each attends to itself and to those before it.
            Otherwise they are of one item, and attend to each other.

    Attributes:
        extent: of the tokens that it gives.
    """

    keeps_tokens = True
    """It gives a token for each, at the same place; otherwise those of `extent`, at places of its own."""

    def __init__(self, *, from_dim: int, dim: int, extent: tuple[int, ...], causal: bool = False) -> None:
        super().__init__()
        self.from_dim, self.dim, self.extent, self.causal = from_dim, dim, extent, causal

    def num_tokens(self, lengths: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        """Tokens that it gives for so many; 0 for 0."""
        return lengths

    @abstractmethod
    def forward(self, hidden: Float[Tensor, "B n F"], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B m D"]:
        """Args:
        hidden: of the encoder's tokens.
        lengths: how many of each sample are real; they come first.
        """
