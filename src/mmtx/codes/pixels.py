"""Pictures and films as grids of numbers in 0..1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int, Num, Shaped
from torch import Tensor

from mmtx.batch import Spec
from mmtx.codes.content import Content


class Pictures(Content):
    """Pixels of pictures that are all of one size.

    Args:
        shape: of the field ``pixels``: channels, height, width.
        scale: pixels divided by it lie in 0..1.
    """

    field, is_ragged = "pixels", False
    centre = spread = 0.5

    def __init__(self, *, shape: Sequence[int], scale: float) -> None:
        self.shape, self.scale = tuple(shape), scale
        self.sizes = self.shape

    @classmethod
    def of(cls, spec: Spec) -> Pictures:
        """Those of data."""
        field = spec.fields[cls.field]
        shape = [field.max_length or 0 if size is None else size for size in field.shape]
        return cls(shape=shape, scale=255.0 if field.dtype == torch.uint8 else 1.0)

    def numbers(self, fields: Mapping[str, Tensor], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B C *axes"]:
        return fields[self.field].to(torch.get_default_dtype()) / self.scale

    def num_numbers(self, lengths: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        return lengths * self.sizes[1]

    def values(self, numbers: Float[Tensor, "B C *axes"]) -> Num[Tensor, "B ..."]:
        """As bytes where the scale is 255, else as numbers in 0..1."""
        pixels = numbers.clamp(0, 1) * self.scale
        return pixels.round().to(torch.uint8) if self.scale == 255 else pixels

    @property
    def settings(self) -> dict[str, Any]:
        return {"shape": [*self.shape], "scale": self.scale}

    @property
    def described(self) -> str:
        return f"pictures of {' x '.join(map(str, self.shape))} within 0..{self.scale:g}"

    def misfit(self, spec: Spec) -> str | None:
        own = self.of(spec)
        return None if own.settings == self.settings else own.described


class Films(Pictures):
    """Frames of films, of which samples may have fewer than the longest.

    Args:
        shape: of the field ``frames``: frames of the longest, channels, height, width.
        scale: pixels divided by it lie in 0..1.
    """

    field, is_ragged = "frames", True

    def __init__(self, *, shape: Sequence[int], scale: float) -> None:
        super().__init__(shape=shape, scale=scale)
        frames, channels, *size = self.shape
        self.sizes = (channels, frames, *size)

    def numbers(self, fields: Mapping[str, Tensor], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B C *axes"]:
        return super().numbers(fields, lengths).transpose(1, 2)

    def num_numbers(self, lengths: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        return lengths

    def values(self, numbers: Float[Tensor, "B C *axes"]) -> Shaped[Tensor, "B ..."]:
        return super().values(numbers.transpose(1, 2))

    @property
    def described(self) -> str:
        frames, *size = self.shape
        return f"films of up to {frames} frames of {' x '.join(map(str, size))} within 0..{self.scale:g}"

    def misfit(self, spec: Spec) -> str | None:
        own = self.of(spec)
        fits = (own.shape[1:], own.scale) == (self.shape[1:], self.scale) and own.shape[0] <= self.shape[0]
        return None if fits else own.described
