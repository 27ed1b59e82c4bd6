"""From residues and pairs to frames in space, step by step."""

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mmtx.structure.frames import Frames
from mmtx.structure.invariant_point_attention import InvariantPointAttention

HEAD_DIM, NUM_QUERY_POINTS, NUM_VALUE_POINTS = 16, 4, 8
"""Of a head (Jumper et al. 2021, supplement, algorithm 22)."""


class StructureModule(nn.Module):
    """Frames begin at one place, unturned, and every layer moves them: invariant point attention, a feed-forward, and a
    step of each frame in its own axes (Jumper et al. 2021, supplement, algorithm 20, without side chains). All layers
    share their weights, and no gradient flows from one through the rotations of those before it.

    Args:
        dim: width D of a residue.
        pair_dim: width P of a pair.
        num_layers: how often frames are moved.
        num_heads: of attention.
    """

    def __init__(self, dim: int, pair_dim: int, *, num_layers: int, num_heads: int) -> None:
        super().__init__()
        self.num_layers = num_layers
        self.norm, self.pair_norm = nn.LayerNorm(dim), nn.LayerNorm(pair_dim)
        self.attention = InvariantPointAttention(
            dim,
            pair_dim,
            num_heads=num_heads,
            head_dim=HEAD_DIM,
            num_query_points=NUM_QUERY_POINTS,
            num_value_points=NUM_VALUE_POINTS,
        )
        self.attention_norm, self.mlp_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.mlp_in, self.mlp_out = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.step = nn.Linear(dim, 6)
        for linear in (self.mlp_out, self.step):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(
        self, x: Float[Tensor, "B n D"], pairs: Float[Tensor, "B n n P"], real: Bool[Tensor, "B n"]
    ) -> list[Frames]:
        """The frames of all residues after each layer, in the unit of length that the layers have.

        Args:
            x: residues.
            pairs: of residues.
            real: which there are.
        """
        x, pairs = self.norm(x), self.pair_norm(pairs)
        frames, found = Frames.identity(x), []
        for _ in range(self.num_layers):
            x = self.attention_norm(x + self.attention(x, pairs, frames.without_turning(), real))
            x = self.mlp_norm(x + self.mlp_out(F.relu(self.mlp_in(x))))
            frames = frames.without_turning().moved(self.step(x))
            found.append(frames)
        return found
