"""Attention among residues, whose points in space count for its scores: however the whole is turned, all stays."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mmtx.structure.frames import Frames

EPS = 1e-8
"""Added to the square of a norm."""


class InvariantPointAttention(nn.Module):
    """Scores of queries and keys, of pairs, and of the distances between points that each residue places in its frame
    (Jumper et al. 2021, supplement, algorithm 22). A residue reads values, points as its own frame sees them, their
    norms, and pairs.

    The output map is zero at first, so that a structure begins by staying as it is.

    Args:
        dim: width D of a residue.
        pair_dim: width P of a pair.
        num_heads: heads H.
        head_dim: width E of a head.
        num_query_points: of a head, and as many of keys.
        num_value_points: of a head.
    """

    roles = {"point_weights": "gain"}

    def __init__(
        self, dim: int, pair_dim: int, *, num_heads: int, head_dim: int, num_query_points: int, num_value_points: int
    ) -> None:
        super().__init__()
        self.num_heads, self.head_dim = num_heads, head_dim
        self.num_query_points, self.num_value_points = num_query_points, num_value_points
        width = num_heads * head_dim
        self.query, self.key, self.value = (nn.Linear(dim, width) for _ in range(3))
        self.query_points, self.key_points, self.value_points = (
            nn.Linear(dim, num_heads * count * 3) for count in (num_query_points, num_query_points, num_value_points)
        )
        self.pair_bias = nn.Linear(pair_dim, num_heads)
        self.point_weights = nn.Parameter(torch.full((num_heads,), math.log(math.e - 1)))  # whose softplus is 1
        self.out = nn.Linear(num_heads * (head_dim + 4 * num_value_points + pair_dim), dim)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self, x: Float[Tensor, "B n D"], pairs: Float[Tensor, "B n n P"], frames: Frames, real: Bool[Tensor, "B n"]
    ) -> Float[Tensor, "B n D"]:
        """What is added to each residue.

        Args:
            x: residues.
            pairs: of residues.
            frames: of residues.
            real: which residues there are; nobody attends to the others.
        """
        weights = self._scores(x, pairs, frames).masked_fill(~real[:, None, None], -1e9).softmax(-1)
        values = torch.einsum("bhij,bjhe->bihe", weights, self._heads(self.value(x)))
        points = torch.einsum("bhij,bjhpc->bihpc", weights, self._placed(self.value_points(x), frames))
        points = frames.spread(2).to_local(points)
        norms = (points.square().sum(-1) + EPS).sqrt()
        of_pairs = torch.einsum("bhij,bijp->bihp", weights, pairs)
        axes = [axis.flatten(2) for axis in points.unbind(-1)]
        return self.out(torch.cat([values.flatten(2), *axes, norms.flatten(2), of_pairs.flatten(2)], dim=-1))

    def _scores(
        self, x: Float[Tensor, "B n D"], pairs: Float[Tensor, "B n n P"], frames: Frames
    ) -> Float[Tensor, "B H n n"]:
        """Three terms of about the same variance at first."""
        q, k = self._heads(self.query(x)), self._heads(self.key(x))
        scalar = torch.einsum("bihe,bjhe->bhij", q, k) / math.sqrt(self.head_dim)
        q_points, k_points = (self._placed(made(x), frames) for made in (self.query_points, self.key_points))
        squares = (q_points[:, :, None] - k_points[:, None]).square().sum((-1, -2)).movedim(-1, 1)
        spread = math.sqrt(2 / (9 * self.num_query_points))
        weight = F.softplus(self.point_weights)[:, None, None] * spread / 2
        return (scalar + self.pair_bias(pairs).movedim(-1, 1) - weight * squares) / math.sqrt(3)

    def _heads(self, x: Float[Tensor, "B n width"]) -> Float[Tensor, "B n H E"]:
        return x.unflatten(-1, (self.num_heads, self.head_dim))

    def _placed(self, numbers: Float[Tensor, "B n numbers"], frames: Frames) -> Float[Tensor, "B n H points 3"]:
        """The points of each residue, in the frame that all share; of the numbers, those of each axis come together."""
        return frames.spread(2).to_global(numbers.unflatten(-1, (3, self.num_heads, -1)).movedim(2, -1))
