"""The interface between the fields of a name and the grid of numbers that a codec encodes.

Axes of a grid: B samples, C channels, then one, two or three more, of which the first may be ragged.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from jaxtyping import Float, Int, Shaped
from torch import Tensor

from mmtx.batch import Spec


class Content(ABC):
    """What is coded.

    Attributes:
        field: that numbers are turned back into.
        sizes: C, and the axes of the longest sample.
        is_ragged: samples may be shorter than it along the first axis.
        centre: about which numbers lie, `spread` to either side.
        spread: see `centre`.
    """

    field: str
    sizes: tuple[int, ...]
    is_ragged: bool
    centre: float = 0.0
    spread: float = 1.0

    @abstractmethod
    def numbers(self, fields: Mapping[str, Tensor], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B C *axes"]:
        """The grids of a batch; behind the end of a sample they mean nothing."""

    @abstractmethod
    def num_numbers(self, lengths: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        """Along the first axis, of samples whose lengths a batch has; 0 where one is absent."""

    @abstractmethod
    def values(self, numbers: Float[Tensor, "B C *axes"]) -> Shaped[Tensor, "B ..."]:
        """The `field` that has such numbers, in the units and the type of the data."""

    @property
    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """The arguments that it was made with, as JSON."""

    @property
    @abstractmethod
    def described(self) -> str:
        """What it is, with its size, in words."""

    @abstractmethod
    def misfit(self, spec: Spec) -> str | None:
        """What data are, in words, where they are not what it was made for; None where they are."""
