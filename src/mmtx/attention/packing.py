"""The packing plan: which tokens of which samples stand side by side in one row.

Axes: N tokens of the packed row, n of a sample's padded row, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor


@dataclass(frozen=True)
class Packing:
    """The real tokens of all samples in one row, sample after sample.

    Two samples with two and three real tokens; a dot is padding::

        sample_0   a0  a1   .   .
        sample_1   b0  b1  b2   .

        row        a0  a1  b0  b1  b2
        segment     0   0   1   1   1
        index       0   1   4   5   6

    Attributes:
        lengths: real tokens of each sample.
        index: of each token of the row, its place in the flattened rows of the samples.
        real: which tokens of those rows are real.
    """

    lengths: tuple[int, ...]
    index: Int[Tensor, " N"]
    real: Bool[Tensor, "samples n"]

    @classmethod
    def of(cls, lengths: tuple[int, ...], real: Bool[Tensor, "samples n"]) -> Packing:
        """The plan of a batch, made without waiting for the device: `lengths` must be those of `real`."""
        num_tokens, flat = max(sum(lengths), 1), real.flatten()
        column = torch.where(flat, flat.cumsum(0) - 1, num_tokens)  # padding goes behind the last token, to be cut off
        places = torch.arange(len(flat), device=flat.device)
        return cls(lengths, places.new_zeros(num_tokens + 1).scatter_(0, column, places)[:num_tokens], real)

    @property
    def is_empty(self) -> bool:
        """No sample has a token. The row is then one token of padding, which keeps all parameters in the graph."""
        return not any(self.lengths)

    @property
    def segment(self) -> Int[Tensor, "1 N"]:
        """Which sample each token of the row belongs to; -1: none."""
        return (torch.full_like(self.index, -1) if self.is_empty else self.index // self.real.shape[1])[None]

    @property
    def segment_lengths(self) -> tuple[int, ...]:
        """Tokens of each sample, and last of the padding."""
        return (*self.lengths, int(self.is_empty))

    def groups(self) -> list[tuple[int, ...]]:
        """Segments that are equally long, shortest first; empty ones left out."""
        return [group for group in grouped(self.segment_lengths) if self.segment_lengths[group[0]]]

    def stacked(self, values: Shaped[Tensor, "1 N *A"]) -> list[Shaped[Tensor, "k n *A"]]:
        """The values of each group's segments, one row for each segment."""
        segments = values[0].split(self.segment_lengths)
        return [torch.stack([segments[i] for i in group]) for group in self.groups()]

    def spread(self, values: Float[Tensor, "samples 1 1"]) -> Float[Tensor, "1 N 1"]:
        """A value of each sample, at each of its tokens."""
        return values[self.index // self.real.shape[1]].view(1, -1, 1)

    def pack(self, values: Shaped[Tensor, "#samples n *A"]) -> Shaped[Tensor, "1 N *A"]:
        """Values of the samples' tokens, at the tokens of the row."""
        num_samples, length = self.real.shape
        index = self.index if values.shape[0] == num_samples else self.index % length
        return values.flatten(0, 1).index_select(0, index)[None]

    def unpack(self, hidden: Float[Tensor, "1 N D"]) -> Float[Tensor, "samples n D"]:
        """Undoes `pack`; zeros where there is no token."""
        rows = self.rows(hidden)
        return rows * 0.0 if self.is_empty else rows

    def rows(self, values: Shaped[Tensor, "1 N *A"]) -> Shaped[Tensor, "samples n *A"]:
        """The same of values without gradients, such as integers."""
        flat = values.new_zeros(self.real.numel(), *values.shape[2:])
        return flat.index_copy(0, self.index, values[0]).unflatten(0, self.real.shape)


def grouped(keys: tuple[int | tuple[int, int], ...]) -> list[tuple[int, ...]]:
    """Indices of equal keys, in the order of the keys."""
    groups: dict[int | tuple[int, int], list[int]] = {}
    for index, key in enumerate(keys):
        groups.setdefault(key, []).append(index)
    return [tuple(groups[key]) for key in sorted(groups)]
