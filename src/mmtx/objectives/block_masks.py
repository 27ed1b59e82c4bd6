"""Blocks of the tokens of a name: rectangles of a picture's patches, stretches of a series."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmtx.batch import Batch
from mmtx.errors import InvalidValue
from mmtx.modalities.base import Tokenizer


@dataclass(frozen=True)
class Grid:
    """Where the content tokens of a name stand: along its steps, if it has several, and the axes of its tokenizer; the
    first axis may be shorter in some samples.

    A block spans the last two axes that have more than one place, and all of those before them: a film's are tubes.

    Attributes:
        places: of each token, along a block's axes.
        inner: places of all axes but the first.
        axes: those of a block, counted from the first of all.
    """

    places: Int[Tensor, "n A"]
    inner: tuple[int, ...]
    axes: tuple[int, ...]

    @staticmethod
    def of(tokenizer: Tokenizer, num_tokens: int, device: torch.device) -> "Grid":
        """Args:
        tokenizer: of the name.
        num_tokens: of its longest sample, without prefix tokens.
        device: of the places.
        """
        first, *inner = whole_shape(tokenizer)
        shape = (max(1, -(-num_tokens // math.prod(inner))), *inner)
        places = torch.stack(torch.unravel_index(torch.arange(num_tokens, device=device), shape), dim=1)
        wide = [axis for axis, size in enumerate((first, *inner)) if size > 1] or [0]
        return Grid(places[:, wide[-2:]], tuple(inner), tuple(wide[-2:]))

    def sizes(self, lengths: Int[Tensor, " B"]) -> Int[Tensor, "B A"]:
        """How many places samples of so many tokens have along a block's axes."""
        per_place = math.prod(self.inner)
        first = (lengths + per_place - 1) // per_place
        sizes = [torch.full_like(first, self.inner[axis - 1]) if axis else first for axis in self.axes]
        return torch.stack(sizes, dim=1)


@dataclass(frozen=True)
class DrawnBlocks:
    """Blocks that are drawn at random (Assran et al. 2023, arXiv 2301.08243, section 3).

    Attributes:
        share: of a sample's tokens, from the least to the most.
        aspect: height over width of a block of two axes, each as a share of its axis, from the least to the most.
    """

    share: tuple[float, float]
    aspect: tuple[float, float] = (1.0, 1.0)

    def drawn(
        self, grid: Grid, sizes: Int[Tensor, "B A"], count: int, generator: torch.Generator
    ) -> Bool[Tensor, "B count n"]:
        """So many blocks of each sample, each somewhere in it; of one token at least."""
        num_axes = grid.places.shape[1]
        drawn = torch.rand(len(sizes), count, 2 + num_axes, generator=generator, device=sizes.device)
        share, aspect = _between(self.share, drawn[..., 0]), _between(self.aspect, drawn[..., 1])
        sides = share[..., None] if num_axes == 1 else torch.stack([share * aspect, share / aspect], dim=-1).sqrt()
        whole = sizes[:, None].float()
        size = (sides * whole).round().clamp(min=1).minimum(whole)
        start = (drawn[..., 2:] * (whole - size + 1)).floor()
        inside = (grid.places >= start[:, :, None]) & (grid.places < (start + size)[:, :, None])
        return inside.all(-1)


def whole_shape(tokenizer: Tokenizer) -> tuple[int, ...]:
    """Places along each axis of the content of the longest sample, the steps first where there are several."""
    inner = tuple(tokenizer.extent)
    content = tokenizer.max_tokens - tokenizer.num_summaries - tokenizer.num_registers
    return inner if inner and content <= math.prod(inner) else (-(-content // math.prod(inner)), *inner)


def num_content(tokenizer: Tokenizer, batch: Batch, name: str) -> int:
    """Content tokens of the rows of a name in a batch, padding included."""
    ragged = (key for key, field in tokenizer.spec.fields.items() if field.ragged and key in batch[name])
    length = next((batch[name][key].shape[1] for key in ragged), 1)
    count = int(tokenizer.num_tokens(torch.tensor([length])))
    return max(0, count - tokenizer.num_summaries - tokenizer.num_registers)


def check_range(key: str, given: Sequence[float], most: float = math.inf) -> tuple[float, float]:
    """Two numbers above 0, of which the second is no smaller. Raises InvalidValue for others."""
    if len(given) != 2 or not 0 < given[0] <= given[1] <= most:
        limit = f" and at most {most:g}" if math.isfinite(most) else ""
        raise InvalidValue(key, [*given], f"must be two numbers above 0{limit}, the second no smaller")
    return given[0], given[1]


def _between(bounds: tuple[float, float], share: Float[Tensor, "B count"]) -> Float[Tensor, "B count"]:
    return bounds[0] + (bounds[1] - bounds[0]) * share
