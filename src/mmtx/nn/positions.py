"""Position schemes: embeddings added to tokens, rotations of queries and keys, and biases of attention scores.

A token's position is (time, row, column). Added embeddings use a modality's own coordinates; rotations and biases use
the position in the set, and rotations also the index of a token, which counts tokens where time counts items.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmtx.errors import InvalidValue, check_at_least
from mmtx.nn.rotary import Rotary


@dataclass(frozen=True)
class Positions:
    """The position scheme of a backbone; each part may be absent.

    Args:
        absolute: ``absolute(extent, dim)`` makes the embedding added to tokens, one per modality.
        rotary: rotates queries and keys.
        bias: ``bias(num_heads)`` makes the bias added to attention scores, shared by all layers.
        random_range: in training, positions 0, 1, 2, ... are a random rising subset of those below it, drawn anew for
            each batch, so that those of longer texts are known (Ruoss et al. 2023, arXiv 2305.16843); in evaluation
            they stay. At least the number of tokens of the longest sample; None: they always stay.
    """

    absolute: Callable[[tuple[int, ...], int], nn.Module] | None
    rotary: Rotary | None
    bias: Callable[[int], nn.Module] | None
    random_range: int | None = None  # absent in stored configs of earlier versions

    def __post_init__(self) -> None:
        check_at_least("random_range", self.random_range, 1)


class Learned(nn.Module):
    """A learned vector per cell of a grid of the given extent (Vaswani et al. 2017; one table, as GPT and ViT do)."""

    roles = {"table.weight": "position"}

    def __init__(self, extent: tuple[int, ...], dim: int) -> None:
        super().__init__()
        self.extent = extent
        self.table = nn.Embedding(math.prod(extent), dim)

    def forward(self, coordinates: Int[Tensor, "n A"]) -> Float[Tensor, "n D"]:
        return self.table(cell_of(coordinates, self.extent))


def cell_of(coordinates: Int[Tensor, "n A"], extent: tuple[int, ...]) -> Int[Tensor, " n"]:
    """The number of each cell of a grid, counted row by row."""
    index = coordinates.new_zeros(coordinates.shape[0])
    for axis, size in enumerate(extent):
        index = index * size + coordinates[:, axis]
    return index


class Sinusoidal(nn.Module):
    """Fixed sines and cosines (Vaswani et al. 2017, section 3.5), an equal share of the width per axis.

    Halves ``[sin | cos]`` and wavelengths from ``2π`` to exactly ``2π · base``, as in tensor2tensor and Whisper.

    Args:
        extent: number of positions on each axis.
        dim: width D.
        base: the longest wavelength is ``2π · base`` positions.
    """

    def __init__(self, extent: tuple[int, ...], dim: int, *, base: float) -> None:
        super().__init__()
        share = 2 * len(extent)
        if dim % share:
            raise InvalidValue("dim", dim, f"is not a multiple of {share}, as {len(extent)} sinusoidal axes need")
        self.num_frequencies, self.base = dim // share, base

    def forward(self, coordinates: Int[Tensor, "n A"]) -> Float[Tensor, "n D"]:
        """Computed in float32 whatever the weights' type: half precision cannot count to a thousand."""
        index = torch.arange(self.num_frequencies, device=coordinates.device, dtype=torch.float32)
        frequency = (index * -(math.log(self.base) / max(self.num_frequencies - 1, 1))).exp()
        angle = coordinates[:, :, None].float() * frequency
        return torch.cat([angle.sin(), angle.cos()], dim=-1).flatten(1)


class ALiBi(nn.Module):
    """Linear biases (Press et al. 2021, arXiv 2108.12409): each head subtracts a slope times the distance.

    The distance is the largest among time, row and column, as it is for windows: a causal text moves in time and row
    at once, and that counts once.
    """

    slopes: Tensor

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.register_buffer("slopes", torch.tensor(alibi_slopes(num_heads)), persistent=False)

    def forward(self, query: Int[Tensor, "#B Q 3"], key: Int[Tensor, "#B M 3"]) -> Float[Tensor, "#B H Q M"]:
        distance = (query[:, :, None] - key[:, None]).abs().amax(-1)
        return -self.slopes[:, None, None] * distance[:, None]


def alibi_slopes(num_heads: int) -> list[float]:
    """``2^(-8h/H)`` for a power of two; else interleaved from the next power, as the paper's section 3 does."""
    power = 2 ** math.floor(math.log2(num_heads))
    slopes = [2 ** (-8 * (head + 1) / power) for head in range(power)]
    more = [2 ** (-4 * (head + 1) / power) for head in range(0, 2 * power, 2)]
    return slopes + more[: num_heads - power]


class T5Bias(nn.Module):
    """T5's relative bias (Raffel et al. 2020, section 2.1): a learned value per head and bucket of distance.

    The distance is in time; within one item, where time stands still, it is in rows (the index of a text that is one
    item, as in T5's encoder).

    Args:
        num_heads: H.
        num_buckets: half of them exact, the rest logarithmic up to `max_distance`.
        max_distance: the last bucket is for it and everything beyond.
        bidirectional: half of the buckets are for keys that come later.
    """

    roles = {"table.weight": "position"}

    def __init__(self, num_heads: int, *, num_buckets: int, max_distance: int, bidirectional: bool) -> None:
        super().__init__()
        exact = num_buckets // 4 if bidirectional else num_buckets // 2
        if exact < 1:
            raise InvalidValue("num_buckets", num_buckets, f"must be at least {4 if bidirectional else 2}")
        if max_distance <= exact:
            raise InvalidValue("max_distance", max_distance, f"must be more than the {exact} distances that are exact")
        self.num_buckets, self.max_distance, self.bidirectional = num_buckets, max_distance, bidirectional
        self.table = nn.Embedding(num_buckets, num_heads)

    def forward(self, query: Int[Tensor, "#B Q 3"], key: Int[Tensor, "#B M 3"]) -> Float[Tensor, "#B H Q M"]:
        time, row, _ = (key[:, None] - query[:, :, None]).unbind(-1)
        return self.table(self.bucket(torch.where(time == 0, row, time))).permute(0, 3, 1, 2)

    def bucket(self, distance: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
        """Bucket of ``key - query``."""
        num_buckets, offset = self.num_buckets, torch.zeros_like(distance)
        if self.bidirectional:
            num_buckets //= 2
            offset = (distance > 0) * num_buckets
            distance = distance.abs()
        else:
            distance = (-distance).clamp(min=0)
        exact = num_buckets // 2
        ratio = (distance.clamp(min=1).float() / exact).log() / math.log(self.max_distance / exact)
        far = (exact + (ratio * (num_buckets - exact)).long()).clamp(max=num_buckets - 1)
        return offset + torch.where(distance < exact, distance, far)
