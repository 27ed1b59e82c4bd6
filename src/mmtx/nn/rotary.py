"""Rotary positions: queries and keys are turned by angles that grow with their position."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from mmtx.errors import InvalidValue
from mmtx.nn.rotary_scaling import RotaryScaling

AXES = ("time", "row", "column", "index")

RotaryTable = tuple[Float[Tensor, "#B 1 N half"], Float[Tensor, "#B 1 N half"]]
"""Cosines and sines of the angle of each pair of the part of a head's width that turns."""

KeyTable = tuple[Float[Tensor, "#B 1 M half"], Float[Tensor, "#B 1 M half"]]
"""The same of other tokens: the keys of a cache."""


class InterleavedTable(NamedTuple):
    """A `RotaryTable` of pairs that stand side by side."""

    cos: Float[Tensor, "#B 1 N half"]
    sin: Float[Tensor, "#B 1 N half"]


class Rotary:
    """Rotary embedding (Su et al. 2021, arXiv 2104.09864), over one axis or several.

    Args:
        axes: which of time, row, column and index; each rotates an equal share of the head's width.
        base: the longest wavelength is so many times the shortest.
        wavelengths: the shortest of each axis, in positions; None: 2π, as in the paper.
        scaling: changes the frequencies for texts longer than those of the training; None: they stay.
        fraction: share of a head's width, its first part, that turns; None: all of it.
        interleaved: pairs are (0, 1), (2, 3), ..., as in the paper and GPT-J; false: (0, half), (1, half + 1), ..., as
            in GPT-NeoX and Llama.
    """

    def __init__(
        self,
        *,
        axes: list[Literal["time", "row", "column", "index"]],
        base: float,
        scaling: RotaryScaling
        | None = None,  # this and the next three are absent in stored configs of earlier versions
        fraction: float | None = None,
        interleaved: bool = False,
        wavelengths: list[float] | None = None,
    ) -> None:
        unknown = [axis for axis in axes if axis not in AXES]
        if unknown or not axes:
            raise InvalidValue("axes", list(axes), f"must name some of {', '.join(AXES)}")
        if fraction is not None and not 0 < fraction <= 1:
            raise InvalidValue("fraction", fraction, "must be above 0 and at most 1")
        self.axes, self.base, self.scaling = list(axes), base, scaling
        if wavelengths is not None and (len(wavelengths) != len(axes) or min(wavelengths) <= 0):
            raise InvalidValue("wavelengths", list(wavelengths), f"must be above 0, one for each of {', '.join(axes)}")
        self.fraction, self.interleaved = fraction, interleaved
        self.turns = None if wavelengths is None else [2 * math.pi / wavelength for wavelength in wavelengths]

    def table(
        self, position: Int[Tensor, "#B N 3"], head_dim: int, index: Int[Tensor, "#B N"] | None = None
    ) -> RotaryTable:
        """Cosines and sines; the width that no axis uses is not rotated. An axis ``index`` needs `index`."""
        along: dict[str, Tensor | None] = dict(zip(AXES, (*position.unbind(-1), index), strict=True))
        half = self.turned_width(head_dim) // 2
        share = half // len(self.axes)
        angles = []
        for number, axis in enumerate(self.axes):
            values = along[axis]
            assert values is not None, "a stack that reads the index has it in its set (`Backbone.needs_index`)"
            frequencies = self._frequencies(share, values)
            if self.turns is not None:
                frequencies = frequencies * self.turns[number]
            angles.append(values[..., None].float() * frequencies)
        angle, rest = torch.cat(angles, dim=-1)[:, None], (0, half - share * len(self.axes))
        magnitude = 1.0 if self.scaling is None else self.scaling.magnitude
        cos, sin = F.pad(angle.cos() * magnitude, rest, value=1.0), F.pad(angle.sin() * magnitude, rest)
        return InterleavedTable(cos, sin) if self.interleaved else (cos, sin)

    def turned_width(self, head_dim: int) -> int:
        """How much of a head's width turns."""
        return head_dim if self.fraction is None else int(head_dim * self.fraction)

    def check_head_dims(self, dim: int, head_dims: Sequence[int | None]) -> None:
        """Raises InvalidValue where heads of a model of width `dim` cannot be turned in pairs."""
        least = 2 * len(self.axes) * (1 if self.scaling is None else self.scaling.least_pairs)
        for width in (width for width in head_dims if width is not None):
            turned = self.turned_width(width)
            if turned % 2 or turned < least:
                part = f", of which {turned} are turned" if turned < width else ""
                need = f"an even one of at least {least}"
                raise InvalidValue("dim", dim, f"gives heads of width {width}{part}; rotary positions need {need}")

    def _frequencies(self, share: int, values: Int[Tensor, "#B N"]) -> Float[Tensor, " share"]:
        if self.scaling is not None:
            return self.scaling.frequencies(self.base, share, values)
        return self.base ** (-torch.arange(share, device=values.device, dtype=torch.float32) / share)


def rotate(x: Float[Tensor, "B H N E"], table: RotaryTable) -> Float[Tensor, "B H N E"]:
    """Rotates each pair of features by its angle; what lies behind twice the table's width stays."""
    cos, sin = (t.to(x.dtype) for t in table)
    turned, *kept = x.split(2 * cos.shape[-1], dim=-1)
    is_interleaved = isinstance(table, InterleavedTable)
    first, second = turned.unflatten(-1, (-1, 2)).unbind(-1) if is_interleaved else turned.chunk(2, dim=-1)
    rotated = torch.addcmul(first * cos, second, sin, value=-1), torch.addcmul(second * cos, first, sin)
    parts = [torch.stack(rotated, dim=-1).flatten(-2)] if is_interleaved else [*rotated]
    return torch.cat([*parts, *kept], dim=-1)
