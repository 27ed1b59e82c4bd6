"""A network from pictures, films or sounds to codes and back.

Axes: B samples, C channels, n codes, d numbers of a code's vector; of a grid of numbers, those of `Content`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from mmtx.codes.content import Content
from mmtx.codes.quantiser import Quantised, Quantiser
from mmtx.errors import InvalidValue, check_at_least

CONVOLUTIONS: dict[int, tuple[Any, Any]] = {
    1: (nn.Conv1d, nn.ConvTranspose1d),
    2: (nn.Conv2d, nn.ConvTranspose2d),
    3: (nn.Conv3d, nn.ConvTranspose3d),
}
"""By how many axes a grid has: into codes, and out of them."""


class Decoded(NamedTuple):
    """Samples that went through their codes.

    Attributes:
        numbers: that were decoded.
        errors: of each sample, the mean squared difference from those that went in.
        quantised: the codes, along all axes of the grid.
        encoded: the vectors that were quantised.
        real: which codes a sample has.
    """

    numbers: Float[Tensor, "B C *axes"]
    errors: Float[Tensor, " B"]
    quantised: Quantised
    encoded: Float[Tensor, "B n d"]
    real: Bool[Tensor, "B n"]


class Codec(nn.Module):
    """An encoder, a quantiser and a decoder: a grid of codes, one for each patch of numbers. The encoder sees a patch
    and a border of one number around it; the decoder the codes next to a patch, too, and what it makes of patches
    overlaps likewise. A last patch of a ragged axis may be real in part; nothing behind the end of a sample changes it.

    Args:
        content: what is coded.
        patch: numbers along each axis that a code stands for; they divide those axes that are not ragged.
        width: features of the hidden layers.
        quantiser: of as many features as it has.
    """

    draws_weights = True
    roles = {"encoder.*.weight": "input", "decoder.*.weight": "input"}
    """All of them: no size of it follows from the width of a model."""

    def __init__(self, *, content: Content, patch: Sequence[int], width: int, quantiser: Quantiser) -> None:
        super().__init__()
        channels, *sizes = content.sizes
        check_at_least("width", width, 1)
        for axis, (size, numbers) in enumerate(zip(sizes, patch, strict=True)):
            if numbers < 1 or (size % numbers and not (content.is_ragged and axis == 0)):
                raise InvalidValue("patch_size", numbers, f"does not divide {content.described}")
        self.content, self.patch, self.width, self.quantiser = content, tuple(patch), width, quantiser
        self.grid = tuple(-(-size // numbers) for size, numbers in zip(sizes, patch, strict=True))
        self.codes_of_a_row = math.prod(self.grid[1:])
        down, up = CONVOLUTIONS[len(sizes)]
        overlapping: Any = {"kernel_size": [p + 2 for p in patch], "stride": self.patch, "padding": 1}
        self.encoder = nn.Sequential(
            down(channels, width, **overlapping),
            nn.GELU(),
            down(width, width, 1),
            nn.GELU(),
            down(width, quantiser.dim, 1),
        )
        self.decoder = nn.Sequential(
            down(quantiser.dim, width, 3, padding=1),
            nn.GELU(),
            down(width, width, 1),
            nn.GELU(),
            up(width, channels, **overlapping),
        )

    @property
    def max_codes(self) -> int:
        """Of the longest sample."""
        return math.prod(self.grid)

    def num_codes(self, lengths: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        """Of samples whose lengths a batch has."""
        rows = (self.content.num_numbers(lengths) + self.patch[0] - 1) // self.patch[0]
        return rows * self.codes_of_a_row

    def whole(self, count: int) -> int:
        """How many of so many codes make whole rows; of a picture, all or none."""
        if not self.content.is_ragged:
            return count if count == self.max_codes else 0
        return count - count % self.codes_of_a_row

    def encode(self, fields: Mapping[str, Tensor], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B n d"]:
        """The vectors that are quantised."""
        return self._encoded(self.content.numbers(fields, lengths), lengths)

    def forward(self, fields: Mapping[str, Tensor], lengths: Int[Tensor, " B"]) -> Decoded:
        truth, counts = self.content.numbers(fields, lengths), self.num_codes(lengths)
        encoded = self._encoded(truth, lengths)
        quantised = self.quantiser(encoded)
        decoded = self._decoded(quantised.vectors, counts)
        size = truth.shape[2]
        squares = (decoded[:, :, :size] - truth.float()).square()
        real = torch.arange(encoded.shape[1], device=encoded.device) < counts[:, None]
        return Decoded(decoded, self._mean(squares, lengths), quantised, encoded, real)

    @torch.no_grad()
    def ids(self, fields: Mapping[str, Tensor], lengths: Int[Tensor, " B"]) -> Int[Tensor, "B n"]:
        """The codes of samples; behind those that each has they mean nothing."""
        return self.quantiser(self.encode(fields, lengths)).ids

    @torch.no_grad()
    def values(self, ids: Int[Tensor, "B n"], counts: Int[Tensor, " B"] | None = None) -> Shaped[Tensor, "B ..."]:
        """The field `content.field` that codes stand for; whole patches, and nothing behind the end of a sample.

        Args:
            ids: of whole rows of the grid.
            counts: codes of each sample; None: all.
        """
        counts = torch.full_like(ids[:, 0], ids.shape[1]) if counts is None else counts
        return self.content.values(self._decoded(self.quantiser.vectors_of(ids), counts))

    @property
    def settings(self) -> dict[str, Any]:
        """All that makes it again but its weights, as JSON."""
        content = {"kind": type(self.content).__name__, **self.content.settings}
        quantiser = {"kind": type(self.quantiser).__name__, **self.quantiser.settings}
        return {"content": content, "patch": [*self.patch], "width": self.width, "quantiser": quantiser}

    def _encoded(self, numbers: Float[Tensor, "B C *axes"], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B n d"]:
        inputs = (numbers.to(self._dtype) - self.content.centre) / self.content.spread
        if self.content.is_ragged:
            filled = -(-max(numbers.shape[2], 1) // self.patch[0]) * self.patch[0]
            inputs = F.pad(inputs, [0, 0] * (inputs.dim() - 3) + [0, filled - inputs.shape[2]])
            inputs = _within(inputs, self.content.num_numbers(lengths))
        return self.encoder(inputs).flatten(2).transpose(1, 2)

    def _decoded(self, vectors: Float[Tensor, "B n d"], counts: Int[Tensor, " B"]) -> Float[Tensor, "B C *axes"]:
        """Numbers, from the vectors of codes; pixels may lie a little beyond 0..1."""
        grid = vectors.transpose(1, 2).unflatten(2, (-1, *self.grid[1:])).to(self._dtype)
        first, *between, last = self.decoder
        rows = counts // self.codes_of_a_row
        hidden = first(self._cut(grid, rows))
        for layer in between:
            hidden = layer(hidden)
        return last(self._cut(hidden, rows)).float() * self.content.spread + self.content.centre

    def _cut(self, grid: Float[Tensor, "B C *axes"], rows: Int[Tensor, " B"]) -> Float[Tensor, "B C *axes"]:
        return _within(grid, rows) if self.content.is_ragged else grid

    def _mean(self, squares: Float[Tensor, "B C *axes"], lengths: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
        """Over the real numbers of each sample."""
        if not self.content.is_ragged:
            return squares.flatten(1).mean(1)
        rows = self.content.num_numbers(lengths)
        numbers_of_a_row = squares[0, :, 0].numel()
        return _within(squares, rows).flatten(1).sum(1) / (rows * numbers_of_a_row).clamp(min=1)

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.encoder.parameters()).dtype


def _within(grid: Float[Tensor, "B C *axes"], rows: Int[Tensor, " B"]) -> Float[Tensor, "B C *axes"]:
    """The same with zeros behind the end of each sample, along the first axis."""
    beyond = torch.arange(grid.shape[2], device=grid.device) >= rows[:, None]
    return grid.masked_fill(beyond.view(len(grid), 1, -1, *[1] * (grid.dim() - 3)), 0.0)
