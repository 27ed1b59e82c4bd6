"""The interface of quantisers, from vectors to ids and the vectors of their codes."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


class Quantised(NamedTuple):
    """What a quantiser gives.

    Attributes:
        vectors: those of the codes; gradients pass as if they were the vectors that were quantised (straight-through,
            Bengio et al. 2013, arXiv 1308.3432).
        ids: of the codes.
        commitment: a loss of each vector, which keeps it near its code; 0 where none is needed.
    """

    vectors: Float[Tensor, "... d"]
    ids: Int[Tensor, "..."]
    commitment: Float[Tensor, "..."]


class Quantiser(nn.Module, ABC):
    """Maps each vector to one of finitely many codes. Computed in float32.

    Attributes:
        dim: of vectors, d.
        num_codes: ids are those below it.
    """

    dim: int
    num_codes: int

    @abstractmethod
    def forward(self, x: Float[Tensor, "... d"]) -> Quantised: ...

    @abstractmethod
    def vectors_of(self, ids: Int[Tensor, "..."]) -> Float[Tensor, "... d"]:
        """The vectors of codes."""

    @property
    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """The arguments that it was made with, as JSON."""

    @property
    def follows(self) -> Mapping[str, int]:
        """Which sums over the vectors of a step change its codes, and how many numbers each is."""
        return {}

    def sums(self, x: Float[Tensor, "... d"], ids: Int[Tensor, "..."], real: Bool[Tensor, "..."]) -> dict[str, Tensor]:
        """Those that `follow` needs, of real vectors and their codes."""
        return {}

    def follow(self, sums: Mapping[str, Tensor], left_out: Float[Tensor, ""]) -> None:  # noqa: B027
        """Changes the codes after a step of training.

        Args:
            sums: over all micro-batches and ranks of the step, in float64.
            left_out: 1 where the step does not count.
        """


def straight_through(x: Float[Tensor, "... d"], codes: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
    """The value of the codes, with the gradient of `x`."""
    return x + (codes - x).detach()


def in_float32(x: Tensor) -> Tensor:
    """The same in at least float32."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
