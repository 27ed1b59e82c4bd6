"""Vectors by which adaptive norms change the tokens of a set."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Conditions:
    """A few vectors, and which of them each token has, so that what is computed of a vector is computed once.

    Attributes:
        vectors: of conditions, such as the embedded time of a sample's noise.
        of_token: the row of `vectors` that a token has.
    """

    vectors: Float[Tensor, "C D"]
    of_token: Int[Tensor, "#B N"]

    def laid(self, of_token: Int[Tensor, "#B N"]) -> Conditions:
        """The same vectors for tokens in another layout."""
        return Conditions(self.vectors, of_token)
